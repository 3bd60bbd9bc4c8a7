//! What the assembly does between two exits to Rust, a second time: it goes on under another root that it was told of
//! (`crates/hart/src/fast/sites.s`), and fills in pages by hints (`page_fault.s`).

use super::hart::Hart;
use super::machine::History;
use super::*;
use crate::pool::TablePool;
use crate::walk::last_table;

/// What becomes of a page fault.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Served {
    /// The page is there now.
    Filled,
    /// It is the fault of the guest's user.
    Fault,
    /// It is Rust's.
    Left,
}

impl History {
    /// The assembly enters one of the contexts, if it can be used as it is, and the hart accesses an address there.
    pub(super) fn access_fast(&mut self, hart: &mut Hart, key: ContextKey, address: u64, access: Access) {
        if !hart.runs(self.number) {
            self.enter(hart, key);
        }
        // What came last left nothing to be fenced before the guest went on.
        self.flush(hart);
        let Some(root) = self.rig.shadow.root(key) else { return };
        hart.switch_fast(self.number, &self.rig.shadow, root);
        self.entered.push(key.satp);
        self.check_fenced(key);
        self.note(address);
        if hart.access(&self.rig.shadow, address, access) {
            return;
        }
        match self.fill_fast(key, root, address, access) {
            Served::Filled => {
                self.look(key, address);
                let leaf =
                    hardware::walk(&self.rig.shadow, root.table, address).expect("a filled page is there");
                assert!(leaf.permits(access), "{leaf:x?} refuses {access:?}");
                self.assert_true_of_the_guest(key, leaf, address);
            }
            Served::Fault => {
                let reached =
                    self.rig.guest.reference(key.satp, GuestVirtAddr(address), access, key.view.rights());
                assert!(reached.is_err(), "{access:?} at {address:#x} in {key:x?} is allowed");
            }
            Served::Left => {}
        }
    }

    fn fill_fast(&mut self, key: ContextKey, root: Root, address: u64, access: Access) -> Served {
        let Rig { guest, shadow } = &mut self.rig;
        let is_user = matches!(key.view, View::User { .. });
        let found_by = match address >> 63 {
            0 => shadow.satp(root).bits(),
            _ if is_user => return Served::Left,
            _ => 0,
        };
        let Some(hint) = shadow.hints.find(address / BLOCK_SIZE, found_by) else { return Served::Left };
        // The assembly does not ask these. It may go by pointers that the guest has changed and not fenced, as hardware may;
        // and it may fill in the shared half where this context has another, which finds nothing there then.
        let now = last_table(&guest.ram, key.satp, GuestVirtAddr(address));
        let leads_there =
            now.is_some_and(|(table, global)| table.0 == hint.guest_table && (global || !hint.global));
        let shares = shadow.find(key).is_some_and(|(_, context)| context.shares);
        if !leads_there || found_by == 0 && !shares {
            return Served::Left;
        }
        let refused = if is_user { Served::Fault } else { Served::Left };
        let wanted = match access {
            Access::Fetch => Pte::X,
            Access::Load => Pte::R,
            Access::Store => Pte::W,
        };
        let (table, slot) = (TablePool::numbered(hint.table), paging::index(address, 0));
        let entry = guest.get(GuestPhysAddr(hint.guest_table), slot).0;
        if entry & hint.ready.mask() != hint.ready.value() {
            return if entry & Pte::V == 0 { refused } else { Served::Left };
        }
        let written = if entry & Pte::D != 0 { entry & Pte::W } else { 0 };
        let flags = entry & hint.ready.kept() | written;
        if flags & wanted == 0 {
            return if entry & wanted == 0 { refused } else { Served::Left };
        }
        let Some(host) = guest.host_of(Pte(entry).address()) else { return Served::Left };
        let block = (Pte(entry).address() - RAM_BASE) / BLOCK_SIZE;
        let is_plain = guest.ram.blocks()[block as usize].is_plain();
        if shadow.pool.entry(table, slot).0 != 0 || !is_plain {
            return Served::Left;
        }
        const LEAF: u64 = Pte::V | Pte::U | Pte::A | Pte::D;
        shadow.pool.set_entry(table, slot, Pte::new(host.0, flags | LEAF), entry);
        self.filled_writable |= written != 0;
        Served::Filled
    }
}
