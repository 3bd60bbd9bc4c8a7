//! What a fault fills in, and what it says instead.

use super::*;
use crate::testing::{HOST_BASE, KERNEL, RAM_BASE, RAM_SIZE, SUPERVISOR, SUPERVISOR_SUM, USER, USER_MODE};

const VA: u64 = 0x12_3456_7000;
const ALL: [Access; 3] = [Access::Fetch, Access::Load, Access::Store];

/// What the hardware may do with a leaf of these guest flags after a load, or a fetch where that is all it allows.
fn permitted(flags: u64, rights: Rights) -> Vec<Access> {
    let mut rig = Rig::new(Mode::Sv48);
    let satp = rig.guest.space(Mode::Sv39, 1);
    rig.guest.map(satp, VA, 0, Pte::new(RAM_BASE, flags));
    let key = ContextKey::new(satp, rights);
    if rig.resolve(key, VA, Access::Load) != Verdict::Filled {
        assert_eq!(rig.resolve(key, VA, Access::Fetch), Verdict::Filled);
    }
    let leaf = rig.seen(key, VA).unwrap();
    ALL.into_iter().filter(|access| leaf.permits(*access)).collect()
}

#[test]
fn a_filled_page_leads_to_the_guests_memory_on_every_host() {
    for mode in HOSTS {
        let mut rig = Rig::new(mode);
        let guest_mode = rig.shadow.host().widest_guest_mode();
        let satp = rig.guest.space(guest_mode, 1);
        let high = VA.wrapping_sub(1 << 38);
        for (address, page) in [(VA, RAM_BASE + 0x5000), (high, RAM_BASE + 0x6000)] {
            rig.guest.map(satp, address, 0, Pte::new(page, KERNEL));
            let key = ContextKey::new(satp, SUPERVISOR);
            let leaf = rig.fill(key, address + 0x123, Access::Load);
            assert_eq!(leaf.host_of(address + 0x123).0, HOST_BASE + page - RAM_BASE + 0x123);
            assert_eq!((leaf.start, leaf.size), (address, 0x1000));
        }
    }
}

#[test]
fn guests_get_a_mode_narrower_than_the_hosts_unless_that_is_sv39() {
    let offered = HOSTS.map(|mode| host(mode).widest_guest_mode());
    assert_eq!(offered, [Mode::Sv39, Mode::Sv39, Mode::Sv48]);
}

#[test]
fn nothing_but_the_faulting_page_is_filled() {
    let mut rig = Rig::new(Mode::Sv48);
    let satp = rig.guest.space(Mode::Sv39, 1);
    for page in 0..3 {
        rig.guest.map(satp, VA + page * 0x1000, 0, Pte::new(RAM_BASE + page * 0x1000, KERNEL & !Pte::A));
    }
    let key = ContextKey::new(satp, SUPERVISOR);
    rig.fill(key, VA + 0x1000, Access::Load);
    assert_eq!(rig.seen(key, VA), None);
    assert_eq!(rig.seen(key, VA + 0x2000), None);
    let (table, slot) = rig.guest.place(satp, VA, 0);
    assert!(!rig.guest.get(table, slot).has(Pte::A));
}

#[test]
fn a_fill_allows_what_the_guest_allows_to_this_view() {
    use Access::{Fetch, Load, Store};
    assert_eq!(permitted(KERNEL, SUPERVISOR), ALL);
    assert_eq!(permitted(USER, USER_MODE), ALL);
    assert_eq!(permitted(USER, SUPERVISOR_SUM), [Load, Store]);
    assert_eq!(permitted(KERNEL & !Pte::X, SUPERVISOR), [Load, Store]);
    assert_eq!(permitted(KERNEL & !Pte::W, SUPERVISOR), [Fetch, Load]);
    let execute_only = KERNEL & !(Pte::R | Pte::W);
    assert_eq!(permitted(execute_only, SUPERVISOR), [Fetch]);
    assert_eq!(permitted(execute_only, Rights { mxr: true, ..SUPERVISOR }), [Fetch, Load]);
}

#[test]
fn shadow_leaves_are_user_pages_preset_accessed_and_dirty_and_never_global() {
    let mut rig = Rig::new(Mode::Sv48);
    let satp = rig.guest.space(Mode::Sv39, 1);
    rig.guest.map(satp, VA, 0, Pte::new(RAM_BASE, KERNEL & !Pte::W & !Pte::D | Pte::G));
    let leaf = rig.fill(ContextKey::new(satp, SUPERVISOR), VA, Access::Load);
    assert_eq!(leaf.flags, Pte::V | Pte::R | Pte::X | Pte::U | Pte::A | Pte::D);
}

#[test]
fn a_clean_page_is_filled_read_only_and_upgraded_by_the_first_store() {
    let mut rig = Rig::new(Mode::Sv48);
    let satp = rig.guest.space(Mode::Sv39, 1);
    let key = ContextKey::new(satp, SUPERVISOR);
    rig.guest.map(satp, VA, 0, Pte::new(RAM_BASE, KERNEL & !Pte::D));
    let (table, slot) = rig.guest.place(satp, VA, 0);

    let leaf = rig.fill(key, VA, Access::Load);
    assert!(!leaf.permits(Access::Store));
    assert!(!rig.guest.get(table, slot).has(Pte::D));

    let leaf = rig.fill(key, VA, Access::Store);
    assert!(leaf.permits(Access::Load) && leaf.permits(Access::Store));
    assert!(rig.guest.get(table, slot).has(Pte::D));
}

#[test]
fn a_spurious_fault_asks_for_a_flush_of_its_address() {
    let mut rig = Rig::new(Mode::Sv48);
    let satp = rig.guest.space(Mode::Sv39, 1);
    let key = ContextKey::new(satp, SUPERVISOR);
    rig.guest.map(satp, VA, 0, Pte::new(RAM_BASE, KERNEL));
    rig.fill(key, VA, Access::Load);
    assert_eq!(rig.shadow.take_flush(), TlbFlush::Nothing);
    rig.fill(key, VA + 8, Access::Store);
    assert_eq!(rig.shadow.take_flush(), TlbFlush::Address(GuestVirtAddr(VA + 8)));
    assert_eq!(rig.shadow.take_flush(), TlbFlush::Nothing);
}

#[test]
fn a_leaf_that_is_replaced_by_one_that_allows_less_is_flushed() {
    let mut rig = Rig::new(Mode::Sv48);
    let satp = rig.guest.space(Mode::Sv39, 1);
    let key = ContextKey::new(satp, SUPERVISOR);
    for (page, flags) in [(RAM_BASE, KERNEL & !Pte::W), (RAM_BASE + 0x1000, KERNEL)] {
        rig.guest.map(satp, VA, 0, Pte::new(RAM_BASE, KERNEL));
        rig.fence(None, None);
        rig.fill(key, VA, Access::Store);
        rig.shadow.take_flush();
        // The guest may fence this later; what the TLB has is gone with the shadow's.
        rig.guest.map(satp, VA, 0, Pte::new(page, flags));
        rig.fill(key, VA, Access::Load);
        assert_eq!(rig.shadow.take_flush(), TlbFlush::Address(GuestVirtAddr(VA)));
    }
}

#[test]
fn two_addresses_to_flush_are_a_flush_of_everything() {
    let one = TlbFlush::Address(GuestVirtAddr(0x1000));
    let two = TlbFlush::Address(GuestVirtAddr(0x2000));
    assert_eq!(TlbFlush::Nothing.and(one), one);
    assert_eq!(one.and(TlbFlush::Nothing), one);
    assert_eq!(one.and(one), one);
    assert_eq!(one.and(two), TlbFlush::All);
    assert_eq!(TlbFlush::All.and(one), TlbFlush::All);
}

#[test]
fn guest_superpages_become_host_blocks() {
    for (mode, guest_mode, level) in
        [(Mode::Sv39, Mode::Sv39, 1), (Mode::Sv48, Mode::Sv39, 2), (Mode::Sv57, Mode::Sv48, 2)]
    {
        let mut rig = Rig::new(mode);
        let satp = rig.guest.space(guest_mode, 1);
        let key = ContextKey::new(satp, SUPERVISOR);
        let address = 0x10_0000_0000;
        rig.guest.map(satp, address, level, Pte::new(RAM_BASE, KERNEL));
        let leaf = rig.fill(key, address + 0x12_3456, Access::Load);
        assert_eq!(leaf, Leaf { start: address, size: BLOCK_SIZE, host: HostPhysAddr(HOST_BASE), ..leaf });
        // Pieces of a larger one come block by block.
        assert_eq!(rig.seen(key, address + BLOCK_SIZE), None);
        if level == 2 {
            let leaf = rig.fill(key, address + BLOCK_SIZE, Access::Load);
            assert_eq!(leaf.host.0, HOST_BASE + BLOCK_SIZE);
        }
    }
}

#[test]
fn a_guest_superpage_is_split_where_the_shadow_has_small_pages() {
    let mut rig = Rig::new(Mode::Sv48);
    let satp = rig.guest.space(Mode::Sv39, 1);
    let key = ContextKey::new(satp, SUPERVISOR);
    let block = VA & !(BLOCK_SIZE - 1);
    rig.guest.map(satp, VA, 0, Pte::new(RAM_BASE, KERNEL));
    rig.fill(key, VA, Access::Load);
    rig.guest.map(satp, VA, 1, Pte::new(RAM_BASE + BLOCK_SIZE, KERNEL));
    let leaf = rig.fill(key, block + 0x3000, Access::Load);
    assert_eq!((leaf.size, leaf.host.0), (0x1000, HOST_BASE + BLOCK_SIZE + 0x3000));
}

#[test]
fn small_pages_replace_a_block_and_everything_is_flushed() {
    let mut rig = Rig::new(Mode::Sv48);
    let satp = rig.guest.space(Mode::Sv39, 1);
    let key = ContextKey::new(satp, SUPERVISOR);
    rig.guest.map(satp, VA, 1, Pte::new(RAM_BASE, KERNEL));
    rig.fill(key, VA, Access::Load);
    rig.shadow.take_flush();
    rig.guest.map(satp, VA, 0, Pte::new(RAM_BASE + 0x7000, KERNEL));
    let leaf = rig.fill(key, VA, Access::Load);
    assert_eq!((leaf.size, leaf.host.0), (0x1000, HOST_BASE + 0x7000));
    assert_eq!(rig.seen(key, VA + 0x1000), None);
    assert_eq!(rig.shadow.take_flush(), TlbFlush::All);
}

#[test]
fn a_superpage_that_reaches_beyond_ram_ends_where_ram_ends() {
    let mut rig = Rig::new(Mode::Sv48);
    let satp = rig.guest.space(Mode::Sv39, 1);
    let key = ContextKey::new(satp, SUPERVISOR);
    let address = 0x10_0000_0000;
    rig.guest.map(satp, address, 2, Pte::new(RAM_BASE, KERNEL));
    let leaf = rig.fill(key, address + RAM_SIZE - 1, Access::Load);
    assert_eq!(Some(leaf.host_of(address + RAM_SIZE - 1)), rig.guest.host_of(RAM_BASE + RAM_SIZE - 1));
    let verdict = rig.resolve(key, address + RAM_SIZE, Access::Load);
    assert_eq!(verdict, Verdict::NotRam(GuestPhysAddr(RAM_BASE + RAM_SIZE)));
    assert_eq!(rig.seen(key, address + RAM_SIZE), None);
}

#[test]
fn a_device_is_named_and_not_filled() {
    let mut rig = Rig::new(Mode::Sv48);
    let satp = rig.guest.space(Mode::Sv39, 1);
    let key = ContextKey::new(satp, SUPERVISOR);
    rig.guest.map(satp, VA, 0, Pte::new(0x1000_0000, KERNEL));
    assert_eq!(rig.resolve(key, VA + 5, Access::Store), Verdict::NotRam(GuestPhysAddr(0x1000_0005)));
    assert_eq!(rig.seen(key, VA), None);
}

#[test]
fn the_guests_own_fault_is_reported_and_fills_nothing() {
    let mut rig = Rig::new(Mode::Sv48);
    let satp = rig.guest.space(Mode::Sv39, 1);
    let key = ContextKey::new(satp, USER_MODE);
    rig.guest.map(satp, VA, 0, Pte::new(RAM_BASE, KERNEL));
    for access in ALL {
        assert_eq!(rig.resolve(key, VA, access), Verdict::Fault(access.page_fault()));
    }
    let nowhere = ContextKey::new(Satp { ppn: 0, ..satp }, USER_MODE);
    for access in ALL {
        assert_eq!(rig.resolve(nowhere, VA, access), Verdict::Fault(access.access_fault()));
    }
    assert_eq!(rig.seen(key, VA), None);
    assert_eq!(rig.shadow.fills, 0);
}

#[test]
fn an_address_not_canonical_for_the_guest_is_its_fault_though_the_host_is_wider() {
    let mut rig = Rig::new(Mode::Sv57);
    let satp = rig.guest.space(Mode::Sv39, 1);
    rig.guest.map(satp, 0, 2, Pte::new(RAM_BASE, KERNEL));
    let verdict = rig.resolve(ContextKey::new(satp, SUPERVISOR), 1 << 39, Access::Load);
    assert_eq!(verdict, Verdict::Fault(Exception::LoadPageFault));
}

#[test]
fn without_translation_all_of_ram_can_be_filled_and_nothing_else() {
    for mode in HOSTS {
        let mut rig = Rig::new(mode);
        let key = ContextKey::new(Satp::BARE, USER_MODE);
        for address in [RAM_BASE, RAM_BASE + RAM_SIZE - 1] {
            let leaf = rig.fill(key, address, Access::Fetch);
            assert_eq!(Some(leaf.host_of(address)), rig.guest.host_of(address));
            assert!(ALL.iter().all(|access| leaf.permits(*access)));
            assert_eq!(leaf.size, BLOCK_SIZE);
        }
        for address in [0, RAM_BASE - 1, RAM_BASE + RAM_SIZE, RAM_BASE | 1 << 63, u64::MAX] {
            let verdict = rig.resolve(key, address, Access::Load);
            assert_eq!(verdict, Verdict::NotRam(GuestPhysAddr(address)));
        }
    }
}

/// A guest with eight neighbours, the third of them given, and which of the eight are there after it was loaded.
fn neighbours(flags: [u64; 8], rights: Rights, base: u64) -> Vec<bool> {
    let mut rig = Rig::new(Mode::Sv48);
    let satp = rig.guest.space(Mode::Sv39, 1);
    let key = ContextKey::new(satp, rights);
    for (page, flags) in (0..).zip(flags) {
        rig.guest.map(satp, base + page * 0x1000, 0, Pte::new(RAM_BASE + page * 0x3000, flags));
    }
    rig.guest.ram.host_address(GuestPhysAddr(RAM_BASE));
    let (table, _) = rig.guest.place(satp, base, 0);
    let before: Vec<_> = (0..512).map(|slot| rig.guest.get(table, slot)).collect();
    rig.fill(key, base + 0x2000, Access::Load);
    let after: Vec<_> = (0..512).map(|slot| rig.guest.get(table, slot)).collect();
    assert_eq!(before, after, "the guest is told of what it has not done");
    let seen = (0..8).map(|page| {
        let leaf = rig.seen(key, base + page * 0x1000)?;
        assert_eq!(Some(leaf.host), rig.guest.host_of(RAM_BASE + page * 0x3000));
        assert!(!leaf.permits(Access::Store) || flags[page as usize] & Pte::D != 0);
        Some(leaf)
    });
    seen.map(|leaf| leaf.is_some()).collect()
}

const BASE: u64 = VA & !0x7fff;
const UPPER_BASE: u64 = BASE | 0xffff_ff80_0000_0000 | 1 << 38;

#[test]
fn ready_neighbours_are_filled_and_those_that_are_not_ready_are_left() {
    let wrong = [
        KERNEL,
        KERNEL & !Pte::A,
        KERNEL,
        KERNEL & !Pte::D,
        KERNEL & !Pte::R,
        KERNEL & !Pte::V,
        KERNEL | 1 << 63,
        KERNEL & !(Pte::R | Pte::W),
    ];
    let expected = [true, false, true, true, false, false, false, true];
    assert_eq!(neighbours(wrong, SUPERVISOR, BASE), expected);
    assert_eq!(neighbours(wrong.map(|flags| flags | Pte::U), USER_MODE, BASE), expected);
}

#[test]
fn neighbours_that_the_view_does_not_reach_are_left() {
    let mixed = [USER, KERNEL, KERNEL, USER, USER & !(Pte::R | Pte::W), Pte::V, KERNEL, KERNEL];
    assert_eq!(neighbours(mixed, SUPERVISOR, BASE), [false, true, true, false, false, false, true, true]);
    // With SUM a page that can only be executed is still not the supervisor's.
    assert_eq!(neighbours(mixed, SUPERVISOR_SUM, BASE), [true, true, true, true, false, false, true, true]);
}

#[test]
fn neighbours_in_the_upper_half_are_filled_where_all_may_see_them() {
    let all = KERNEL | Pte::G;
    let mixed = [all, KERNEL, all, USER | Pte::G, USER, all, all & !Pte::A, all];
    let expected = [true, false, true, false, false, true, false, true];
    assert_eq!(neighbours(mixed, SUPERVISOR_SUM, UPPER_BASE), expected);
    // What is not shared has no such neighbours.
    let own = [all, KERNEL, KERNEL, USER | Pte::G, USER, all, all & !Pte::A, all];
    assert_eq!(
        neighbours(own, SUPERVISOR_SUM, UPPER_BASE),
        [true, true, true, true, true, true, false, true]
    );
}

#[test]
fn neighbours_outside_ram_or_in_a_block_that_nobody_has_looked_at_are_left() {
    let mut rig = Rig::new(Mode::Sv48);
    let satp = rig.guest.space(Mode::Sv39, 1);
    let key = ContextKey::new(satp, SUPERVISOR);
    for (page, to) in (0..).zip([RAM_BASE, RAM_BASE + BLOCK_SIZE, 0x1000_0000, RAM_BASE + RAM_SIZE, 0]) {
        rig.guest.map(satp, BASE + page * 0x1000, 0, Pte::new(to, KERNEL));
    }
    rig.fill(key, BASE, Access::Load);
    assert!((1..5).all(|page| rig.seen(key, BASE + page * 0x1000).is_none()));
    assert_eq!(rig.guest.ram.present_address(GuestPhysAddr(RAM_BASE + BLOCK_SIZE)), None);
}

#[test]
fn neighbours_that_are_there_stay_as_they_are() {
    let mut rig = Rig::new(Mode::Sv48);
    let satp = rig.guest.space(Mode::Sv39, 1);
    let key = ContextKey::new(satp, SUPERVISOR);
    rig.guest.map(satp, BASE, 0, Pte::new(RAM_BASE, KERNEL));
    let old = rig.fill(key, BASE, Access::Store);
    rig.guest.map(satp, BASE, 0, Pte::new(RAM_BASE + 0x5000, KERNEL));
    rig.guest.map(satp, BASE + 0x1000, 0, Pte::new(RAM_BASE, KERNEL));
    rig.shadow.take_flush();
    rig.fill(key, BASE + 0x1000, Access::Load);
    assert_eq!(rig.seen(key, BASE), Some(old));
    assert_eq!(rig.shadow.take_flush(), TlbFlush::Nothing);
}

#[test]
fn a_table_that_was_taken_away_is_not_read_again() {
    let mut rig = Rig::new(Mode::Sv48);
    let satp = rig.guest.space(Mode::Sv39, 1);
    let key = ContextKey::new(satp, SUPERVISOR);
    for level in [1, 2] {
        rig.guest.map(satp, BASE, 0, Pte::new(RAM_BASE, KERNEL));
        rig.fill(key, BASE, Access::Load);
        let (above, slot) = rig.guest.place(satp, BASE, level);
        let pointer = rig.guest.get(above, slot);
        rig.guest.set(above, slot, Pte(0));
        // No fence: an entry that was valid may still be cached, and yet QEMU caches no pointers.
        let next = BASE + 0x1000;
        assert_eq!(rig.resolve(key, next, Access::Load), Verdict::Fault(Exception::LoadPageFault));
        rig.guest.set(above, slot, Pte::new(0, Pte::V));
        assert_eq!(rig.resolve(key, next, Access::Load), Verdict::Fault(Exception::LoadAccessFault));
        rig.guest.set(above, slot, pointer);
    }
}
