//! Guest tables that are watched, and fences that have nothing to do then.

use super::*;
use crate::pool::Source;
use crate::testing::{KERNEL, RAM_BASE, SUPERVISOR};

/// In the lower half, where each space is for itself.
const VA: u64 = 0x4000_0000;
/// Where the space's tables can be written.
const TABLES_AT: u64 = 0x5000_0000;

impl Rig {
    /// The space's tables for two ranges, each of which maps a page: of data, and the first range's last table.
    fn kernel(&mut self) -> (ContextKey, GuestPhysAddr) {
        let satp = self.guest.space(Mode::Sv39, 0);
        self.guest.map(satp, VA, 0, Pte::new(RAM_BASE, KERNEL));
        let (table, _) = self.guest.looked_at(satp, GuestVirtAddr(VA), 0).unwrap();
        self.guest.map(satp, TABLES_AT, 0, Pte::new(table.0, KERNEL));
        (ContextKey::new(satp, SUPERVISOR), table)
    }

    /// Fences everything and lets it be compared, often enough for tables to be watched.
    fn fence_often(&mut self, key: ContextKey) {
        for _ in 0..4 {
            self.fence(None, None);
            self.activate(key);
        }
    }

    fn is_settled(&self) -> bool {
        self.shadow.settled()
            == self.guest.ram.overlay().unwatched().load(core::sync::atomic::Ordering::Relaxed)
    }
}

#[test]
fn what_is_made_of_watched_tables_alone_stays_as_it_is_at_a_fence() {
    let mut rig = Rig::new(Mode::Sv48);
    let (key, table) = rig.kernel();
    rig.fill(key, VA, Access::Load);
    assert!(!rig.is_settled());
    rig.fence_often(key);
    assert!(rig.guest.ram.overlay().is_watched(table));
    assert!(rig.is_settled());
    let root = rig.activate(key);
    rig.shadow.take_lost_roots();
    rig.fence(None, None);
    assert_eq!((rig.shadow.root(key), rig.shadow.take_lost_roots()), (Some(root), LostRoots::None));
}

#[test]
fn a_fill_from_another_table_unsettles_until_that_is_watched_too() {
    let mut rig = Rig::new(Mode::Sv48);
    let (key, _) = rig.kernel();
    rig.fill(key, VA, Access::Load);
    rig.fence_often(key);
    rig.guest.map(key.satp, VA + BLOCK_SIZE, 0, Pte::new(RAM_BASE, KERNEL));
    rig.fence_often(key);
    assert!(rig.is_settled());
    rig.fill(key, VA + BLOCK_SIZE, Access::Load);
    assert!(!rig.is_settled());
    rig.guest.map(key.satp, VA + BLOCK_SIZE, 0, Pte(0));
    rig.fence(None, None);
    assert!(rig.seen(key, VA + BLOCK_SIZE).is_none());
}

#[test]
fn a_store_to_a_watched_table_is_noticed_by_whatever_mapping() {
    let mut rig = Rig::new(Mode::Sv48);
    let (key, table) = rig.kernel();
    // Writable before the watch begins.
    rig.fill(key, TABLES_AT, Access::Store);
    rig.fill(key, VA, Access::Load);
    rig.fence_often(key);
    assert!(rig.is_settled());
    assert!(rig.seen(key, TABLES_AT).is_none_or(|leaf| !leaf.permits(Access::Store)));
    assert!(rig.fill(key, TABLES_AT, Access::Load).permits(Access::Load));
    assert_eq!(rig.resolve(key, TABLES_AT, Access::Store), Verdict::Overlaid(table));
    rig.shadow.unwatch(&rig.guest.ram, table);
    assert!(rig.fill(key, TABLES_AT, Access::Store).permits(Access::Store));
    assert!(!rig.is_settled());
    // What is stored then is seen at the next fence.
    rig.guest.map(key.satp, VA, 0, Pte(0));
    assert!(rig.seen(key, VA).is_some());
    rig.fence(None, None);
    assert!(rig.seen(key, VA).is_none());
}

#[test]
fn a_write_of_the_hypervisors_own_ends_a_watch() {
    let mut rig = Rig::new(Mode::Sv48);
    let (key, table) = rig.kernel();
    rig.fill(key, VA, Access::Load);
    rig.fence_often(key);
    rig.guest.ram.write(table, &[0; 4096]).unwrap();
    assert!(!rig.is_settled() && !rig.guest.ram.overlay().is_watched(table));
    rig.fence(None, None);
    assert!(rig.seen(key, VA).is_none());
}

#[test]
fn a_root_that_is_not_watched_is_asked_about_though_another_one_was() {
    let mut rig = Rig::new(Mode::Sv48);
    let [(first, _), (second, _)] = [(); 2].map(|()| rig.kernel());
    let address = 0_u64.wrapping_sub(BLOCK_SIZE);
    rig.guest.map(first.satp, address, 0, Pte::new(RAM_BASE, KERNEL | Pte::G));
    rig.fill(first, address, Access::Load);
    rig.fence_often(first);
    assert!(rig.is_settled());
    // The second space has nothing there, and a fence may not leave what the first has.
    rig.activate(second);
    rig.fence(None, None);
    assert_eq!(rig.seen(second, address), None);
}

#[test]
fn fences_that_were_passed_by_reach_a_root_that_comes_later() {
    let mut rig = Rig::new(Mode::Sv48);
    let [(first, table), (second, _)] = [(); 2].map(|()| rig.kernel());
    let address = 0_u64.wrapping_sub(BLOCK_SIZE);
    rig.guest.map(first.satp, address, 0, Pte::new(RAM_BASE, KERNEL | Pte::G));
    rig.fill(first, VA, Access::Load);
    rig.fill(first, address, Access::Load);
    rig.fence_often(first);
    let bare = ContextKey::new(Satp::BARE, SUPERVISOR);
    for by_address in [false, true] {
        rig.activate(bare);
        rig.fence(None, None);
        if by_address {
            rig.shadow.unwatch(&rig.guest.ram, table);
            rig.fence(Some(VA), None);
        }
        assert_eq!((rig.seen(second, address), rig.shadow.root(second).is_some()), (None, true));
        rig.fill(first, address, Access::Load);
        rig.fence_often(first);
    }
}

#[test]
fn roots_that_are_watched_and_have_the_same_are_settled_together() {
    let mut rig = Rig::new(Mode::Sv48);
    let keys = [(); 3].map(|()| rig.kernel().0);
    let address = 0_u64.wrapping_sub(BLOCK_SIZE);
    rig.guest.map(keys[0].satp, address, 0, Pte::new(RAM_BASE, KERNEL | Pte::G));
    let (root, slot) = rig.guest.place(keys[0].satp, address, 2);
    for key in &keys[1..] {
        rig.guest.map(key.satp, address, 2, rig.guest.get(root, slot));
    }
    rig.fill(keys[0], address, Access::Load);
    for _ in 0..2 {
        keys.iter().for_each(|key| rig.fence_often(*key));
    }
    rig.shadow.take_lost_roots();
    for key in keys {
        assert!(rig.shadow.root(key).is_some());
        rig.activate(key);
        assert!(rig.is_settled());
    }
    assert_eq!(rig.shadow.take_lost_roots(), LostRoots::None);
}

/// A process whose first tables are watched, and which has a page in another one that is not.
fn growing() -> (Rig, ContextKey, GuestPhysAddr) {
    let mut rig = Rig::new(Mode::Sv48);
    let (key, table) = rig.kernel();
    rig.guest.map(key.satp, VA + BLOCK_SIZE, 0, Pte::new(RAM_BASE, KERNEL));
    rig.fill(key, VA, Access::Load);
    rig.fence_often(key);
    rig.fill(key, VA + BLOCK_SIZE, Access::Load);
    (rig, key, table)
}

/// The guest's tables that a fence has to ask about in the context for `key`.
fn loose(rig: &Rig, key: ContextKey) -> Vec<Source> {
    let (_, context) = rig.shadow.find(key).unwrap();
    let root = (context.root, rig.shadow.pool.source(context.root));
    let tables = core::iter::successors(context.tables.first(), |table| rig.shadow.pool.next(*table));
    let all = tables.map(|table| (table, rig.shadow.pool.source(table))).chain([root]);
    all.filter(|(table, _)| rig.shadow.pool.is_loose(*table)).map(|(_, source)| source).collect()
}

#[test]
fn a_fence_asks_about_the_tables_that_are_not_watched_alone() {
    let (rig, key, table) = growing();
    let (grown, _) = rig.guest.looked_at(key.satp, GuestVirtAddr(VA + BLOCK_SIZE), 0).unwrap();
    assert!(rig.guest.ram.overlay().is_watched(table) && !rig.guest.ram.overlay().is_watched(grown));
    assert_eq!(loose(&rig, key), [Source::Table(grown)]);
}

#[test]
fn a_watched_table_that_is_written_is_asked_about_and_the_others_are_not() {
    for by_device in [false, true] {
        let (mut rig, key, table) = growing();
        rig.fence_often(key);
        assert!(rig.is_settled());
        if by_device {
            rig.guest.ram.write(table, &[0; 8]).unwrap();
        } else {
            rig.shadow.unwatch(&rig.guest.ram, table);
        }
        rig.fence(None, None);
        assert_eq!(loose(&rig, key), [Source::Table(table)]);
    }
}

#[test]
fn a_table_that_keeps_changing_is_never_watched() {
    let (mut rig, key, _) = growing();
    let (grown, slot) = rig.guest.looked_at(key.satp, GuestVirtAddr(VA + BLOCK_SIZE), 0).unwrap();
    for round in 0..20 {
        rig.guest.set(grown, slot, Pte::new(RAM_BASE + (round + 1) % 2 * PAGE_SIZE, KERNEL));
        rig.fence(None, None);
        rig.fill(key, VA + BLOCK_SIZE, Access::Load);
        assert!(!rig.guest.ram.overlay().is_watched(grown), "{round}");
    }
}

#[test]
fn more_tables_than_are_remembered_may_be_let_go_at_once() {
    let mut rig = Rig::new(Mode::Sv48);
    let (key, _) = rig.kernel();
    let ranges = (0..40).map(|nth| VA + 4 * (BLOCK_SIZE << 4) + nth * BLOCK_SIZE).collect::<Vec<_>>();
    for range in &ranges {
        rig.guest.map(key.satp, *range, 0, Pte::new(RAM_BASE, KERNEL));
        rig.fill(key, *range, Access::Load);
    }
    (0..4).for_each(|_| rig.fence_often(key));
    assert!(rig.is_settled());
    ranges.iter().for_each(|range| rig.guest.map(key.satp, *range, 0, Pte(0)));
    rig.fence(None, None);
    assert!(ranges.iter().all(|range| rig.seen(key, *range).is_none()));
}

#[test]
fn a_table_that_two_spaces_share_is_asked_about_in_both() {
    let mut rig = Rig::new(Mode::Sv48);
    let (key, table) = rig.kernel();
    let other = ContextKey::new(rig.guest.space(Mode::Sv39, 0), SUPERVISOR);
    let (root, slot) = rig.guest.place(key.satp, VA, 2);
    let (other_root, _) = rig.guest.place(other.satp, VA, 2);
    rig.guest.set(other_root, slot, rig.guest.get(root, slot));
    for key in [key, other] {
        rig.fill(key, VA, Access::Load);
        rig.fence_often(key);
    }
    rig.fence_often(key);
    assert!(rig.is_settled());
    rig.shadow.unwatch(&rig.guest.ram, table);
    rig.guest.map(key.satp, VA, 0, Pte(0));
    rig.fence(None, None);
    // The first to be compared may watch it again.
    for _ in 0..3 {
        assert!(rig.seen(key, VA).is_none());
        rig.fence(None, None);
    }
    assert!(rig.seen(other, VA).is_none());
}

#[test]
fn a_watch_that_lasts_may_soon_begin_again_and_one_that_does_not_waits() {
    for (fences, rounds) in [(1, 2), (20, 1)] {
        let (mut rig, key, table) = growing();
        (0..fences).for_each(|_| _ = rig.fence(None, None));
        rig.shadow.unwatch(&rig.guest.ram, table);
        let again = (1..5).find(|_| {
            rig.fence(None, None);
            rig.activate(key);
            rig.guest.ram.overlay().is_watched(table)
        });
        assert_eq!(again, Some(rounds), "after {fences} fences");
    }
}

#[test]
fn what_has_more_loose_entries_than_a_fence_may_compare_is_forgotten() {
    for upper in [0, 0_u64.wrapping_sub(1 << 38)] {
        let mut rig = Rig::new(Mode::Sv48);
        let (key, _) = rig.kernel();
        let ranges: Vec<_> = (0..52).map(|nth| (VA + nth * BLOCK_SIZE) | upper).collect();
        for range in &ranges {
            rig.guest.map(key.satp, *range, 0, Pte::new(RAM_BASE, KERNEL | Pte::G));
            rig.fill(key, *range, Access::Load);
        }
        let taken = rig.shadow.pool.capacity() - rig.shadow.pool.available();
        assert!(taken >= 52);
        rig.fence(None, None);
        assert!(ranges.iter().all(|range| rig.seen(key, *range).is_none()));
        assert!(rig.shadow.pool.available() + 3 >= rig.shadow.pool.capacity());
        ranges.iter().for_each(|range| _ = rig.fill(key, *range, Access::Load));
        assert!(crate::check::check(&rig.shadow, &rig.guest.ram).is_ok());
    }
}
