//! Code pages that are fetched from copies.

use super::*;
use crate::testing::{
    HOST_BASE, KERNEL, RAM_BASE, SUPERVISOR, SUPERVISOR_SUM, USER, USER_MODE, cover, uncover,
};

const CODE: u64 = 0xffff_ffd2_3456_7000;
const ALIAS: u64 = 0x12_3400_0000;
const PAGE: GuestPhysAddr = GuestPhysAddr(RAM_BASE + 0x5000);
const COPY: HostPhysAddr = HostPhysAddr(0x3_0000_0000);
const TEXT: u64 = KERNEL & !Pte::W | Pte::G;

/// A guest with PAGE executable at CODE.
fn rig() -> (Rig, Satp, ContextKey) {
    let mut rig = Rig::new(Mode::Sv48);
    let satp = rig.guest.space(Mode::Sv39, 1);
    rig.guest.map(satp, CODE, 0, Pte::new(PAGE.0, TEXT));
    let key = ContextKey::new(satp, SUPERVISOR);
    rig.fill(key, CODE, Access::Fetch);
    (rig, satp, key)
}

/// Lets PAGE be fetched from its copy.
fn remap(rig: &mut Rig, key: ContextKey) {
    assert!(cover(&rig.guest.ram, PAGE, COPY));
    rig.shadow.take_dropped_code();
    rig.shadow.take_flush();
    rig.shadow.remap(&rig.guest.ram, key, GuestVirtAddr(CODE), PAGE, false);
    assert_eq!(rig.shadow.take_flush(), TlbFlush::All);
    check(rig);
}

fn check(rig: &Rig) {
    assert_eq!(crate::check::check(&rig.shadow, &rig.guest.ram).map(|_| ()), Ok(()));
}

#[test]
fn the_kernel_executes_the_copy_and_may_do_nothing_else_there() {
    let (mut rig, satp, key) = rig();
    remap(&mut rig, key);
    let leaf = rig.fill(key, CODE, Access::Fetch);
    assert_eq!(leaf.host, COPY);
    assert!(!leaf.permits(Access::Load) && !leaf.permits(Access::Store));
    assert_eq!(rig.resolve(key, CODE + 8, Access::Load), Verdict::Overlaid(PAGE.wrapping_add(8)));
    // All who share the half execute it, too.
    assert_eq!(rig.seen(ContextKey::new(satp, SUPERVISOR_SUM), CODE), Some(leaf));
    check(&rig);
}

#[test]
fn a_writable_alias_of_a_copied_page_goes_wherever_it_is() {
    for (level, to) in [(0, PAGE.0), (1, RAM_BASE)] {
        let (mut rig, satp, key) = rig();
        let alias = ALIAS + (PAGE.0 - to);
        rig.guest.map(satp, ALIAS, level, Pte::new(to, KERNEL & !Pte::X));
        let user = ContextKey::new(satp, USER_MODE);
        rig.guest.map(satp, 0x7000, 0, Pte::new(PAGE.0, USER & !Pte::X));
        for (key, address) in [(key, alias), (ContextKey::new(satp, SUPERVISOR_SUM), alias), (user, 0x7000)] {
            let leaf = rig.fill(key, address, Access::Store);
            assert_eq!(leaf.size, if level == 1 && key != user { BLOCK_SIZE } else { PAGE_SIZE });
        }
        remap(&mut rig, key);
        for (key, address) in [(key, alias), (ContextKey::new(satp, SUPERVISOR_SUM), alias), (user, 0x7000)] {
            assert_eq!(rig.seen(key, address), None);
            let leaf = rig.fill(key, address, Access::Load);
            assert!(!leaf.permits(Access::Store));
            assert_eq!(leaf.host_of(address).0, HOST_BASE + 0x5000);
            assert_eq!(rig.resolve(key, address, Access::Store), Verdict::Overlaid(PAGE));
        }
        // Its neighbours are written as before.
        assert!(level == 0 || rig.seen(key, alias + 0x1000).is_some_and(|leaf| leaf.permits(Access::Store)));
        check(&rig);
    }
}

#[test]
fn a_scanned_page_is_written_by_no_leaf_until_a_store_to_it_was_noticed() {
    for (level, to) in [(0, PAGE.0), (1, RAM_BASE)] {
        let (mut rig, satp, key) = rig();
        let alias = ALIAS + (PAGE.0 - to);
        rig.guest.map(satp, ALIAS, level, Pte::new(to, KERNEL & !Pte::X));
        let user = ContextKey::new(satp, USER_MODE);
        rig.guest.map(satp, 0x7000, 0, Pte::new(PAGE.0, USER & !Pte::X));
        let aliases = [(key, alias), (user, 0x7000)];
        rig.guest.ram.overlay().require_scan();
        let fill = |rig: &mut Rig| aliases.map(|(key, at)| rig.fill(key, at, Access::Store));
        fill(&mut rig);
        rig.guest.ram.note_scanned(PAGE);
        rig.shadow.guard(&rig.guest.ram, PAGE);
        assert_eq!(rig.shadow.take_flush(), TlbFlush::All);
        for (key, at) in aliases {
            assert_eq!(rig.seen(key, at), None);
            assert!(!rig.fill(key, at, Access::Load).permits(Access::Store));
            assert_eq!(rig.resolve(key, at, Access::Store), Verdict::Overlaid(PAGE));
        }
        assert!(!rig.fill(key, CODE, Access::Fetch).permits(Access::Store));
        check(&rig);
        // What is next to it is noticed as well once it is scanned, and written until then.
        let next = PAGE.wrapping_add(PAGE_SIZE);
        if level == 1 {
            rig.fill(key, alias + PAGE_SIZE, Access::Store);
            rig.guest.ram.note_scanned(next);
            rig.shadow.guard(&rig.guest.ram, next);
            assert_eq!(rig.resolve(key, alias + PAGE_SIZE, Access::Store), Verdict::Overlaid(next));
        }
        // A store lets it be written, and forbids to execute it.
        rig.guest.ram.forget_scanned(PAGE);
        rig.shadow.drop_page(HostPhysAddr(HOST_BASE + 0x5000));
        fill(&mut rig);
        assert_eq!(rig.resolve(key, CODE, Access::Fetch), Verdict::Unscanned);
        rig.guest.ram.exempt_from_scan(PAGE);
        rig.fill(key, CODE, Access::Fetch);
        fill(&mut rig);
    }
}

#[test]
fn a_writable_piece_of_a_larger_superpage_goes_too() {
    let (mut rig, satp, key) = rig();
    rig.guest.map(satp, 0x10_0000_0000, 2, Pte::new(RAM_BASE, KERNEL & !Pte::X));
    rig.fill(key, 0x10_0000_5000, Access::Store);
    remap(&mut rig, key);
    assert_eq!(rig.seen(key, 0x10_0000_5000), None);
}

#[test]
fn a_copy_of_one_page_leaves_the_other_pieces_of_its_superpage() {
    let mut rig = Rig::new(Mode::Sv48);
    let satp = rig.guest.space(Mode::Sv39, 1);
    let key = ContextKey::new(satp, SUPERVISOR);
    let start = CODE & !(BLOCK_SIZE - 1);
    let code = start + 0x5000;
    rig.guest.map(satp, CODE, 1, Pte::new(RAM_BASE, TEXT));
    assert_eq!(rig.fill(key, code, Access::Fetch).size, BLOCK_SIZE);
    let other = PAGE.wrapping_add(0x9_0000);
    for (page, address, nth) in [(PAGE, code, 0), (other, code + 0x9_0000, 1)] {
        let copy = HostPhysAddr(COPY.0 + nth * PAGE_SIZE);
        assert!(cover(&rig.guest.ram, page, copy));
        rig.shadow.remap(&rig.guest.ram, key, GuestVirtAddr(address), page, false);
        assert_eq!(rig.fill(key, address, Access::Fetch).host, copy);
        check(&rig);
    }
    assert_eq!(rig.seen(key, code).map(|leaf| leaf.host), Some(COPY));
    assert!(rig.seen(key, code + 0x1000).is_some_and(|leaf| leaf.permits(Access::Load)));
    // A fence still takes all of the superpage.
    rig.fence(Some(start), None);
    assert_eq!((rig.seen(key, code), rig.seen(key, code + 0x1000)), (None, None));
}

#[test]
fn a_dropped_copy_is_mapped_nowhere_and_the_page_is_as_it_was() {
    let (mut rig, satp, key) = rig();
    let other = ContextKey::new(Satp { asid: 2, ..satp }, Rights { mxr: true, ..SUPERVISOR });
    remap(&mut rig, key);
    for key in [key, other] {
        assert_eq!(rig.fill(key, CODE, Access::Fetch).host, COPY);
    }
    assert_eq!(uncover(&rig.guest.ram, PAGE), Some(COPY));
    rig.shadow.drop_page(COPY);
    assert_eq!(rig.shadow.take_flush(), TlbFlush::All);
    check(&rig);
    for key in [key, other] {
        assert_eq!(rig.seen(key, CODE), None);
        assert_eq!(rig.fill(key, CODE, Access::Fetch).host.0, HOST_BASE + 0x5000);
    }
    rig.guest.map(satp, ALIAS, 0, Pte::new(PAGE.0, KERNEL));
    rig.fill(key, ALIAS, Access::Store);
}

#[test]
fn a_program_in_user_mode_executes_the_page_itself() {
    let (mut rig, satp, key) = rig();
    rig.guest.map(satp, 0x7000, 0, Pte::new(PAGE.0, USER));
    remap(&mut rig, key);
    let leaf = rig.fill(ContextKey::new(satp, USER_MODE), 0x7000, Access::Fetch);
    assert_eq!(leaf.host.0, HOST_BASE + 0x5000);
    assert!(leaf.permits(Access::Load) && !leaf.permits(Access::Store));
}

/// A guest whose copy of PAGE is mapped at CODE.
fn copied() -> (Rig, Satp, ContextKey) {
    let (mut rig, satp, key) = rig();
    remap(&mut rig, key);
    rig.fill(key, CODE, Access::Fetch);
    rig.shadow.take_dropped_code();
    (rig, satp, key)
}

#[test]
fn code_that_a_fence_drops_is_reported_once_by_its_page() {
    let (mut rig, _, _) = copied();
    rig.fence(Some(CODE + 0x123), None);
    let dropped = rig.shadow.take_dropped_code().unwrap();
    assert_eq!((dropped.pages.as_slice(), dropped.all), (&[GuestVirtAddr(CODE)][..], false));
    assert_eq!(rig.shadow.take_dropped_code(), None);
}

#[test]
fn code_that_a_marked_context_has_not_kept_is_reported_when_it_is_activated() {
    let (mut rig, satp, key) = copied();
    rig.fence(None, None);
    rig.activate(key);
    assert_eq!(rig.shadow.take_dropped_code(), None, "nothing has changed");
    rig.guest.map(satp, CODE, 0, Pte::new(RAM_BASE, TEXT));
    rig.fence(None, None);
    assert_eq!(rig.shadow.take_dropped_code(), None, "it is not compared yet");
    rig.activate(key);
    // A table is compared without knowing which addresses go by way of it.
    assert!(rig.shadow.take_dropped_code().is_some_and(|dropped| dropped.all));
    rig.guest.map(satp, CODE, 0, Pte::new(PAGE.0, TEXT));
    rig.fill(key, CODE, Access::Fetch);
    assert_eq!(rig.shadow.take_dropped_code(), None, "it was not executable before");
    rig.guest.map(satp, CODE, 1, Pte(0));
    rig.fence(None, None);
    rig.activate(key);
    assert!(rig.shadow.take_dropped_code().is_some_and(|dropped| dropped.all));
}

#[test]
fn code_that_is_replaced_by_other_code_is_reported() {
    let (mut rig, satp, key) = copied();
    rig.guest.map(satp, CODE, 0, Pte::new(RAM_BASE, TEXT));
    // Not executable before, so the hardware asks again.
    rig.fill(key, CODE, Access::Load);
    let dropped = rig.shadow.take_dropped_code().unwrap();
    assert_eq!(dropped.pages.as_slice(), [GuestVirtAddr(CODE)]);
}

#[test]
fn many_pages_of_code_are_reported_as_all() {
    let (mut rig, satp, key) = copied();
    for page in 0..9 {
        let code = CODE + page * 0x1000;
        rig.guest.map(satp, code, 0, Pte::new(PAGE.0, TEXT));
        rig.fill(key, code, Access::Fetch);
        rig.fence(Some(code), None);
    }
    assert!(rig.shadow.take_dropped_code().is_some_and(|dropped| dropped.all));
}

#[test]
fn a_context_that_goes_reports_the_code_that_it_had_for_itself() {
    let (mut rig, satp, key) = copied();
    let low = ContextKey::new(Satp { asid: 7, ..satp }, SUPERVISOR);
    rig.guest.map(satp, 0x7000, 0, Pte::new(PAGE.0, KERNEL));
    assert_eq!(rig.fill(low, 0x7000, Access::Fetch).host, COPY);
    rig.shadow.take_dropped_code();
    // What is shared stays when contexts go, so only `low` has something to report.
    rig.activate(key);
    assert_eq!(rig.shadow.take_dropped_code(), None);
    for asid in 100..100 + CONTEXTS as u16 {
        rig.activate(ContextKey::new(Satp { asid, ..satp }, USER_MODE));
    }
    assert!(rig.shadow.numbered().all(|(_, key, _)| key != low));
    assert!(rig.shadow.take_dropped_code().is_some_and(|dropped| dropped.all));
}

#[test]
fn a_reset_reports_all() {
    let (mut rig, _, _) = copied();
    rig.shadow.clear();
    assert!(rig.shadow.take_dropped_code().is_some_and(|dropped| dropped.all));
}
