//! SFENCE.VMA: what is gone after each of its forms, and what the hardware's TLB must forget.

use super::*;
use crate::testing::{KERNEL, RAM_BASE, SUPERVISOR, USER, USER_MODE};

const VA: u64 = 0x12_3456_7000;
const OTHER: u64 = VA + 0x1000;
const GIB: u64 = 1 << 30;

/// Two address spaces with the same two pages filled in each.
fn two_spaces() -> (Rig, [ContextKey; 2]) {
    let mut rig = Rig::new(Mode::Sv48);
    let keys = [1, 2].map(|asid| {
        let satp = rig.guest.space(Mode::Sv39, asid);
        let key = ContextKey::new(satp, SUPERVISOR);
        for address in [VA, OTHER] {
            rig.guest.map(satp, address, 0, Pte::new(RAM_BASE, KERNEL));
            rig.fill(key, address, Access::Store);
        }
        key
    });
    (rig, keys)
}

/// Which of the pages are seen: VA and OTHER of the first space, then of the second.
fn seen(rig: &mut Rig, keys: [ContextKey; 2]) -> [bool; 4] {
    let [a, b] = keys;
    [(a, VA), (a, OTHER), (b, VA), (b, OTHER)].map(|(key, address)| rig.seen(key, address).is_some())
}

/// Which of the two spaces can be entered as they are.
fn ready(rig: &Rig, keys: [ContextKey; 2]) -> [bool; 2] {
    keys.map(|key| rig.shadow.root(key).is_some())
}

/// Makes the guest's entries for VA invalid in both spaces.
fn unmap(rig: &mut Rig, keys: [ContextKey; 2]) {
    keys.iter().for_each(|key| rig.guest.map(key.satp, VA, 0, Pte(0)));
}

#[test]
fn a_fence_of_everything_drops_what_the_guest_has_changed_and_keeps_the_rest() {
    let (mut rig, keys) = two_spaces();
    unmap(&mut rig, keys);
    assert_eq!(seen(&mut rig, keys), [true; 4]);
    assert_eq!(rig.fence(None, None), TlbFlush::All);
    assert_eq!(ready(&rig, keys), [false; 2]);
    assert_eq!(seen(&mut rig, keys), [false, true, false, true]);
    assert_eq!(ready(&rig, keys), [true; 2]);
}

#[test]
fn a_marked_context_is_not_offered_until_it_is_activated_and_its_roots_are_lost() {
    let (mut rig, keys) = two_spaces();
    rig.shadow.take_lost_roots();
    rig.fence(None, Some(1));
    assert_eq!(rig.shadow.take_lost_roots(), LostRoots::Asid(1));
    assert_eq!(ready(&rig, keys), [false, true]);
    rig.activate(keys[1]);
    assert_eq!(ready(&rig, keys), [false, true]);
    rig.activate(keys[0]);
    assert_eq!(ready(&rig, keys), [true; 2]);
    assert_eq!(rig.shadow.take_lost_roots(), LostRoots::None);
    rig.fence(None, Some(1));
    rig.fence(None, Some(2));
    assert_eq!(rig.shadow.take_lost_roots(), LostRoots::All);
}

#[test]
fn a_fence_of_everything_keeps_a_page_that_got_dirty_and_drops_one_that_was_cleaned() {
    let mut rig = Rig::new(Mode::Sv48);
    let satp = rig.guest.space(Mode::Sv39, 1);
    let key = ContextKey::new(satp, SUPERVISOR);
    rig.guest.map(satp, VA, 0, Pte::new(RAM_BASE, KERNEL & !Pte::D));
    rig.fill(key, VA, Access::Load);
    rig.guest.map(satp, VA, 0, Pte::new(RAM_BASE, KERNEL));
    rig.fence(None, None);
    assert!(rig.seen(key, VA).is_some_and(|leaf| !leaf.permits(Access::Store)));
    rig.fill(key, VA, Access::Store);
    for less in [Pte::D, Pte::A, Pte::W, Pte::X] {
        rig.guest.map(satp, VA, 0, Pte::new(RAM_BASE, KERNEL & !less));
        rig.fence(None, None);
        assert_eq!(rig.seen(key, VA), None);
        rig.guest.map(satp, VA, 0, Pte::new(RAM_BASE, KERNEL));
        rig.fill(key, VA, Access::Store);
    }
}

#[test]
fn a_fence_of_everything_drops_what_lies_below_a_changed_pointer() {
    for level in [1, 2] {
        let (mut rig, [key, _]) = two_spaces();
        let (table, slot) = rig.guest.place(key.satp, VA, level);
        let pointer = rig.guest.get(table, slot);
        // Reserved in a pointer, though a leaf might have got it.
        for changed in [Pte(0), Pte::new(RAM_BASE, Pte::V), Pte(pointer.0 | Pte::D), Pte(pointer.0 | 1 << 60)]
        {
            rig.guest.set(table, slot, changed);
            rig.fence(None, None);
            assert_eq!((rig.seen(key, VA), rig.seen(key, OTHER)), (None, None), "{changed:x?} at {level}");
            rig.guest.set(table, slot, pointer);
            rig.fill(key, VA, Access::Load);
            rig.fill(key, OTHER, Access::Load);
        }
    }
}

#[test]
fn pieces_of_a_superpage_go_when_a_neighbour_is_filled_with_other_rights() {
    let mut rig = Rig::new(Mode::Sv48);
    let satp = rig.guest.space(Mode::Sv39, 1);
    let key = ContextKey::new(satp, SUPERVISOR);
    rig.guest.map(satp, 0, 2, Pte::new(RAM_BASE, KERNEL));
    rig.fill(key, 0, Access::Store);
    for fewer in [KERNEL & !Pte::X, KERNEL & !Pte::D] {
        rig.guest.map(satp, 0, 2, Pte::new(RAM_BASE, fewer));
        rig.fill(key, BLOCK_SIZE, Access::Load);
        // The entry that the pieces are compared with is the new one.
        rig.fence(None, None);
        assert_eq!(rig.seen(key, 0), None);
        rig.guest.map(satp, 0, 2, Pte::new(RAM_BASE, KERNEL));
        rig.fill(key, 0, Access::Store);
    }
}

#[test]
fn pieces_of_a_superpage_that_got_dirty_stay() {
    let mut rig = Rig::new(Mode::Sv48);
    let satp = rig.guest.space(Mode::Sv39, 1);
    let key = ContextKey::new(satp, SUPERVISOR);
    rig.guest.map(satp, 0, 2, Pte::new(RAM_BASE, KERNEL & !Pte::D));
    rig.fill(key, 0, Access::Load);
    rig.fill(key, BLOCK_SIZE, Access::Store);
    rig.fence(None, None);
    assert!(rig.seen(key, 0).is_some_and(|leaf| !leaf.permits(Access::Store)));
    assert!(rig.seen(key, BLOCK_SIZE).is_some_and(|leaf| leaf.permits(Access::Store)));
}

#[test]
fn a_fence_of_an_address_drops_it_in_all_spaces() {
    let (mut rig, keys) = two_spaces();
    assert_eq!(rig.fence(Some(VA + 0xfff), None), TlbFlush::Address(GuestVirtAddr(VA + 0xfff)));
    assert_eq!(seen(&mut rig, keys), [false, true, false, true]);
}

#[test]
fn a_fence_of_a_space_drops_nothing_of_another() {
    let (mut rig, keys) = two_spaces();
    rig.guest.map(keys[1].satp, VA, 1, Pte(0));
    rig.guest.map(keys[0].satp, VA, 1, Pte(0));
    rig.fence(None, Some(2));
    assert_eq!(ready(&rig, keys), [true, false]);
    assert_eq!(seen(&mut rig, keys), [true, true, false, false]);
}

#[test]
fn a_fence_of_an_address_in_a_space_drops_only_that() {
    let (mut rig, keys) = two_spaces();
    rig.fence(Some(OTHER), Some(1));
    assert_eq!(seen(&mut rig, keys), [true, false, true, true]);
}

#[test]
fn all_views_and_roots_of_an_address_space_are_fenced_together() {
    let mut rig = Rig::new(Mode::Sv48);
    let (old, new) = (rig.guest.space(Mode::Sv39, 5), rig.guest.space(Mode::Sv39, 5));
    let mut keys = Vec::new();
    for satp in [old, new] {
        rig.guest.map(satp, VA, 0, Pte::new(RAM_BASE, USER));
        for rights in [USER_MODE, Rights { sum: true, ..SUPERVISOR }] {
            let key = ContextKey::new(satp, rights);
            rig.fill(key, VA, Access::Load);
            keys.push(key);
        }
    }
    rig.fence(Some(VA), Some(5));
    assert!(keys.into_iter().all(|key| rig.seen(key, VA).is_none()));
}

#[test]
fn asids_have_16_bits() {
    let (mut rig, keys) = two_spaces();
    unmap(&mut rig, keys);
    rig.fence(None, Some(0x8001));
    // Nearly the same: what contexts are found by has fewer bits.
    rig.fence(None, Some(1 + CONTEXTS as u16));
    rig.fence(Some(VA), Some(2 + CONTEXTS as u16));
    assert_eq!(ready(&rig, keys), [true; 2]);
    assert_eq!(seen(&mut rig, keys), [true; 4]);
}

#[test]
fn a_fence_of_an_address_that_is_not_canonical_drops_nothing() {
    let (mut rig, keys) = two_spaces();
    for spoiled in [1u64 << 39, 1 << 47, 1 << 63] {
        rig.fence(Some(VA | spoiled), None);
        assert_eq!(seen(&mut rig, keys), [true; 4]);
    }
}

#[test]
fn without_translation_there_is_nothing_to_fence() {
    let mut rig = Rig::new(Mode::Sv48);
    let key = ContextKey::new(Satp::BARE, SUPERVISOR);
    rig.fill(key, RAM_BASE, Access::Load);
    for (address, asid) in [(None, None), (Some(RAM_BASE), None), (None, Some(0)), (Some(RAM_BASE), Some(0))]
    {
        rig.fence(address, asid);
        assert!(rig.seen(key, RAM_BASE).is_some());
    }
}

#[test]
fn a_fence_of_any_address_in_a_superpage_drops_the_block_that_maps_it() {
    let mut rig = Rig::new(Mode::Sv48);
    let satp = rig.guest.space(Mode::Sv39, 1);
    let key = ContextKey::new(satp, SUPERVISOR);
    let block = VA & !(BLOCK_SIZE - 1);
    rig.guest.map(satp, block, 1, Pte::new(RAM_BASE, KERNEL));
    rig.fill(key, block, Access::Load);
    rig.fence(Some(block + 0x1f_f000), None);
    assert_eq!(rig.seen(key, block), None);
}

#[test]
fn a_fence_of_any_address_in_a_superpage_drops_all_its_pieces_here_and_in_the_tlb() {
    for (mode, guest_mode, level, second) in [
        (Mode::Sv39, Mode::Sv39, 2, BLOCK_SIZE),
        (Mode::Sv48, Mode::Sv39, 2, 3 * BLOCK_SIZE),
        (Mode::Sv57, Mode::Sv48, 3, 2 * GIB + BLOCK_SIZE),
    ] {
        let mut rig = Rig::new(mode);
        let satp = rig.guest.space(guest_mode, 1);
        let key = ContextKey::new(satp, SUPERVISOR);
        let start = 0;
        // The 512 GiB page begins at physical 0, so RAM is 2 GiB into it.
        let (base, first) = if level == 3 { (0, RAM_BASE) } else { (RAM_BASE, 0) };
        rig.guest.map(satp, start, level, Pte::new(base, KERNEL));
        rig.fill(key, first, Access::Load);
        rig.fill(key, second, Access::Load);
        let untouched = start + (256 << 12);
        assert_eq!(rig.fence(Some(untouched), Some(1)), TlbFlush::All);
        assert_eq!(rig.seen(key, first), None);
        assert_eq!(rig.seen(key, second), None);
        // A fence of its own afterwards needs no more than its address.
        rig.fill(key, second, Access::Load);
    }
}

#[test]
fn a_fence_of_any_address_in_a_split_superpage_drops_all_its_small_pages() {
    let mut rig = Rig::new(Mode::Sv48);
    let satp = rig.guest.space(Mode::Sv39, 1);
    let key = ContextKey::new(satp, SUPERVISOR);
    let block = VA & !(BLOCK_SIZE - 1);
    rig.guest.map(satp, block, 0, Pte::new(RAM_BASE, KERNEL));
    rig.fill(key, block, Access::Load);
    rig.guest.map(satp, block, 1, Pte::new(RAM_BASE, KERNEL));
    rig.fill(key, block + 0x5000, Access::Load);
    assert_eq!(rig.fence(Some(block + 0x9000), None), TlbFlush::All);
    assert_eq!(rig.seen(key, block + 0x5000), None);
}

#[test]
fn a_superpage_that_became_a_table_before_its_fence_is_dropped_by_it_all_the_same() {
    let mut rig = Rig::new(Mode::Sv48);
    let satp = rig.guest.space(Mode::Sv39, 1);
    let key = ContextKey::new(satp, SUPERVISOR);
    rig.guest.map(satp, 0, 2, Pte::new(RAM_BASE, KERNEL));
    rig.fill(key, 0, Access::Load);
    for address in [BLOCK_SIZE, 2 * BLOCK_SIZE] {
        rig.guest.map(satp, address, 0, Pte::new(RAM_BASE, KERNEL));
    }
    rig.fill(key, BLOCK_SIZE, Access::Load);
    rig.fence(Some(2 * BLOCK_SIZE), None);
    assert_eq!(rig.seen(key, 0), None);
}

#[test]
fn pieces_of_a_superpage_that_is_gone_do_not_widen_later_fences() {
    let mut rig = Rig::new(Mode::Sv48);
    let satp = rig.guest.space(Mode::Sv39, 1);
    let key = ContextKey::new(satp, SUPERVISOR);
    let start = 0x10_0000_0000;
    rig.guest.map(satp, start, 2, Pte::new(RAM_BASE, KERNEL));
    rig.fill(key, start, Access::Load);
    rig.fence(Some(start), None);
    for address in [start, start + BLOCK_SIZE] {
        rig.guest.map(satp, address, 0, Pte::new(RAM_BASE, KERNEL));
        rig.fill(key, address, Access::Load);
    }
    assert_eq!(rig.fence(Some(start), None), TlbFlush::Address(GuestVirtAddr(start)));
    assert!(rig.seen(key, start + BLOCK_SIZE).is_some());
}

#[test]
fn an_edit_is_seen_after_its_fence() {
    let (mut rig, [key, _]) = two_spaces();
    rig.guest.map(key.satp, VA, 0, Pte::new(RAM_BASE + 0x9000, KERNEL & !Pte::W));
    rig.fence(Some(VA), Some(1));
    let leaf = rig.fill(key, VA, Access::Load);
    assert_eq!(leaf.host, rig.guest.ram.host_address(GuestPhysAddr(RAM_BASE + 0x9000)).unwrap());
    assert!(!leaf.permits(Access::Store));
    assert_eq!(rig.resolve(key, VA, Access::Store), Verdict::Fault(Exception::StorePageFault));
}

#[test]
fn clear_drops_everything_also_without_translation() {
    let (mut rig, keys) = two_spaces();
    let bare = ContextKey::new(Satp::BARE, SUPERVISOR);
    rig.fill(bare, RAM_BASE, Access::Load);
    rig.shadow.take_flush();
    rig.shadow.clear();
    assert_eq!(rig.shadow.take_flush(), TlbFlush::All);
    assert_eq!(rig.shadow.pool.available(), rig.shadow.pool.capacity());
    assert_eq!(seen(&mut rig, keys), [false; 4]);
    assert_eq!(rig.seen(bare, RAM_BASE), None);
}

#[test]
fn a_hint_ends_with_a_fence_of_its_range_where_the_guests_pointers_have_changed() {
    for changed in [false, true] {
        let (mut rig, [key, _]) = two_spaces();
        let root = rig.activate(key);
        let root = rig.shadow.satp(root).bits();
        let has_hint = |rig: &Rig| rig.shadow.hints.find(VA / BLOCK_SIZE, root).is_some();
        assert!(has_hint(&rig));
        if changed {
            let (table, slot) = rig.guest.place(key.satp, VA, 1);
            let other = rig.guest.table();
            rig.guest.set(table, slot, Pte::new(other.0, Pte::V));
        }
        rig.fence(Some(OTHER), Some(1));
        assert!(rig.shadow.has_doubts());
        rig.shadow.clear_doubts(&rig.guest.ram);
        assert_eq!(has_hint(&rig), !changed);
        assert!(!rig.shadow.has_doubts());
    }
}
