//! The rules of the page walk one by one, and `translate` against the specification's algorithm on random tables.

use core::cell::RefCell;
use std::vec::Vec;

use proptest::prelude::*;

use super::*;
use crate::testing::{
    Guest, KERNEL, RAM_BASE, RAM_SIZE, SUPERVISOR, SUPERVISOR_SUM, USER, USER_MODE, for_all, random,
    snapshot_index,
};

const ALL: [Access; 3] = [Access::Fetch, Access::Load, Access::Store];
const HOLE: u64 = 0x1000_0000;
/// Where the tests map something.
const VA: u64 = 0x12_3456_7000;

/// A guest with `leaf` at `level` in the walk for `VA`.
fn mapped(mode: Mode, level: usize, leaf: Pte) -> (Guest, Satp) {
    let mut guest = Guest::new();
    let satp = guest.space(mode, 1);
    guest.map(satp, VA, level, leaf);
    (guest, satp)
}

fn walk(guest: &Guest, satp: Satp, access: Access, rights: Rights) -> Result<Translation, Exception> {
    translate(&guest.ram, satp, GuestVirtAddr(VA + 0xabc), access, rights)
}

/// Each kind of access gets its own page fault.
fn assert_page_faults(guest: &Guest, satp: Satp, rights: Rights) {
    for access in ALL {
        assert_eq!(walk(guest, satp, access, rights), Err(access.page_fault()));
    }
}

/// What is refused of a leaf with these flags, to these rights.
fn refused(flags: u64, rights: Rights) -> Vec<Access> {
    let (guest, satp) = mapped(Mode::Sv39, 0, Pte::new(RAM_BASE, flags));
    ALL.into_iter().filter(|access| walk(&guest, satp, *access, rights).is_err()).collect()
}

#[test]
fn each_access_has_its_own_exceptions() {
    let codes = ALL.map(|access| (access.page_fault().code(), access.access_fault().code()));
    assert_eq!(codes, [(12, 1), (13, 5), (15, 7)]);
}

#[test]
fn a_leaf_at_any_level_keeps_the_address_below_its_size() {
    for mode in [Mode::Sv39, Mode::Sv48, Mode::Sv57] {
        for level in 0..mode.levels() {
            let base = RAM_BASE & !(paging::leaf_size(level) - 1);
            let (guest, satp) = mapped(mode, level, Pte::new(base, KERNEL));
            let reached = walk(&guest, satp, Access::Load, SUPERVISOR).unwrap();
            let offset = (VA + 0xabc) % paging::leaf_size(level);
            assert_eq!((reached.address.0, reached.level), (base + offset, level), "{mode:?}");
        }
    }
}

#[test]
fn an_invalid_entry_is_a_page_fault_at_every_level() {
    for level in 0..3 {
        let (guest, satp) = mapped(Mode::Sv39, level, Pte::new(RAM_BASE, KERNEL & !Pte::V));
        assert_page_faults(&guest, satp, SUPERVISOR);
    }
}

#[test]
fn writable_without_readable_is_a_page_fault() {
    for flags in [KERNEL & !Pte::R, KERNEL & !Pte::R & !Pte::X] {
        let (guest, satp) = mapped(Mode::Sv39, 0, Pte::new(RAM_BASE, flags));
        assert_page_faults(&guest, satp, SUPERVISOR);
    }
}

#[test]
fn reserved_bits_with_n_and_pbmt_are_page_faults_in_leaves_and_pointers() {
    for bit in 54..64 {
        let (mut guest, satp) = mapped(Mode::Sv39, 0, Pte(Pte::new(RAM_BASE, KERNEL).0 | 1 << bit));
        assert_page_faults(&guest, satp, SUPERVISOR);

        guest.map(satp, VA, 0, Pte::new(RAM_BASE, KERNEL));
        let (table, slot) = guest.place(satp, VA, 1);
        let pointer = guest.get(table, slot);
        guest.set(table, slot, Pte(pointer.0 | 1 << bit));
        assert_page_faults(&guest, satp, SUPERVISOR);
        guest.set(table, slot, pointer);
        assert!(walk(&guest, satp, Access::Load, SUPERVISOR).is_ok());
    }
}

#[test]
fn accessed_dirty_or_user_in_a_pointer_is_a_page_fault_and_global_is_not() {
    let (mut guest, satp) = mapped(Mode::Sv39, 0, Pte::new(RAM_BASE, KERNEL));
    let (table, slot) = guest.place(satp, VA, 1);
    let pointer = guest.get(table, slot);
    for flag in [Pte::A, Pte::D, Pte::U] {
        guest.set(table, slot, Pte(pointer.0 | flag));
        assert_page_faults(&guest, satp, SUPERVISOR);
    }
    guest.set(table, slot, Pte(pointer.0 | Pte::G));
    assert!(walk(&guest, satp, Access::Load, SUPERVISOR).is_ok());
}

#[test]
fn a_misaligned_superpage_is_a_page_fault() {
    for (level, base) in [(1, RAM_BASE + 0x1000), (2, RAM_BASE + (2 << 20))] {
        let (guest, satp) = mapped(Mode::Sv39, level, Pte::new(base, KERNEL));
        assert_page_faults(&guest, satp, SUPERVISOR);
    }
}

#[test]
fn no_leaf_at_the_last_level_is_a_page_fault() {
    let (guest, satp) = mapped(Mode::Sv39, 0, Pte::new(RAM_BASE, Pte::V));
    assert_page_faults(&guest, satp, SUPERVISOR);
}

#[test]
fn an_address_not_canonical_in_the_guests_mode_is_a_page_fault() {
    for (mode, bits) in [(Mode::Sv39, 39), (Mode::Sv48, 48), (Mode::Sv57, 57)] {
        let mut guest = Guest::new();
        let satp = guest.space(mode, 0);
        // Both halves' ends, mapped by leaves in the root, which ignore the upper bits.
        let base = if mode == Mode::Sv39 { RAM_BASE } else { 0 };
        for slot in [0, 255, 256, 511] {
            guest.set(GuestPhysAddr(satp.ppn << 12), slot, Pte::new(base, KERNEL));
        }
        let half = 1u64 << (bits - 1);
        for (address, canonical) in [
            (0, true),
            (half - 1, true),
            (half, false),
            (half.wrapping_neg() - 1, false),
            (half.wrapping_neg(), true),
            (u64::MAX, true),
            (1 << 63, false),
        ] {
            let reached = translate(&guest.ram, satp, GuestVirtAddr(address), Access::Load, SUPERVISOR);
            let expected = if canonical { Ok(()) } else { Err(Exception::LoadPageFault) };
            assert_eq!(reached.map(|_| ()), expected, "{mode:?} {address:#x}");
        }
    }
}

#[test]
fn a_table_outside_ram_is_an_access_fault_of_the_accesss_own_type() {
    for outside in [HOLE, RAM_BASE - 0x1000, RAM_BASE + RAM_SIZE, (1 << 56) - 0x1000] {
        let (guest, inner) = mapped(Mode::Sv39, 1, Pte::new(outside, Pte::V));
        let root = Satp { mode: Mode::Sv39, asid: 0, ppn: outside >> 12 };
        for access in ALL {
            assert_eq!(walk(&guest, inner, access, SUPERVISOR), Err(access.access_fault()));
            assert_eq!(walk(&guest, root, access, SUPERVISOR), Err(access.access_fault()));
        }
    }
}

#[test]
fn a_leaf_outside_ram_is_translated_all_the_same() {
    let (guest, satp) = mapped(Mode::Sv39, 0, Pte::new(HOLE, KERNEL));
    let reached = walk(&guest, satp, Access::Store, SUPERVISOR).unwrap();
    assert_eq!(reached.address, GuestPhysAddr(HOLE + 0xabc));
}

#[test]
fn without_translation_an_address_is_itself() {
    let guest = Guest::new();
    for address in [0, RAM_BASE, u64::MAX] {
        let reached = translate(&guest.ram, Satp::BARE, GuestVirtAddr(address), Access::Fetch, SUPERVISOR);
        assert_eq!(reached.map(|reached| reached.address), Ok(GuestPhysAddr(address)));
    }
}

#[test]
fn the_supervisor_never_fetches_from_a_user_page() {
    assert_eq!(refused(USER, SUPERVISOR_SUM), [Access::Fetch]);
}

#[test]
fn the_supervisor_touches_user_pages_only_with_sum() {
    assert_eq!(refused(USER, SUPERVISOR), ALL);
    assert_eq!(refused(KERNEL, SUPERVISOR), []);
    assert_eq!(refused(KERNEL, SUPERVISOR_SUM), []);
}

#[test]
fn a_user_reaches_user_pages_only_and_sum_does_not_matter() {
    for sum in [false, true] {
        let rights = Rights { sum, ..USER_MODE };
        assert_eq!(refused(USER, rights), []);
        assert_eq!(refused(KERNEL, rights), ALL);
    }
}

#[test]
fn mxr_makes_executable_pages_readable_and_nothing_else() {
    for rights in [USER_MODE, SUPERVISOR_SUM] {
        let execute_only = if rights == USER_MODE { USER } else { KERNEL } & !(Pte::R | Pte::W);
        assert_eq!(refused(execute_only, rights), [Access::Load, Access::Store]);
        assert_eq!(refused(execute_only, Rights { mxr: true, ..rights }), [Access::Store]);
    }
    assert_eq!(refused(USER, Rights { mxr: true, ..SUPERVISOR }), ALL);
}

#[test]
fn each_access_needs_its_own_permission() {
    assert_eq!(refused(KERNEL & !Pte::X, SUPERVISOR), [Access::Fetch]);
    assert_eq!(refused(KERNEL & !Pte::W, SUPERVISOR), [Access::Store]);
    assert_eq!(refused(KERNEL & !Pte::X & !Pte::W, SUPERVISOR), [Access::Fetch, Access::Store]);
}

#[test]
fn accessed_is_set_by_every_access_and_dirty_by_a_store_alone() {
    for (access, set) in [(Access::Fetch, Pte::A), (Access::Load, Pte::A), (Access::Store, Pte::A | Pte::D)] {
        let clean = Pte::new(RAM_BASE, KERNEL & !(Pte::A | Pte::D));
        let (mut guest, satp) = mapped(Mode::Sv39, 0, clean);
        let (table, slot) = guest.place(satp, VA, 0);
        let leaf = walk(&guest, satp, access, SUPERVISOR).unwrap().leaf;
        assert_eq!(leaf, Pte(clean.0 | set));
        assert_eq!(guest.get(table, slot), leaf);
    }
}

#[test]
fn a_refused_access_leaves_accessed_and_dirty_alone() {
    let clean = Pte::new(RAM_BASE, USER & !(Pte::A | Pte::D));
    let (mut guest, satp) = mapped(Mode::Sv39, 0, clean);
    let (table, slot) = guest.place(satp, VA, 0);
    assert_page_faults(&guest, satp, SUPERVISOR);
    assert_eq!(guest.get(table, slot), clean);
}

#[test]
fn translate_does_what_the_specification_says() {
    let guest = RefCell::new(Guest::new());
    let modes = prop::sample::select(&[Mode::Sv39, Mode::Sv48, Mode::Sv57][..]);
    let space =
        modes.prop_flat_map(|mode| (random::satp(mode), prop::collection::vec(random::address(mode), 16)));
    let cases = (random::tables(), space, random::access(), random::rights());
    for_all(4000, &cases, |(entries, (satp, addresses), access, rights)| {
        let guest = &mut *guest.borrow_mut();
        random::load(guest, &entries);
        let mut memory = guest.snapshot();
        for address in addresses {
            let expected = guest.reference(satp, address, access, rights);
            if let Ok(reached) = expected
                && let Some(update) = reached.update
            {
                memory[snapshot_index(update)] = reached.entry;
            }
            let reached = translate(&guest.ram, satp, address, access, rights);
            let summary = reached.map(|reached| (reached.address.0, reached.level, reached.leaf.0));
            assert_eq!(
                summary.map_err(Exception::code),
                expected.map(|reached| (reached.address, reached.level, reached.entry)),
                "{address:?}"
            );
        }
        assert!(guest.snapshot() == memory, "A and D are not set in the leaves, or something else is");
    });
}
