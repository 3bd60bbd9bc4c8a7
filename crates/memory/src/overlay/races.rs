//! What two harts do to the overlay at one time, in all interleavings: *plain-block*. `cargo xtask test` runs these with `--cfg loom`.

use loom::sync::Arc;
use loom::thread;

use super::*;

const BASE: GuestPhysAddr = GuestPhysAddr(0x4000_0000);
const FIRST: GuestPhysAddr = BASE;
const SECOND: GuestPhysAddr = GuestPhysAddr(BASE.0 + PAGE_SIZE);
const COPY: HostPhysAddr = HostPhysAddr(0x1000);
const OTHER_COPY: HostPhysAddr = HostPhysAddr(0x2000);

/// Gives a page a copy; says whether it could.
fn insert(overlay: &Overlay, page: GuestPhysAddr, copy: HostPhysAddr) -> bool {
    overlay.close(page, copy) && overlay.publish(page)
}

/// Ends a page's copy.
fn remove(overlay: &Overlay, page: GuestPhysAddr) -> Option<HostPhysAddr> {
    overlay.unpublish(page).filter(|_| overlay.open(page))
}

/// Explores what two harts do at one time to one block that is filled in, after `before`, and looks at it `after` that. Each
/// part is explored as the thread's and as the model's own: `loom` forgets that a load of one part comes before a store of
/// the other one where the second loads, too, so it would leave out interleavings of one order.
fn race(
    before: impl Fn(&Overlay) + Copy + Send + Sync + 'static,
    one: impl Fn(&Overlay) + Copy + Send + Sync + 'static,
    other: impl Fn(&Overlay) + Copy + Send + Sync + 'static,
    after: impl Fn(&Overlay) + Copy + Send + Sync + 'static,
) {
    explore(before, one, other, after);
    explore(before, other, one, after);
}

fn explore(
    before: impl Fn(&Overlay) + Send + Sync + 'static,
    threads: impl Fn(&Overlay) + Copy + Send + Sync + 'static,
    own: impl Fn(&Overlay) + Send + Sync + 'static,
    after: impl Fn(&Overlay) + Send + Sync + 'static,
) {
    loom::model(move || {
        let overlay = Arc::new(Overlay::new(BASE, BLOCK_SIZE));
        assert!(overlay.blocks()[0].begin_filling());
        overlay.blocks()[0].end_filling();
        before(&overlay);
        let shared = Arc::clone(&overlay);
        let thread = thread::spawn(move || threads(&shared));
        own(&overlay);
        thread.join().unwrap();
        after(&overlay);
    });
}

fn is_plain(overlay: &Overlay) -> bool {
    overlay.blocks()[0].is_plain()
}

#[test]
fn a_block_is_not_plain_while_a_page_has_a_copy() {
    race(
        |overlay| assert!(overlay.watch(FIRST)),
        |overlay| assert!(overlay.unwatch(FIRST)),
        |overlay| {
            assert!(insert(overlay, SECOND, COPY));
            assert!(!is_plain(overlay));
        },
        |overlay| assert!(!is_plain(overlay)),
    );
}

#[test]
fn a_copy_that_another_hart_ends_at_once_is_counted_once() {
    race(
        |overlay| assert!(overlay.watch(FIRST)),
        |overlay| {
            remove(overlay, SECOND);
            assert!(!is_plain(overlay));
        },
        |overlay| {
            assert!(insert(overlay, SECOND, COPY));
            assert!(!is_plain(overlay));
        },
        |overlay| {
            remove(overlay, SECOND);
            assert!(!is_plain(overlay));
            assert!(overlay.unwatch(FIRST));
            assert!(is_plain(overlay));
        },
    );
}

#[test]
fn a_copy_that_two_harts_end_is_counted_no_longer_once() {
    race(
        |overlay| assert!(insert(overlay, FIRST, COPY) && overlay.watch(SECOND)),
        |overlay| {
            remove(overlay, FIRST);
        },
        |overlay| {
            remove(overlay, FIRST);
        },
        |overlay| {
            assert!(!is_plain(overlay));
            assert!(overlay.unwatch(SECOND) && is_plain(overlay));
        },
    );
}

#[test]
fn a_place_that_goes_to_another_page_never_has_its_copy_for_the_first() {
    race(
        |overlay| assert!(insert(overlay, FIRST, COPY)),
        |overlay| {
            assert_eq!(remove(overlay, FIRST), Some(COPY));
            assert!(insert(overlay, SECOND, OTHER_COPY));
        },
        |overlay| {
            assert!([None, Some(COPY)].contains(&overlay.copy_of(FIRST)));
            assert!([None, Some(OTHER_COPY)].contains(&overlay.copy_of(SECOND)));
        },
        |overlay| assert_eq!(overlay.copy_of(SECOND), Some(OTHER_COPY)),
    );
}

#[test]
fn a_place_goes_to_one_of_two_pages() {
    race(
        |_| {},
        |overlay| {
            insert(overlay, FIRST, COPY);
        },
        |overlay| {
            insert(overlay, SECOND, OTHER_COPY);
        },
        |overlay| {
            let (first, second) = (remove(overlay, FIRST), remove(overlay, SECOND));
            assert!(first.is_some() != second.is_some());
            assert!(is_plain(overlay));
        },
    );
}

#[test]
fn a_page_that_two_harts_watch_is_counted_once() {
    race(
        |_| {},
        |overlay| {
            overlay.watch(FIRST);
            assert!(overlay.is_watched(FIRST) && !is_plain(overlay));
        },
        |overlay| {
            overlay.watch(FIRST);
            assert!(overlay.is_watched(FIRST) && !is_plain(overlay));
        },
        |overlay| assert!(overlay.unwatch(FIRST) && is_plain(overlay)),
    );
}

#[test]
fn what_is_watched_while_everything_is_taken_out_is_counted_as_often_as_it_is_watched() {
    race(
        |overlay| assert!(overlay.watch(SECOND)),
        |overlay| {
            overlay.watch(FIRST);
        },
        Overlay::clear,
        |overlay| {
            assert_eq!(overlay.is_watched(FIRST), !is_plain(overlay));
            overlay.unwatch(FIRST);
            assert!(is_plain(overlay));
        },
    );
}

#[test]
fn one_hart_fills_a_block_in_and_a_guarded_page_in_it_is_not_lost() {
    loom::model(|| {
        let overlay = Arc::new(Overlay::new(BASE, BLOCK_SIZE));
        let fill = |overlay: &Overlay| {
            let block = &overlay.blocks()[0];
            let begins = block.begin_filling();
            if begins {
                assert!(!block.is_plain() && !block.is_filled());
                block.end_filling();
            }
            begins
        };
        let shared = Arc::clone(&overlay);
        let thread = thread::spawn(move || fill(&shared));
        overlay.watch(FIRST);
        assert!(!is_plain(&overlay));
        let begins = fill(&overlay);
        assert!(thread.join().unwrap() != begins, "one of them fills it in");
        assert!(overlay.blocks()[0].is_filled() && !is_plain(&overlay));
    });
}

#[test]
fn pages_that_were_let_go_are_all_known_or_none_while_another_is_let_go() {
    race(
        |overlay| assert!(overlay.watch(FIRST) && overlay.unwatch(FIRST) && overlay.watch(SECOND)),
        |overlay| {
            let pages = overlay.unwatched_since(0, 1);
            assert!(pages.is_none_or(|pages| pages[..] == [FIRST]));
        },
        |overlay| assert!(overlay.unwatch(SECOND)),
        |overlay| assert!(overlay.unwatched_since(1, 2).is_some_and(|pages| pages[..] == [SECOND])),
    );
}
