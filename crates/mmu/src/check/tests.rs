//! Each invariant is broken once, and the scanner names it.
//! Breaks each of the scanner's invariants: *owned-leaf*, *user-leaf*, *pool-table*, *whole-window*, *free-root*,
//! *shared-half*.

use super::*;
use crate::shadow::Verdict;
use crate::shadow::tests::{HOSTS, POOL_BASE, shadow};
use crate::testing::{Guest, HOST_BASE, KERNEL, RAM_BASE, RAM_SIZE, SUPERVISOR, SUPERVISOR_SUM};
use crate::{Access, ContextKey};
use isa::paging::Mode;
use memory::{BLOCK_SIZE, GuestVirtAddr};

const VA: GuestVirtAddr = GuestVirtAddr(0x12_3456_7000);
const TABLES: usize = 128;
const LEAF: u64 = Pte::V | Pte::R | Pte::U | Pte::A | Pte::D;

/// A shadow with one page filled, after `entry` was put where the walk for it looks at `level`.
fn spoiled(mode: Mode, level: usize, entry: Pte) -> Result<usize, &'static str> {
    let mut guest = Guest::new();
    let mut shadow = shadow(mode, TABLES);
    let satp = guest.space(Mode::Sv39, 1);
    let key = ContextKey::new(satp, SUPERVISOR);
    guest.map(satp, VA.0, 0, Pte::new(RAM_BASE, KERNEL));
    assert_eq!(shadow.resolve(&guest.ram, key, VA, Access::Load), Verdict::Filled);
    assert_eq!(check(&shadow, &guest.ram), Ok(1));
    shadow.spoil(key, VA, level, entry);
    check(&shadow, &guest.ram).map_err(|violation| {
        assert_eq!((violation.level, violation.slot), (level, paging::index(VA.0, level)));
        assert_eq!(violation.entry, entry);
        violation.invariant
    })
}

#[test]
fn a_leaf_outside_the_guests_ram_breaks_owned_leaf() {
    for address in [0, HOST_BASE - 0x1000, HOST_BASE + RAM_SIZE, POOL_BASE.0] {
        assert_eq!(spoiled(Mode::Sv48, 0, Pte::new(address, LEAF)), Err("owned-leaf"));
    }
    assert_eq!(spoiled(Mode::Sv48, 0, Pte::new(HOST_BASE + RAM_SIZE - 0x1000, LEAF)), Ok(1));
}

#[test]
fn a_large_leaf_that_reaches_beyond_ram_or_is_misaligned_breaks_owned_leaf() {
    for (level, address) in [
        (1, HOST_BASE + RAM_SIZE - BLOCK_SIZE / 2),
        (1, HOST_BASE + 0x1000),
        (1, HOST_BASE + RAM_SIZE),
        (2, HOST_BASE & !((1 << 30) - 1)),
    ] {
        assert_eq!(spoiled(Mode::Sv48, level, Pte::new(address, LEAF)), Err("owned-leaf"));
    }
    assert_eq!(spoiled(Mode::Sv48, 1, Pte::new(HOST_BASE, LEAF)), Ok(1));
}

#[test]
fn a_leaf_that_is_not_the_users_or_is_global_or_not_preset_breaks_user_leaf() {
    for flags in [LEAF & !Pte::U, LEAF | Pte::G, LEAF & !Pte::A, LEAF & !Pte::D] {
        assert_eq!(spoiled(Mode::Sv39, 0, Pte::new(HOST_BASE, flags)), Err("user-leaf"));
    }
    for bit in 54..64 {
        let entry = Pte(Pte::new(HOST_BASE, LEAF).0 | 1 << bit);
        assert_eq!(spoiled(Mode::Sv39, 0, entry), Err("user-leaf"));
    }
}

#[test]
fn a_leaf_that_is_writable_but_not_readable_breaks_user_leaf() {
    let flags = LEAF & !Pte::R | Pte::W | Pte::X;
    assert_eq!(spoiled(Mode::Sv39, 0, Pte::new(HOST_BASE, flags)), Err("user-leaf"));
}

#[test]
fn a_pointer_out_of_the_pool_or_with_flags_or_below_the_last_level_breaks_pool_table() {
    for mode in HOSTS {
        let inside = POOL_BASE.0 + (TABLES as u64 - 1) * 0x1000;
        for pointer in [
            Pte::new(HOST_BASE, Pte::V),
            Pte::new(POOL_BASE.0 - 0x1000, Pte::V),
            Pte::new(POOL_BASE.0 + TABLES as u64 * 0x1000, Pte::V),
            Pte::new(inside, Pte::V | Pte::U),
            Pte::new(inside, Pte::V | Pte::G),
            Pte::new(inside, Pte::V | Pte::A),
            Pte::new(inside, Pte::V | Pte::D),
            Pte::new(inside, Pte::V | Pte::W),
            Pte(Pte::new(inside, Pte::V).0 | 1 << 63),
        ] {
            assert_eq!(spoiled(mode, 1, pointer), Err("pool-table"), "{pointer:x?}");
        }
        assert_eq!(spoiled(mode, 0, Pte::new(inside, Pte::V)), Err("pool-table"));
    }
}

#[test]
fn a_root_without_its_window_breaks_whole_window() {
    for mode in HOSTS {
        let guest = Guest::new();
        let mut shadow = shadow(mode, TABLES);
        let key = ContextKey::new(isa::paging::Satp::BARE, SUPERVISOR);
        shadow.activate(&guest.ram, key);
        assert_eq!(check(&shadow, &guest.ram), Ok(0));
        let top = mode.levels() - 1;
        for nth in 0..2 {
            let slot = shadow.host().window.first_slot + nth;
            let address = GuestVirtAddr((slot as u64) << (12 + 9 * top));
            let own = shadow.host().window.entries[nth];
            for entry in [Pte(0), Pte(own.0 | Pte::U)] {
                shadow.spoil(key, address, top, entry);
                let violation = check(&shadow, &guest.ram).unwrap_err();
                assert_eq!(
                    (violation.invariant, violation.level, violation.slot),
                    ("whole-window", top, slot)
                );
            }
            shadow.spoil(key, address, top, own);
        }
        assert_eq!(check(&shadow, &guest.ram), Ok(0));
    }
}

#[test]
fn a_violation_says_what_and_where() {
    let violation = Violation { invariant: "user-leaf", level: 1, slot: 7, entry: Pte(0xabc) };
    assert_eq!(std::format!("{violation}"), "invariant user-leaf broken by 0xabc in slot 7 at level 1");
}

#[test]
fn a_scan_needs_little_stack() {
    let mut guest = Guest::new();
    let mut shadow = shadow(Mode::Sv57, TABLES);
    let satp = guest.space(Mode::Sv48, 1);
    guest.map(satp, VA.0, 0, Pte::new(RAM_BASE, KERNEL));
    let key = ContextKey::new(satp, SUPERVISOR);
    assert_eq!(shadow.resolve(&guest.ram, key, VA, Access::Load), Verdict::Filled);
    let scan = || check(&shadow, &guest.ram);
    // Less than the hypervisor has, and less than one copy of a table for each level takes.
    let thread = std::thread::Builder::new().stack_size(20 << 10);
    let result = std::thread::scope(|scope| thread.spawn_scoped(scope, scan).unwrap().join().unwrap());
    assert_eq!(result, Ok(1));
}

#[test]
fn a_root_that_is_no_contexts_and_leads_somewhere_or_lost_its_window_is_found() {
    for mode in HOSTS {
        let guest = Guest::new();
        for (slot, entry, invariant) in [
            (7, Pte::new(POOL_BASE.0, Pte::V), "free-root"),
            (shadow(mode, TABLES).host().window.first_slot, Pte(0), "whole-window"),
        ] {
            let mut shadow = shadow(mode, TABLES);
            shadow.activate(&guest.ram, ContextKey::new(isa::paging::Satp::BARE, SUPERVISOR));
            let root = shadow.free_roots().last().unwrap();
            shadow.spoil_table(root, slot, entry);
            let violation = check(&shadow, &guest.ram).unwrap_err();
            assert_eq!((violation.invariant, violation.slot), (invariant, slot));
        }
    }
}

#[test]
fn a_sharing_root_with_another_upper_half_breaks_shared_half() {
    let mut guest = Guest::new();
    let mut shadow = shadow(Mode::Sv48, TABLES);
    let satp = guest.space(Mode::Sv39, 1);
    let high = GuestVirtAddr(0xffff_ffc0_0000_0000);
    guest.map(satp, high.0, 0, Pte::new(RAM_BASE, KERNEL | Pte::G));
    // Reaching into its users' half, the kernel has a root beside the shared half's own.
    let key = ContextKey::new(satp, SUPERVISOR_SUM);
    assert_eq!(shadow.resolve(&guest.ram, key, high, Access::Load), Verdict::Filled);
    assert_eq!(check(&shadow, &guest.ram), Ok(1));
    shadow.spoil(key, high, 3, Pte(0));
    assert_eq!(check(&shadow, &guest.ram).unwrap_err().invariant, "shared-half");
}

#[test]
fn something_in_the_lower_half_of_the_shared_root_breaks_free_root() {
    let mut guest = Guest::new();
    let mut shadow = shadow(Mode::Sv48, TABLES);
    let satp = guest.space(Mode::Sv39, 1);
    let key = ContextKey::new(satp, SUPERVISOR);
    shadow.activate(&guest.ram, key);
    assert_eq!(check(&shadow, &guest.ram), Ok(0));
    shadow.spoil(key, GuestVirtAddr(0), 3, Pte::new(RAM_BASE, Pte::V));
    assert_eq!(check(&shadow, &guest.ram).unwrap_err().invariant, "free-root");
}
