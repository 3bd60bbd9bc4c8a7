//! Shadow page tables as a virtual TLB: filled from the guest's tables when the hardware faults, kept for each
//! context across satp writes, and dropped only by the guest's fences, or for want of room.
//!
//! Here are the state and the verdict on a fault. `contexts` finds, makes and releases roots; `fill` writes leaves, by what
//! `mapping` allows, and `hints` without a walk; `forget` drops them; `compare` keeps what the guest has not changed.
//! Belongs to one vCPU, so it needs no lock. Guest tables are not write-protected, but for those that `watch` finds to
//! stay as they are.
//!
//! The upper half of the address space, where kernels keep what all their address spaces have in common, is shared by
//! the contexts of supervisor mode as long as what is filled there is global and no user page: it is filled, and
//! fenced, once for all of them. A kernel that does not reach into its users' half needs nothing else: all its address
//! spaces run under the shared half's own root.

use alloc::boxed::Box;

use arrayvec::ArrayVec;
use isa::Exception;
use isa::paging;
use memory::{GuestPhysAddr, GuestRam, GuestVirtAddr};
use vhart::{HintTable, HostTables, RootSatp};

use crate::asids::AsidBlock;
use crate::context::ContextKey;
use crate::pool::TablePool;
use crate::walk::{Access, translate_by};

mod compare;
mod contexts;
mod effects;
mod fill;
mod forget;
mod hints;
mod host;
mod mapping;
pub(crate) mod roots;
#[cfg(test)]
pub(crate) mod tests;
mod trust;
mod watch;
mod writable;

use contexts::{Context, SharedHalf};
pub use effects::{DroppedCode, LostRoots, TlbFlush};
use fill::Walked;
pub use host::HostPaging;
use mapping::mapping;
use roots::KERNEL;
pub(crate) use roots::ROOTS;
pub use roots::{CONTEXTS, Root};
use writable::Writable;

/// The fewest tables that a pool may have: what one instruction can need at once (two pages fetched, two pages
/// accessed, five levels each) must fit beside the roots, or it would never finish.
pub const MIN_TABLES: usize = ROOTS + 32;

/// What a fault of the hardware under a shadow root means.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// The shadow has the page now; let the guest try again.
    Filled,
    /// The guest allows the access, but there is no RAM at this address: a device or a hole.
    NotRam(GuestPhysAddr),
    /// The guest allows the access, but its kernel's code is fetched from a copy of this page, so a load must be served
    /// from RAM by hand, and a store must end the copy first; or the page is watched, which a store must end.
    Overlaid(GuestPhysAddr),
    /// The guest may execute this page, whose code must be looked at before.
    Unscanned,
    /// The guest's own fault.
    Fault(Exception),
    /// The guest has mapped an address that the hypervisor occupies (hosts with Sv39 only).
    Collision,
}

/// The first slot of a root's upper half.
pub(crate) const UPPER: usize = 256;

/// The shadow page tables of one vCPU.
#[derive(Debug)]
pub struct ShadowMmu {
    host: HostPaging,
    pool: TablePool,
    contexts: Box<[Option<Context>]>,
    /// The first context for each ASID modulo their number.
    chains: [Option<u8>; CONTEXTS],
    shared: Option<SharedHalf>,
    /// The contexts that there are, a bit each.
    live: u64,
    /// The contexts that have something in an upper half of their own, a bit each.
    own_uppers: u64,
    /// The contexts that have loose tables and are not stale, a bit each: see `watch`.
    restless: u64,
    /// Whether the shared half is.
    restless_shared: bool,
    /// `Overlay::unwatched` when that was last looked at.
    unwatched: u64,
    limits: watch::Limits,
    trust: trust::Trust,
    /// Guest tables that are watched from now on.
    new_watches: ArrayVec<GuestPhysAddr, { watch::AT_ONCE }>,
    current: Option<usize>,
    /// The contexts that were made current since the last time that all had been, a bit each.
    recent: u64,
    /// Where the search for a context to release goes on.
    next_victim: u32,
    flush: TlbFlush,
    lost_roots: LostRoots,
    dropped_code: DroppedCode,
    /// Pages and blocks of guest RAM that a writable leaf may map, a bit each.
    writable: Writable,
    /// Where faults are likely to come again; the assembly works on the same.
    hints: HintTable,
    /// Contexts and addresses of fences whose hints may be wrong.
    doubted: ArrayVec<(u8, GuestVirtAddr), 8>,
    /// Fences so far, and whatever else ends translations.
    fences: u64,
    /// Leaves written since the start.
    pub fills: u64,
}

impl ShadowMmu {
    /// Empty shadows in half of `tables`; the other half is for keeping account of them. `asids` are the real ASIDs of the roots.
    ///
    /// # Panics
    /// With fewer than twice `MIN_TABLES` tables.
    pub fn new(tables: HostTables, asids: Option<AsidBlock>) -> Self {
        assert!(tables.len() >= 2 * MIN_TABLES, "a shadow pool of {} tables is too small", tables.len() / 2);
        let host = HostPaging { mode: tables.mode(), window: tables.window().clone(), asids };
        let contexts = (0..ROOTS).map(|_| None).collect();
        let mut pool = TablePool::new(tables);
        let top = host.mode.levels().saturating_sub(1);
        for number in 0..ROOTS {
            pool.fixed(number, top);
        }
        let hints = HintTable::new(pool.memory());
        Self {
            host,
            pool,
            contexts,
            chains: [None; CONTEXTS],
            shared: None,
            live: 0,
            own_uppers: 0,
            restless: 0,
            restless_shared: false,
            unwatched: 0,
            limits: watch::Limits::new(),
            trust: trust::Trust::default(),
            new_watches: ArrayVec::new(),
            current: None,
            recent: 0,
            next_victim: 0,
            flush: TlbFlush::All,
            lost_roots: LostRoots::None,
            dropped_code: DroppedCode::default(),
            writable: Writable::default(),
            hints,
            doubted: ArrayVec::new(),
            fences: 0,
            fills: 0,
        }
    }

    /// How the host translates.
    pub fn host(&self) -> &HostPaging {
        &self.host
    }

    /// Whose roots may no longer be used, or not before `activate` has seen to it; the next call says nobody's.
    #[inline]
    pub fn take_lost_roots(&mut self) -> LostRoots {
        // Not by `take` alone, which would write at each exit.
        if self.lost_roots == LostRoots::None {
            return LostRoots::None;
        }
        core::mem::take(&mut self.lost_roots)
    }

    /// The real satp that runs the guest under `root`.
    #[inline]
    pub fn satp(&self, root: Root) -> RootSatp {
        self.satp_of(root.number)
    }

    /// The same, by the root's number.
    #[inline]
    fn satp_of(&self, number: usize) -> RootSatp {
        let asid = self.host.asids.map_or(0, |asids| asids.of(number));
        self.pool.memory().satp(number, asid)
    }

    /// Whether this value for the real satp names one of the vCPU's own roots, by the ASID of that root: *own-root*.
    pub fn owns(&self, satp: RootSatp) -> bool {
        (0..ROOTS).any(|number| satp == self.satp_of(number))
    }

    /// Whether this value for the real satp names the root that kernels share.
    #[inline]
    pub fn is_kernels_root(&self, satp: RootSatp) -> bool {
        satp == self.satp_of(KERNEL)
    }

    /// Whether there is a context for `key`, fresh or not.
    pub fn has(&self, key: ContextKey) -> bool {
        self.find(key).is_some()
    }

    /// The root of the context for `key`, if there is one that can be used as it is.
    pub fn root(&self, key: ContextKey) -> Option<Root> {
        let (number, context) = self.find(key)?;
        let can_be_used = !self.is_stale(context) && (!context.shares || self.can_share(key.satp));
        can_be_used.then(|| Root { table: self.pool.address(context.root), number })
    }

    /// Makes the context for `key` the current one and returns its root.
    #[inline]
    pub fn activate(&mut self, ram: &GuestRam, key: ContextKey) -> Root {
        if let Some((number, context)) = self.current_context()
            && context.key == key
            && !self.is_stale(context)
        {
            return Root { table: self.pool.address(context.root), number };
        }
        self.switch(ram, key)
    }

    /// Explains a fault at `address` in the context for `key`, and fills the shadow where the guest's tables allow the
    /// access.
    pub fn resolve(
        &mut self,
        ram: &GuestRam,
        key: ContextKey,
        address: GuestVirtAddr,
        access: Access,
    ) -> Verdict {
        self.activate(ram, key);
        if let Some(verdict) = self.resolve_by_hint(ram, key, address, access) {
            return verdict;
        }
        let mut walked = Walked::new();
        let passed = |level, table, entry| walked.pass(level, table, entry);
        let translation = match translate_by(ram, key.satp, address, access, key.view.rights(), passed) {
            Ok(translation) => translation,
            Err(exception) => return Verdict::Fault(exception),
        };
        walked.arrive(translation);
        let Some(host) = ram.host_address(translation.address) else {
            return Verdict::NotRam(translation.address);
        };
        if self.is_in_window(address) {
            return Verdict::Collision;
        }
        let Some(mapping) = mapping(ram, host, access, translation, key.view) else {
            return match access {
                Access::Fetch => Verdict::Unscanned,
                Access::Load | Access::Store => Verdict::Overlaid(translation.address),
            };
        };
        self.fill(ram, address, &mapping, &walked);
        Verdict::Filled
    }

    /// What the hardware must forget before it runs this vCPU again; the next call says `Nothing`.
    #[inline]
    pub fn take_flush(&mut self) -> TlbFlush {
        core::mem::take(&mut self.flush)
    }

    /// Changes whenever a translation that was found before may no longer be used.
    #[inline]
    pub fn fences(&self) -> u64 {
        self.fences
    }

    /// The hints, for the assembly.
    pub const fn hints(&self) -> &HintTable {
        &self.hints
    }

    /// Which code may be fetched from elsewhere than before, if any; the next call says none.
    #[inline]
    pub fn take_dropped_code(&mut self) -> Option<DroppedCode> {
        self.dropped_code.is_some().then(|| core::mem::take(&mut self.dropped_code))
    }

    pub(crate) fn pool(&self) -> &TablePool {
        &self.pool
    }

    /// The level of a root's entries.
    fn top(&self) -> usize {
        self.host.mode.levels().saturating_sub(1)
    }

    fn is_upper(&self, address: GuestVirtAddr) -> bool {
        paging::index(address.0, self.top()) >= UPPER
    }

    fn is_in_window(&self, address: GuestVirtAddr) -> bool {
        self.host.window.covers(paging::index(address.0, self.top()))
    }
}
