//! Which pages have copies or are guarded, and what the blocks count of them.

use super::*;

const BASE: GuestPhysAddr = GuestPhysAddr(0x8000_0000);
const PAGE: GuestPhysAddr = GuestPhysAddr(0x8030_5000);

/// Gives a page a copy; says whether it could.
fn insert(overlay: &Overlay, page: GuestPhysAddr, copy: HostPhysAddr) -> bool {
    overlay.close(page, copy) && overlay.publish(page)
}

/// Ends a page's copy.
fn remove(overlay: &Overlay, page: GuestPhysAddr) -> Option<HostPhysAddr> {
    overlay.unpublish(page).filter(|_| overlay.open(page))
}

fn is_guarded(overlay: &Overlay, page: GuestPhysAddr) -> bool {
    !overlay.rule(page).writable
}

#[test]
fn a_page_is_found_by_any_of_its_addresses_until_it_is_removed() {
    let overlay = Overlay::new(BASE, 4 * BLOCK_SIZE);
    assert!(insert(&overlay, PAGE, HostPhysAddr(0x1000)));
    assert_eq!(overlay.copy_of(PAGE.wrapping_add(0xfff)), Some(HostPhysAddr(0x1000)));
    assert_eq!(overlay.copy_of(PAGE.wrapping_add(0x1000)), None);
    assert!(overlay.touches_block(GuestPhysAddr(0x803f_ffff)));
    assert!(!overlay.touches_block(BASE));
    assert_eq!(remove(&overlay, PAGE), Some(HostPhysAddr(0x1000)));
    assert_eq!(overlay.copy_of(PAGE), None);
    assert!(!overlay.touches_block(PAGE));
}

#[test]
fn pages_at_the_same_distance_have_copies_and_an_address_outside_ram_has_none() {
    let overlay = Overlay::new(BASE, 64 * BLOCK_SIZE);
    for distance in [SETS, 16 * 256] {
        let page = |n: u64| PAGE.wrapping_add(n * distance * PAGE_SIZE);
        let copy = |n: u64| HostPhysAddr(0x1000 * (n + 1));
        let ways = WAYS as u64;
        assert!((0..ways).all(|n| insert(&overlay, page(n), copy(n))));
        assert!((0..ways).all(|n| overlay.copy_of(page(n)) == Some(copy(n))));
        assert!(!insert(&overlay, page(ways), copy(ways)) && overlay.copy_of(page(ways)).is_none());
        // What leaves makes room.
        assert_eq!(remove(&overlay, page(1)), Some(copy(1)));
        assert!(insert(&overlay, page(ways), copy(ways)));
        assert_eq!([1, 2, ways].map(|n| overlay.copy_of(page(n))), [None, Some(copy(2)), Some(copy(ways))]);
        overlay.clear();
    }
    assert!(!insert(&overlay, GuestPhysAddr(0), HostPhysAddr(0x2000)));
}

#[test]
fn a_page_is_watched_until_it_is_not_and_that_is_counted() {
    let overlay = Overlay::new(BASE, 4 * BLOCK_SIZE);
    let count = || overlay.unwatched().load(Ordering::Relaxed);
    assert!(overlay.watch(PAGE) && !overlay.watch(PAGE));
    assert!(overlay.is_watched(PAGE.wrapping_add(0xfff)) && !overlay.is_watched(PAGE.wrapping_add(0x1000)));
    assert!(overlay.touches_block(PAGE) && overlay.copy_of(PAGE).is_none());
    assert_eq!(count(), 0);
    assert!(overlay.unwatch(PAGE) && !overlay.unwatch(PAGE));
    assert!(!overlay.is_watched(PAGE) && !overlay.touches_block(PAGE));
    assert_eq!(count(), 1);
    assert!(!overlay.watch(GuestPhysAddr(0)) && !overlay.is_watched(GuestPhysAddr(0)));
    overlay.watch(PAGE);
    overlay.clear();
    assert!(!overlay.is_watched(PAGE) && !overlay.touches_block(PAGE));
    assert_eq!(count(), 2);
}

#[test]
fn the_last_pages_that_were_let_go_are_known() {
    let overlay = Overlay::new(BASE, 4 * BLOCK_SIZE);
    let let_go = |number: u64| {
        let page = BASE.wrapping_add(number * PAGE_SIZE);
        assert!(overlay.watch(page) && overlay.unwatch(page));
        page
    };
    let since = |before| {
        let now = overlay.unwatched().load(Ordering::Relaxed);
        overlay.unwatched_since(before, now).map(|pages| pages.to_vec())
    };
    assert_eq!(since(0), Some(alloc::vec![]));
    let pages = [3, 700, 3].map(let_go);
    assert_eq!(since(0), Some(pages.to_vec()));
    assert_eq!(since(1), Some(pages[1..].to_vec()));
    (0..LOG as u64 - 2).for_each(|number| _ = let_go(number));
    assert_eq!(since(0), None);
    assert_eq!(since(1).map(|pages| pages.len()), Some(LOG));
    // All were let go at once, and none by name.
    overlay.clear();
    assert_eq!(since(LOG as u64 + 1), None);
}

#[test]
fn a_write_of_ours_is_noted_once_and_only_on_its_pages() {
    let overlay = Overlay::new(BASE, 4 * BLOCK_SIZE);
    insert(&overlay, PAGE, HostPhysAddr(0x1000));
    let touched = |address, len| overlay.touched_pages(address, len).collect::<alloc::vec::Vec<_>>();
    assert_eq!(touched(BASE, BLOCK_SIZE), []);
    assert_eq!(touched(GuestPhysAddr(PAGE.0 - 1), 2), [GuestPhysAddr(PAGE.0 - PAGE_SIZE), PAGE]);
    assert_eq!(touched(BASE, 4 * BLOCK_SIZE).len() as u64, BLOCK_SIZE / PAGE_SIZE);
    assert_eq!(touched(GuestPhysAddr(u64::MAX), 2), []);
    assert!(overlay.passes_by(BASE, BLOCK_SIZE));
    assert!(overlay.passes_by(GuestPhysAddr(BASE.0 + BLOCK_SIZE - 1), 1));
    // The page's block, the border before it, and what is no RAM.
    assert!(!overlay.passes_by(GuestPhysAddr(PAGE.0 + PAGE_SIZE), 1));
    assert!(!overlay.passes_by(GuestPhysAddr(BASE.0 + BLOCK_SIZE - 1), 2));
    assert!(!overlay.passes_by(BASE, u64::MAX));
    assert!(!overlay.passes_by(GuestPhysAddr(BASE.0 - 1), 1));
    assert!(!overlay.passes_by(GuestPhysAddr(u64::MAX), 2));
    overlay.disturb(PAGE.wrapping_add(0x1000));
    assert!(!overlay.take_disturbed());
    overlay.disturb(PAGE);
    assert!(overlay.take_disturbed());
    assert!(!overlay.take_disturbed());
}

#[test]
fn a_scanned_page_is_guarded_until_it_is_stored_to() {
    let overlay = Overlay::new(BASE, 4 * BLOCK_SIZE);
    assert!(overlay.may_run(PAGE));
    overlay.require_scan();
    assert!(!overlay.may_run(PAGE) && !is_guarded(&overlay, PAGE));
    overlay.note_scanned(PAGE);
    assert!(overlay.may_run(PAGE) && is_guarded(&overlay, PAGE) && overlay.touches_block(PAGE));
    assert_eq!(overlay.released(), 0);
    overlay.forget_scanned(PAGE);
    assert!(!overlay.may_run(PAGE) && !is_guarded(&overlay, PAGE) && !overlay.touches_block(PAGE));
    assert_eq!(overlay.released(), 1);
    overlay.note_scanned(PAGE);
    overlay.exempt(PAGE);
    assert!(overlay.may_run(PAGE) && !is_guarded(&overlay, PAGE) && !overlay.touches_block(PAGE));
    // What follows a copy has to be scanned again.
    insert(&overlay, PAGE, HostPhysAddr(0x1000));
    overlay.note_scanned(PAGE);
    remove(&overlay, PAGE);
    assert!(!overlay.may_run(PAGE) && !overlay.touches_block(PAGE));
    assert_eq!(overlay.released(), 3);
    overlay.note_scanned(PAGE);
    overlay.clear();
    assert!(!overlay.touches_block(PAGE) && overlay.released() == 4);
}
