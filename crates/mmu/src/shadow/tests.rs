//! Shadow tables, by what the hardware sees of them: `hardware` walks them as a hart in user mode does, `tlb` is what it may
//! have cached; then the rules one by one; then `histories`, random sequences of everything.

mod contexts;
mod fences;
mod fills;
mod hardware;
mod histories;
mod overlays;
mod sharing;
mod tlb;
mod trust;
mod watches;
mod window;

use std::vec;
use std::vec::Vec;

use isa::paging::{Mode, Pte, Satp};
use memory::{BLOCK_SIZE, HartAuthority, HostPhysAddr, PAGE_SIZE};
use vhart::{SharedTable, Window};

use super::*;
use crate::asids::AsidSpace;
use crate::context::View;
use crate::pool::TableId;
use crate::testing::Guest;
use crate::walk::Rights;
use hardware::Leaf;

/// Where the shadow pool is in host memory.
pub(crate) const POOL_BASE: HostPhysAddr = HostPhysAddr(0x2_0000_0000);
/// The modes of hosts.
pub(crate) const HOSTS: [Mode; 3] = [Mode::Sv39, Mode::Sv48, Mode::Sv57];

/// A host with the hypervisor in two root entries, one a table and one a leaf. With Sv39 they are slots that a
/// guest's tables may use.
pub(crate) fn host(mode: Mode) -> HostPaging {
    let first_slot = if mode == Mode::Sv39 { 255 } else { 100 };
    let table = Pte::new(0x8010_0000, Pte::V);
    let leaf = Pte::new(0, Pte::V | Pte::R | Pte::W | Pte::G | Pte::A | Pte::D);
    HostPaging {
        mode,
        window: Window { first_slot, entries: [table, leaf].into_iter().collect() },
        asids: AsidSpace::new(16, 1).deal(),
    }
}

/// Empty shadows on such a host, with a pool of `tables`, the roots among them, of a kernel that is trusted.
pub(crate) fn shadow(mode: Mode, tables: usize) -> ShadowMmu {
    shadow_at(host(mode), tables, POOL_BASE)
}

/// The same, with the pool at `base`.
fn shadow_at(host: HostPaging, tables: usize, base: HostPhysAddr) -> ShadowMmu {
    let HostPaging { mode, window, asids } = host;
    let tables: Vec<_> = (0..2 * tables).map(|_| SharedTable::filled_with(u64::MAX)).collect();
    let tables = HostTables::new(tables.leak(), base, mode, window, HartAuthority::simulated());
    let mut shadow = ShadowMmu::new(tables, asids);
    shadow.trust_kernel();
    assert_eq!(shadow.take_flush(), TlbFlush::All);
    shadow
}

impl ShadowMmu {
    /// Overwrites an entry of the root for `key`, to break what the code never breaks.
    pub(crate) fn spoil(&mut self, key: ContextKey, address: GuestVirtAddr, level: usize, entry: Pte) {
        let root = self.root(key).unwrap().table;
        let mut table = self.pool.at(root).unwrap();
        for above in (level + 1..self.host.mode.levels()).rev() {
            let pointer = self.pool.entry(table, paging::index(address.0, above));
            table = self.pool.at(HostPhysAddr(pointer.address())).unwrap();
        }
        self.spoil_table(table, paging::index(address.0, level), entry);
    }

    /// Overwrites an entry of a table.
    pub(crate) fn spoil_table(&mut self, table: TableId, slot: usize, entry: Pte) {
        self.pool.set_entry(table, slot, entry, 0);
        self.pool.memory().spoil(TablePool::number(table), slot, entry.0);
    }

    /// The roots of all contexts, by number.
    fn numbered(&self) -> impl Iterator<Item = (usize, ContextKey, HostPhysAddr)> + '_ {
        let contexts = self.contexts.iter().enumerate();
        contexts.filter_map(|(number, context)| {
            let context = context.as_ref()?;
            Some((number, context.key, self.pool.address(context.root)))
        })
    }
}

/// A guest and its shadow.
struct Rig {
    guest: Guest,
    shadow: ShadowMmu,
}

impl Rig {
    fn new(mode: Mode) -> Self {
        Self { guest: Guest::new(), shadow: shadow(mode, 128) }
    }

    fn activate(&mut self, key: ContextKey) -> Root {
        self.shadow.activate(&self.guest.ram, key)
    }

    /// What the hardware finds at `address` in the context for `key`.
    fn seen(&mut self, key: ContextKey, address: u64) -> Option<Leaf> {
        let root = self.activate(key).table;
        hardware::walk(&self.shadow, root, address)
    }

    fn resolve(&mut self, key: ContextKey, address: u64, access: Access) -> Verdict {
        self.shadow.resolve(&self.guest.ram, key, GuestVirtAddr(address), access)
    }

    /// Resolves a fault that must lead to a fill, and returns what the hardware finds then.
    fn fill(&mut self, key: ContextKey, address: u64, access: Access) -> Leaf {
        assert_eq!(self.resolve(key, address, access), Verdict::Filled, "{address:#x}");
        let leaf = self.seen(key, address).expect("a filled page is there");
        assert!(leaf.permits(access), "{access:?} at {address:#x} would fault again: {leaf:x?}");
        leaf
    }

    /// Carries out SFENCE.VMA, with no flush pending before it and watches begun, and returns the flush that it wants.
    fn fence(&mut self, address: Option<u64>, asid: Option<u16>) -> TlbFlush {
        self.shadow.take_flush();
        self.shadow.take_new_watches();
        self.shadow.fence(&self.guest.ram, address.map(GuestVirtAddr), asid);
        self.shadow.take_flush()
    }
}
