//! Contexts: kept across satp writes, evicted when room is needed, never in the way of progress.

use core::cell::RefCell;

use proptest::prelude::*;

use super::tlb::{Tlb, Under};
use super::*;
use crate::testing::{KERNEL, RAM_BASE, SUPERVISOR, USER, USER_MODE, for_all};

const VA: u64 = 0x12_3456_7000;

/// The key of address space `asid`, over a root that is not there.
fn empty_space(asid: u16) -> ContextKey {
    ContextKey::new(Satp { mode: Mode::Sv39, asid, ppn: RAM_BASE >> 12 }, USER_MODE)
}

#[test]
fn a_context_keeps_its_root_number_and_pages_while_others_run() {
    let mut rig = Rig::new(Mode::Sv48);
    let satp = rig.guest.space(Mode::Sv39, 1);
    let key = ContextKey::new(satp, SUPERVISOR);
    rig.guest.map(satp, VA, 0, Pte::new(RAM_BASE, KERNEL));
    rig.fill(key, VA, Access::Load);
    let root = rig.activate(key);
    rig.shadow.take_flush();
    for asid in 10..20 {
        rig.activate(empty_space(asid));
    }
    assert_eq!(rig.activate(key), root);
    assert_eq!(rig.shadow.take_flush(), TlbFlush::Nothing);
    assert!(rig.seen(key, VA).is_some());
}

#[test]
fn contexts_that_live_together_differ_in_number_and_root() {
    let mut rig = Rig::new(Mode::Sv48);
    let roots: Vec<_> = (0..CONTEXTS as u16).map(|asid| rig.activate(empty_space(asid))).collect();
    let mut numbers: Vec<_> = roots.iter().map(|root| root.number).collect();
    let mut tables: Vec<_> = roots.iter().map(|root| root.table).collect();
    numbers.sort();
    tables.sort();
    tables.dedup();
    assert!(numbers.into_iter().eq(0..CONTEXTS));
    assert_eq!(tables.len(), CONTEXTS);
    assert_eq!(rig.shadow.take_flush(), TlbFlush::Nothing);
}

#[test]
fn a_context_that_was_not_used_lately_makes_room_for_a_new_one_and_everything_is_flushed() {
    let mut rig = Rig::new(Mode::Sv48);
    let roots: Vec<_> = (0..CONTEXTS as u16).map(|asid| rig.activate(empty_space(asid))).collect();
    assert_eq!(rig.shadow.take_flush(), TlbFlush::Nothing);
    // All have been used: the first goes, and from then on only those after it that stay unused.
    assert_eq!(rig.activate(empty_space(1000)).number, roots[0].number);
    assert_eq!(rig.shadow.take_flush(), TlbFlush::All);
    for used in 1..10 {
        assert_eq!(rig.activate(empty_space(used)), roots[usize::from(used)]);
    }
    assert_eq!(rig.activate(empty_space(1001)).number, roots[10].number);
    assert_eq!(rig.activate(empty_space(1)), roots[1]);
    assert_eq!(rig.shadow.take_flush(), TlbFlush::All);
    assert_eq!(rig.shadow.take_flush(), TlbFlush::Nothing);
}

#[test]
fn the_current_context_never_makes_room() {
    let mut rig = Rig::new(Mode::Sv48);
    for asid in 0..3 * CONTEXTS as u16 {
        let before = rig.activate(empty_space(asid));
        assert_ne!(rig.activate(empty_space(asid + 1)).number, before.number);
    }
}

#[test]
fn kernels_that_leave_the_lower_half_alone_have_one_root_until_one_does_not() {
    let mut rig = Rig::new(Mode::Sv48);
    let high = 0xffff_ffc0_0000_0000;
    let keys = [1, 2, 3].map(|asid| {
        let satp = rig.guest.space(Mode::Sv39, asid);
        rig.guest.map(satp, high, 0, Pte::new(RAM_BASE, KERNEL | Pte::G));
        ContextKey::new(satp, SUPERVISOR)
    });
    rig.fill(keys[0], high, Access::Load);
    let root = rig.activate(keys[0]);
    for key in keys {
        assert_eq!(rig.activate(key), root);
        assert!(rig.seen(key, high).is_some());
    }
    // A page of a kernel's own in the lower half, or what is not global, takes a root of one's own.
    for (key, address) in [(keys[1], VA), (keys[2], high + 0x1000)] {
        rig.shadow.take_lost_roots();
        rig.guest.map(key.satp, address, 0, Pte::new(RAM_BASE, KERNEL));
        rig.fill(key, address, Access::Load);
        assert_ne!(rig.shadow.take_lost_roots(), LostRoots::None);
        assert_ne!(rig.activate(key), root);
        assert!(rig.seen(keys[0], address).is_none());
        assert!(rig.seen(key, high).is_some() || address != VA);
    }
    assert_eq!(rig.activate(keys[0]), root);
    rig.fence(None, None);
    rig.guest.map(keys[0].satp, high, 0, Pte(0));
    assert_eq!(rig.shadow.root(keys[0]), None);
    rig.activate(keys[0]);
    assert!(rig.seen(keys[0], high).is_none());
}

#[test]
fn a_pool_without_a_free_table_gives_up_the_context_unused_for_longest() {
    let mut rig = Rig { shadow: shadow(Mode::Sv39, MIN_TABLES), guest: Guest::new() };
    let satp = rig.guest.space(Mode::Sv39, 1);
    let key = ContextKey::new(satp, SUPERVISOR);
    let old = ContextKey::new(Satp { asid: 9, ..satp }, SUPERVISOR);
    rig.guest.map(satp, VA, 0, Pte::new(RAM_BASE, KERNEL));
    rig.fill(old, VA, Access::Load);
    for page in 0.. {
        let address = page << 30;
        rig.guest.map(satp, address, 0, Pte::new(RAM_BASE, KERNEL));
        rig.shadow.take_flush();
        rig.fill(key, address, Access::Load);
        if rig.shadow.take_flush() == TlbFlush::All {
            break;
        }
    }
    assert!(rig.shadow.numbered().all(|(_, key, _)| key != old));
    assert!(rig.seen(key, 0).is_some(), "the context in use is not the one to go");
}

#[test]
fn a_context_alone_in_a_full_pool_starts_over_and_gets_its_page() {
    let mut rig = Rig { shadow: shadow(Mode::Sv39, MIN_TABLES), guest: Guest::new() };
    let satp = rig.guest.space(Mode::Sv39, 1);
    let key = ContextKey::new(satp, SUPERVISOR);
    // Each page needs two tables of its own.
    for page in 0..MIN_TABLES as u64 {
        let address = page << 30;
        rig.guest.map(satp, address, 0, Pte::new(RAM_BASE, KERNEL));
        rig.shadow.take_flush();
        rig.fill(key, address, Access::Load);
        let started_over = page > 0 && rig.seen(key, 0).is_none();
        assert_eq!(rig.shadow.take_flush() == TlbFlush::All, started_over);
        if started_over {
            return;
        }
    }
    panic!("the pool was never full");
}

#[test]
#[should_panic(expected = "too small")]
fn a_pool_that_could_stop_progress_is_refused() {
    shadow(Mode::Sv57, MIN_TABLES - 1);
}

/// The four pages that one instruction may need at once: two fetched and two accessed, with nothing in common but
/// the root.
fn pages(seed: u64, guest_mode: Mode) -> [(u64, Access); 4] {
    let span = 1 << (guest_mode.address_bits() - 1);
    let store = if seed.is_multiple_of(2) { Access::Store } else { Access::Load };
    let page = |part: u64| part * (span / 4) + (seed.wrapping_mul(0x9e37_79b9) << 21) % (span / 4);
    let boundary = |part: u64| page(part) & !0xfff;
    [
        (boundary(0) + 0x1000 - 2, Access::Fetch),
        (boundary(0) + BLOCK_SIZE, Access::Fetch),
        (boundary(2) + 0x1000 - 4, store),
        (boundary(3) + 0x1000, store),
    ]
}

#[test]
fn an_instruction_finishes_in_a_few_faults_however_many_contexts_share_a_small_pool() {
    for mode in HOSTS {
        let rig = RefCell::new(Rig { shadow: shadow(mode, MIN_TABLES), guest: Guest::new() });
        let guest_mode = rig.borrow().shadow.host().widest_guest_mode();
        let program = prop::collection::vec((0..80u16, 0..12u64, any::<bool>()), 1..60);
        for_all(100, &program, |instructions| {
            let Rig { guest, shadow } = &mut *rig.borrow_mut();
            guest.reset();
            shadow.clear();
            let mut tlb = Tlb::default();
            // All address spaces of a privilege share their tables: what differs is the ASID.
            let spaces = [(SUPERVISOR, KERNEL), (USER_MODE, USER)]
                .map(|(rights, flags)| (guest.space(guest_mode, 0), rights, flags));
            for (asid, seed, user) in instructions {
                let (satp, rights, flags) = spaces[usize::from(user)];
                let key = ContextKey::new(Satp { asid, ..satp }, rights);
                let needed = pages(seed, guest_mode);
                for (address, _) in needed {
                    let (table, slot) = guest.place(satp, address, 0);
                    if !guest.get(table, slot).has(Pte::V) {
                        guest.set(table, slot, Pte::new(RAM_BASE, flags & !Pte::D));
                    }
                }
                for faults in 0.. {
                    assert!(faults <= 3 * needed.len(), "no progress");
                    let root = shadow.activate(&guest.ram, key);
                    tlb.flush(shadow.take_flush());
                    tlb.assert_consistent(0, shadow);
                    let under = Under::new(0, shadow, root);
                    let refused = |(address, access): &_| !tlb.access(shadow, under, *address, *access);
                    let Some((address, access)) = needed.into_iter().find(refused) else { break };
                    let verdict = shadow.resolve(&guest.ram, key, GuestVirtAddr(address), access);
                    assert_eq!(verdict, Verdict::Filled);
                }
            }
            assert_eq!(crate::check::check(shadow, &guest.ram).map(|leaves| leaves > 0), Ok(true));
            shadow.clear();
            assert_eq!(shadow.pool.available(), shadow.pool.capacity());
        });
    }
}
