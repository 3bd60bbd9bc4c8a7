//! The hypervisor's window in every root.

use super::*;
use crate::testing::{KERNEL, RAM_BASE, SUPERVISOR};

#[test]
fn every_root_carries_the_window() {
    for mode in HOSTS {
        let mut rig = Rig::new(mode);
        let satp = rig.guest.space(Mode::Sv39, 1);
        for key in [ContextKey::new(Satp::BARE, SUPERVISOR), ContextKey::new(satp, SUPERVISOR)] {
            let root = rig.activate(key).table;
            let root = rig.shadow.pool.at(root).unwrap();
            let Window { first_slot, entries } = &rig.shadow.host.window;
            let carried: Vec<_> =
                (0..entries.len()).map(|nth| rig.shadow.pool.entry(root, first_slot + nth)).collect();
            assert_eq!(carried, entries.as_slice());
        }
    }
}

#[test]
fn a_window_covers_its_own_slots_only() {
    let window = host(Mode::Sv48).window;
    let covered: Vec<_> = (0..512).filter(|slot| window.covers(*slot)).collect();
    assert_eq!(covered, [100, 101]);
    assert!(!Window::default().covers(0));
}

#[test]
fn a_guest_page_in_the_window_of_an_sv39_host_is_a_collision() {
    let mut rig = Rig::new(Mode::Sv39);
    let satp = rig.guest.space(Mode::Sv39, 1);
    let key = ContextKey::new(satp, SUPERVISOR);
    let (below, first, last, above) = (255 << 30, 255 << 30, 1u64 << 38, (1u64 << 38) + (1 << 30));
    let extend = |address: u64| ((address << 25) as i64 >> 25) as u64;
    for (address, verdict) in [
        (below - 0x1000, Verdict::Filled),
        (first, Verdict::Collision),
        (extend(last), Verdict::Collision),
        (extend(above), Verdict::Filled),
    ] {
        rig.guest.map(satp, address, 0, Pte::new(RAM_BASE, KERNEL));
        assert_eq!(rig.resolve(key, address, Access::Load), verdict, "{address:#x}");
    }
}

#[test]
fn what_the_guest_has_not_mapped_is_no_collision() {
    let mut rig = Rig::new(Mode::Sv39);
    let satp = rig.guest.space(Mode::Sv39, 1);
    let key = ContextKey::new(satp, SUPERVISOR);
    assert_eq!(rig.resolve(key, 255 << 30, Access::Load), Verdict::Fault(Exception::LoadPageFault));
    rig.guest.map(satp, 255 << 30, 0, Pte::new(0x1000_0000, KERNEL));
    assert_eq!(rig.resolve(key, 255 << 30, Access::Load), Verdict::NotRam(GuestPhysAddr(0x1000_0000)));
}

#[test]
fn no_address_of_a_narrower_guest_mode_is_in_the_window() {
    for mode in [Mode::Sv48, Mode::Sv57] {
        let mut rig = Rig::new(mode);
        let guest_mode = rig.shadow.host().widest_guest_mode();
        let satp = rig.guest.space(guest_mode, 1);
        let key = ContextKey::new(satp, SUPERVISOR);
        let half = 1u64 << (guest_mode.address_bits() - 1);
        for address in [0, half - 0x1000, half.wrapping_neg(), 0x1000u64.wrapping_neg()] {
            rig.guest.map(satp, address, 0, Pte::new(RAM_BASE, KERNEL));
            rig.fill(key, address, Access::Load);
        }
    }
}

#[test]
fn fences_leave_the_window_alone() {
    let mut rig = Rig::new(Mode::Sv39);
    let satp = rig.guest.space(Mode::Sv39, 1);
    let key = ContextKey::new(satp, SUPERVISOR);
    rig.activate(key);
    for slot in [255u64, 256] {
        let address = ((slot << 30 << 25) as i64 >> 25) as u64;
        rig.fence(Some(address), None);
    }
    assert_eq!(crate::check::check(&rig.shadow, &rig.guest.ram), Ok(0));
}
