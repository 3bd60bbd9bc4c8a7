//! The upper half that contexts of supervisor mode share: when they do, and when one has its own.

use super::*;
use crate::testing::{KERNEL, RAM_BASE, SUPERVISOR, SUPERVISOR_SUM, USER, USER_MODE};

const VA: u64 = 0xffff_ffd2_3456_0000;
const OTHER: u64 = VA + 0x9000;
const GLOBAL: u64 = KERNEL | Pte::G;

/// Two address spaces whose root entry for VA is the same, with a global page at VA and one at OTHER with `flags`.
fn two_spaces(host: Mode, flags: u64) -> (Rig, Satp, Satp) {
    let mut rig = Rig::new(host);
    let (one, two) = (rig.guest.space(Mode::Sv39, 1), rig.guest.space(Mode::Sv39, 2));
    rig.guest.map(one, VA, 0, Pte::new(RAM_BASE, GLOBAL));
    rig.guest.map(one, OTHER, 0, Pte::new(RAM_BASE + 0x1000, flags));
    copy_root(&mut rig, one, two);
    (rig, one, two)
}

/// Gives one root's entry for VA to another.
fn copy_root(rig: &mut Rig, from: Satp, to: Satp) {
    let (table, slot) = rig.guest.place(from, VA, 2);
    let entry = rig.guest.get(table, slot);
    rig.guest.map(to, VA, 2, entry);
}

#[test]
fn a_global_page_is_filled_once_for_all_supervisor_contexts_and_for_no_other() {
    for host in HOSTS {
        let (mut rig, one, two) = two_spaces(host, GLOBAL);
        rig.fill(ContextKey::new(one, SUPERVISOR), VA, Access::Store);
        let fills = rig.shadow.fills;
        for satp in [one, two, Satp { asid: 3, ..one }] {
            for rights in [SUPERVISOR, SUPERVISOR_SUM] {
                assert!(rig.seen(ContextKey::new(satp, rights), VA).is_some());
            }
            for rights in [USER_MODE, Rights { mxr: true, ..SUPERVISOR }] {
                assert_eq!(rig.seen(ContextKey::new(satp, rights), VA), None);
            }
        }
        assert_eq!(rig.shadow.fills, fills);
        assert_eq!(crate::check::check(&rig.shadow, &rig.guest.ram), Ok(1));
    }
}

#[test]
fn a_page_filled_later_is_seen_by_the_contexts_that_were_there_before() {
    let (mut rig, one, two) = two_spaces(Mode::Sv48, GLOBAL);
    let keys = [one, two].map(|satp| ContextKey::new(satp, SUPERVISOR));
    keys.iter().for_each(|key| {
        rig.activate(*key);
    });
    rig.fill(keys[0], VA, Access::Load);
    assert!(rig.shadow.root(keys[1]).is_some());
    assert!(rig.seen(keys[1], VA).is_some());
}

#[test]
fn a_pointer_makes_what_is_below_it_global() {
    let (mut rig, one, two) = two_spaces(Mode::Sv48, KERNEL);
    let (table, slot) = rig.guest.place(one, VA, 1);
    let pointer = rig.guest.get(table, slot);
    rig.guest.set(table, slot, Pte(pointer.0 | Pte::G));
    rig.fill(ContextKey::new(one, SUPERVISOR), OTHER, Access::Load);
    assert!(rig.seen(ContextKey::new(two, SUPERVISOR), OTHER).is_some());
    // Without it, nothing stays that only it made global, though the entry itself is what it was.
    rig.guest.set(table, slot, pointer);
    rig.fill(ContextKey::new(one, SUPERVISOR), VA, Access::Load);
    rig.fence(None, None);
    rig.activate(ContextKey::new(one, SUPERVISOR));
    assert_eq!(rig.seen(ContextKey::new(two, SUPERVISOR), OTHER), None);
}

#[test]
fn a_page_that_is_not_global_or_the_users_gives_its_context_an_upper_half_of_its_own() {
    for flags in [KERNEL, USER | Pte::G, USER] {
        let (mut rig, one, two) = two_spaces(Mode::Sv48, flags);
        let [a, b] = [one, two].map(|satp| ContextKey::new(satp, SUPERVISOR_SUM));
        rig.fill(a, VA, Access::Load);
        rig.activate(b);
        rig.shadow.take_lost_roots();
        rig.shadow.take_flush();
        rig.fill(a, OTHER, Access::Load);
        assert_eq!(rig.shadow.take_lost_roots(), LostRoots::All);
        assert_eq!(rig.shadow.take_flush(), TlbFlush::All);
        assert_eq!(rig.seen(b, OTHER), None);
        assert!(rig.seen(b, VA).is_some());
        // It is fenced like any other from now on.
        rig.guest.map(one, OTHER, 0, Pte(0));
        rig.fence(Some(OTHER), Some(2));
        assert!(rig.seen(a, OTHER).is_some());
        rig.fence(Some(OTHER), Some(1));
        assert_eq!(rig.seen(a, OTHER), None);
    }
}

#[test]
fn a_fence_of_an_address_in_the_upper_half_reaches_what_is_shared_unless_it_names_a_space() {
    let (mut rig, one, two) = two_spaces(Mode::Sv48, GLOBAL);
    let [a, b] = [one, two].map(|satp| ContextKey::new(satp, SUPERVISOR));
    for address in [VA, OTHER] {
        rig.fill(a, address, Access::Load);
    }
    rig.activate(b);
    // Priv. spec, "Supervisor Memory-Management Fence Instruction": "except for entries containing global mappings".
    for asid in [1, 2] {
        assert_eq!(rig.fence(Some(VA), Some(asid)), TlbFlush::Address(GuestVirtAddr(VA)));
        assert!(rig.seen(a, VA).is_some() && rig.seen(b, VA).is_some());
    }
    assert_eq!(rig.fence(Some(VA), None), TlbFlush::Address(GuestVirtAddr(VA)));
    assert_eq!((rig.seen(a, VA), rig.seen(b, VA)), (None, None));
    assert!(rig.seen(b, OTHER).is_some());
    rig.fence(Some(OTHER ^ 1 << 50), None);
    assert!(rig.seen(b, OTHER).is_some());
}

#[test]
fn a_fence_of_everything_marks_the_shared_half_for_all_and_is_answered_once() {
    let (mut rig, one, two) = two_spaces(Mode::Sv39, GLOBAL);
    let [a, b] = [one, two].map(|satp| ContextKey::new(satp, SUPERVISOR));
    for address in [VA, OTHER] {
        rig.fill(a, address, Access::Load);
    }
    rig.activate(b);
    rig.guest.map(one, VA, 0, Pte(0));
    rig.fence(None, None);
    assert_eq!((rig.shadow.root(a), rig.shadow.root(b)), (None, None));
    assert_eq!((rig.seen(b, VA), rig.seen(a, VA)), (None, None));
    assert!(rig.seen(a, OTHER).is_some());
}

#[test]
fn a_new_context_does_not_see_what_a_fence_has_marked() {
    let (mut rig, one, two) = two_spaces(Mode::Sv48, GLOBAL);
    rig.fill(ContextKey::new(one, SUPERVISOR), VA, Access::Load);
    rig.guest.map(one, VA, 0, Pte(0));
    rig.fence(None, None);
    let new = ContextKey::new(two, SUPERVISOR);
    let root = rig.activate(new);
    assert_eq!(rig.shadow.root(new), Some(root));
    assert_eq!(hardware::walk(&rig.shadow, root.table, VA), None);
}

#[test]
fn a_space_whose_root_leads_elsewhere_is_believed_by_the_fence_and_walked_by_itself() {
    for host in HOSTS {
        let (mut rig, one, two) = two_spaces(host, GLOBAL);
        rig.guest.map(two, VA, 2, Pte(0));
        rig.guest.map(two, OTHER, 0, Pte::new(RAM_BASE + 0x7000, KERNEL));
        let [a, b] = [one, two].map(|satp| ContextKey::new(satp, SUPERVISOR));
        rig.fill(a, VA, Access::Load);
        // What the first has at OTHER, or has not, is nothing to the second.
        rig.guest.map(one, OTHER, 0, Pte(0));
        let leaf = rig.fill(b, OTHER, Access::Load);
        assert_eq!(leaf.host, rig.guest.host_of(RAM_BASE + 0x7000).unwrap());
        assert_eq!(rig.seen(b, VA), None);
        assert_eq!(rig.resolve(a, OTHER, Access::Load), Verdict::Fault(Exception::LoadPageFault));
        assert!(rig.seen(a, VA).is_some());
    }
}

#[test]
fn another_mode_of_the_guests_starts_over() {
    let mut rig = Rig::new(Mode::Sv57);
    let (one, two) = (rig.guest.space(Mode::Sv39, 1), rig.guest.space(Mode::Sv48, 1));
    rig.guest.map(one, VA, 0, Pte::new(RAM_BASE, GLOBAL));
    let [a, b] = [one, two].map(|satp| ContextKey::new(satp, SUPERVISOR));
    rig.fill(a, VA, Access::Load);
    rig.shadow.take_lost_roots();
    rig.shadow.take_flush();
    assert_eq!(rig.seen(b, VA), None);
    assert_ne!(rig.shadow.take_lost_roots(), LostRoots::None);
    assert_eq!(rig.shadow.take_flush(), TlbFlush::All);
    assert_eq!(rig.shadow.root(a), None);
    // User contexts have nothing to do with it.
    rig.activate(ContextKey::new(one, USER_MODE));
    assert!(rig.shadow.root(b).is_some());
}

#[test]
fn a_root_that_was_given_up_keeps_the_window_and_nothing_else() {
    for host in HOSTS {
        let (mut rig, one, _) = two_spaces(host, GLOBAL);
        let key = ContextKey::new(one, SUPERVISOR);
        rig.guest.map(one, 0x5000, 0, Pte::new(RAM_BASE, KERNEL));
        rig.fill(key, 0x5000, Access::Load);
        rig.fill(key, VA, Access::Load);
        let root = rig.activate(key);
        rig.shadow.clear();
        assert_eq!(hardware::leaves(&rig.shadow, root.table), (Vec::new(), Vec::new()));
        assert_eq!(crate::check::check(&rig.shadow, &rig.guest.ram), Ok(0));
    }
}
