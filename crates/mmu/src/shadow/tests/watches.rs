//! Guest tables that are watched, and fences that have nothing to do then.

use super::*;
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
