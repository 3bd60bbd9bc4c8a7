//! Shadow page tables as a virtual TLB: filled from the guest's tables when the hardware faults, kept for each
//! context across satp writes, and dropped only by the guest's fences, or for want of room.
//!
//! Here are the contexts and the verdict on a fault; `fill` writes leaves, `forget` drops them. Belongs to one vCPU, so
//! it needs no lock. Guest tables are not write-protected, but for those that `watch` finds to stay as they are.
//!
//! The upper half of the address space, where kernels keep what all their address spaces have in common, is shared by
//! the contexts of supervisor mode as long as what is filled there is global and no user page: it is filled, and
//! fenced, once for all of them. A kernel that does not reach into its users' half needs nothing else: all its address
//! spaces run under the shared half's own root.

use alloc::boxed::Box;

use arrayvec::ArrayVec;
use isa::Exception;
use isa::paging::{self, Mode, PageTable, Pte};
use memory::{GuestPhysAddr, GuestRam, GuestVirtAddr, HostPhysAddr};
use vhart::HintTable;

use crate::context::{ContextKey, View};
use crate::pool::{Source, TableId, TableList, TablePool};
use crate::walk::{Access, translate_by};

mod fill;
mod forget;
#[cfg(test)]
pub(crate) mod tests;
mod watch;

use fill::Walked;
pub use forget::DroppedCode;

/// Guest tables that one round of comparing may begin to watch.
const NEW_WATCHES: usize = 16;

/// Contexts that a vCPU keeps.
pub const CONTEXTS: usize = 64;

/// Roots: one for each context, and one for the half that they share. The hypervisor may run under any of them at any
/// time, so they are never anything else, and keep the hypervisor's window.
pub(crate) const ROOTS: usize = CONTEXTS + 1;

/// The number of the context that stands for all whose shared half is all they have.
const KERNEL: usize = CONTEXTS;

/// The fewest tables that a pool may have: what one instruction can need at once (two pages fetched, two pages
/// accessed, five levels each) must fit beside the roots, or it would never finish.
pub const MIN_TABLES: usize = ROOTS + 32;

/// Root entries of the hypervisor's own mappings, which every shadow root carries.
#[derive(Clone, Debug, Default)]
pub struct Window {
    /// The root slot of the first entry.
    pub first_slot: usize,
    /// The entries.
    pub entries: ArrayVec<Pte, 64>,
}

impl Window {
    /// Whether the entry of a root at `slot` is the window's.
    pub fn covers(&self, slot: usize) -> bool {
        slot.checked_sub(self.first_slot).is_some_and(|nth| nth < self.entries.len())
    }
}

/// How the real hart translates.
#[derive(Clone, Debug)]
pub struct HostPaging {
    /// Sv39, Sv48 or Sv57.
    pub mode: Mode,
    /// Where the hypervisor lives.
    pub window: Window,
    /// The first of the `CONTEXTS` real ASIDs, not 0, that tell this vCPU's roots from each other and from other vCPUs';
    /// `None` where the hart has too few.
    pub first_asid: Option<u16>,
}

impl HostPaging {
    /// The widest mode that a guest may have: narrower than the host's, so that no guest address names the
    /// hypervisor; on a host with Sv39 only, the same.
    pub const fn widest_guest_mode(&self) -> Mode {
        match self.mode {
            Mode::Sv57 => Mode::Sv48,
            _ => Mode::Sv39,
        }
    }
}

/// What the hardware's TLB must forget before the guest runs on.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum TlbFlush {
    /// Nothing.
    #[default]
    Nothing,
    /// What it holds of one address, in all address spaces.
    Address(GuestVirtAddr),
    /// Everything.
    All,
}

impl TlbFlush {
    fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Nothing, flush) | (flush, Self::Nothing) => flush,
            (a, b) if a == b => a,
            _ => Self::All,
        }
    }
}

/// Whose roots are not what they were.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum LostRoots {
    /// Nobody's.
    #[default]
    None,
    /// Those of the address spaces with this ASID, but not one that others have as well.
    Asid(u16),
    /// All.
    All,
}

impl LostRoots {
    fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::None, lost) | (lost, Self::None) => lost,
            (a, b) if a == b => a,
            _ => Self::All,
        }
    }
}

/// A shadow root, for satp.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Root {
    /// The root table.
    pub table: HostPhysAddr,
    /// Which of the vCPU's roots it is, 0 to `CONTEXTS`: a hart with ASIDs makes one of it.
    pub number: usize,
}

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

const _: () = assert!(CONTEXTS == 64, "a bit each");

/// The first slot of a root's upper half.
pub(crate) const UPPER: usize = 256;

#[derive(Debug)]
struct Context {
    key: ContextKey,
    root: TableId,
    tables: TableList,
    /// A fence wants what is here compared with the guest's tables before it is used again.
    stale: bool,
    /// Its upper half is the shared one.
    shares: bool,
    /// It may have, not in the shared half, a leaf that allows nothing but fetching.
    holds_code: bool,
    /// The places of its hints, a bit each.
    hinted: u64,
    /// The next context with the same ASID, or nearly.
    next: Option<u8>,
}

/// The upper half that contexts of supervisor mode share. Its root has nothing in its lower half, so it serves the contexts
/// that have nothing there either.
#[derive(Debug)]
struct SharedHalf {
    /// Of the guests' modes, the one that it is for.
    mode: Mode,
    /// Like a root; those that share have its upper half.
    root: TableId,
    tables: TableList,
    stale: bool,
}

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
    /// The contexts that are neither stale nor settled, a bit each: see `watch`.
    restless: u64,
    /// Whether the shared half is.
    restless_shared: bool,
    /// `Overlay::unwatched` when that was last looked at.
    unwatched: u64,
    quiet: watch::QuietTables,
    /// Guest tables that are watched from now on.
    new_watches: ArrayVec<GuestPhysAddr, NEW_WATCHES>,
    current: Option<usize>,
    /// The contexts that were made current since the last time that all had been, a bit each.
    recent: u64,
    /// Where the search for a context to release goes on.
    next_victim: u32,
    flush: TlbFlush,
    lost_roots: LostRoots,
    dropped_code: DroppedCode,
    /// Pages and blocks of guest RAM that a writable leaf may map, a bit each.
    writable: fill::Writable,
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
    /// Empty shadows in half of `tables`, which lie at `base`; the other half is for keeping account of them.
    ///
    /// # Panics
    /// With fewer than twice `MIN_TABLES` tables.
    pub fn new(host: HostPaging, tables: &'static mut [PageTable], base: HostPhysAddr) -> Self {
        assert!(tables.len() >= 2 * MIN_TABLES, "a shadow pool of {} tables is too small", tables.len() / 2);
        let contexts = (0..ROOTS).map(|_| None).collect();
        let mut pool = TablePool::new(tables, base, ROOTS);
        let top = host.mode.levels().saturating_sub(1);
        for number in 0..ROOTS {
            let root = pool.fixed(number, top);
            for (nth, entry) in host.window.entries.iter().enumerate() {
                pool.set_fixed(root, host.window.first_slot.wrapping_add(nth), *entry);
            }
        }
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
            quiet: watch::QuietTables::new(),
            new_watches: ArrayVec::new(),
            current: None,
            recent: 0,
            next_victim: 0,
            flush: TlbFlush::All,
            lost_roots: LostRoots::None,
            dropped_code: DroppedCode::default(),
            writable: fill::Writable::default(),
            hints: HintTable::new(),
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
        core::mem::take(&mut self.lost_roots)
    }

    /// The real satp that runs the guest under `root`. ASID 0 is the hypervisor's own root's.
    #[inline]
    pub fn satp(&self, root: Root) -> u64 {
        let asid = self.host.first_asid.map_or(0, |first| u64::from(first).wrapping_add(root.number as u64));
        (self.host.mode as u64) << 60 | asid << 44 | root.table.0 >> 12
    }

    /// Whether this value for the real satp names the root that kernels share.
    #[inline]
    pub fn is_kernels_root(&self, satp: u64) -> bool {
        satp == self.satp(Root { table: self.pool.address_of(KERNEL), number: KERNEL })
    }

    /// The root of the context for `key`, if there is one that can be used as it is.
    pub fn root(&self, key: ContextKey) -> Option<Root> {
        let (number, context) = self.find(key)?;
        (!self.is_stale(context)).then(|| Root { table: self.pool.address(context.root), number })
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
        let Some(mapping) = fill::mapping(ram, host, access, translation, key.view) else {
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

    /// Where the hints are, for the assembly.
    pub fn hints_address(&self) -> u64 {
        self.hints.address()
    }

    /// Which code may be fetched from elsewhere than before, if any; the next call says none.
    #[inline]
    pub fn take_dropped_code(&mut self) -> Option<DroppedCode> {
        self.dropped_code.is_some().then(|| core::mem::take(&mut self.dropped_code))
    }

    /// The roots of all contexts, and whether each shares its upper half.
    pub(crate) fn roots(&self) -> impl Iterator<Item = (TableId, bool)> + '_ {
        self.own_contexts().flatten().map(|context| (context.root, context.shares))
    }

    /// The roots that are no context's now. The hardware may be running under one of them.
    pub(crate) fn free_roots(&self) -> impl Iterator<Item = TableId> + '_ {
        let roots = self.contexts.iter().enumerate().filter(|(_, context)| context.is_none());
        roots.filter_map(|(number, _)| self.pool.at(self.pool.address_of(number)))
    }

    /// The root of the shared upper half.
    pub(crate) fn shared_root(&self) -> Option<TableId> {
        self.shared.as_ref().map(|shared| shared.root)
    }

    pub(crate) fn pool(&self) -> &TablePool {
        &self.pool
    }

    /// The contexts but `KERNEL`.
    fn own_contexts(&self) -> impl Iterator<Item = &Option<Context>> + '_ {
        self.contexts.iter().take(CONTEXTS)
    }

    /// The level of a root's entries.
    fn top(&self) -> usize {
        self.host.mode.levels().saturating_sub(1)
    }

    fn is_in_window(&self, address: GuestVirtAddr) -> bool {
        self.host.window.covers(paging::index(address.0, self.top()))
    }

    #[inline]
    fn is_stale(&self, context: &Context) -> bool {
        context.stale || context.shares && self.shared.as_ref().is_some_and(|shared| shared.stale)
    }

    #[inline]
    fn current_context(&self) -> Option<(usize, &Context)> {
        let number = self.current?;
        Some((number, self.contexts.get(number)?.as_ref()?))
    }

    fn context(&self, number: usize) -> Option<&Context> {
        self.contexts.get(number)?.as_ref()
    }

    fn context_mut(&mut self, number: usize) -> Option<&mut Context> {
        self.contexts.get_mut(number)?.as_mut()
    }

    /// The contexts whose ASID is this one, or nearly, by number.
    fn chain(&self, asid: u16) -> impl Iterator<Item = (usize, &Context)> {
        let first = self.chains.get(usize::from(asid) % CONTEXTS).copied().flatten();
        let with_context = |number: u8| Some((usize::from(number), self.context(usize::from(number))?));
        core::iter::successors(first.and_then(with_context), move |(_, context)| {
            context.next.and_then(with_context)
        })
    }

    fn find(&self, key: ContextKey) -> Option<(usize, &Context)> {
        let mut next = self.chains.get(usize::from(key.satp.asid) % CONTEXTS).copied().flatten();
        while let Some(number) = next {
            let context = self.context(usize::from(number))?;
            if context.key == key {
                return Some((usize::from(number), context));
            }
            next = context.next;
        }
        let shared = self.shared.as_ref()?;
        let is_kernels = needs_no_users(key) && key.satp.mode == shared.mode;
        is_kernels.then(|| self.context(KERNEL)).flatten().map(|context| (KERNEL, context))
    }

    fn switch(&mut self, ram: &GuestRam, key: ContextKey) -> Root {
        let number = match self.find(key) {
            Some((number, _)) => number,
            None if needs_no_users(key) => {
                self.share(key);
                KERNEL
            }
            None => self.create(key),
        };
        if number == KERNEL
            && let Some(context) = self.context_mut(KERNEL)
        {
            context.key = key;
        }
        // A new one, too, where the half that it shares is stale.
        if self.context(number).is_some_and(|context| self.is_stale(context)) {
            self.freshen(ram, number);
        }
        self.make_current(number);
        let Some(context) = self.context(number) else { lost_context() };
        Root { table: self.pool.address(context.root), number }
    }

    fn make_current(&mut self, number: usize) {
        self.current = Some(number);
        self.recent |= bit(number);
    }

    /// Gives the current context, `KERNEL`, tables of its own.
    fn settle(&mut self, key: ContextKey) -> usize {
        let number = self.create(key);
        self.make_current(number);
        // That of this key was the kernels'.
        self.lost_roots = LostRoots::All;
        number
    }

    fn create(&mut self, key: ContextKey) -> usize {
        let shares = matches!(key.view, View::Supervisor { mxr: false, .. });
        if shares {
            self.share(key);
        }
        let number = if self.live == u64::MAX { self.evict() } else { self.live.trailing_ones() as usize };
        self.live |= bit(number);
        let root = self.pool.fixed(number, self.top());
        self.pool.set_source(root, Source::None);
        if shares && let Some(shared) = &self.shared {
            for slot in self.pool.used(shared.root) {
                self.pool.set_fixed(root, slot, self.pool.entry(shared.root, slot));
            }
        }
        let chain = usize::from(key.satp.asid) % CONTEXTS;
        let next = self.chains.get(chain).copied().flatten();
        if let Some(place) = self.contexts.get_mut(number) {
            let tables = TableList::default();
            let (stale, holds_code) = (false, false);
            *place = Some(Context { key, root, tables, stale, shares, holds_code, hinted: 0, next });
        }
        if let Some(first) = self.chains.get_mut(chain) {
            *first = Some(number as u8);
        }
        number
    }

    /// Makes sure that there is a shared half for the mode of this context.
    fn share(&mut self, key: ContextKey) {
        let mode = key.satp.mode;
        if self.shared.as_ref().is_some_and(|shared| shared.mode == mode) {
            return;
        }
        // A guest changes its mode once, as a rule.
        if self.shared.is_some() {
            self.clear();
        }
        let root = self.pool.fixed(KERNEL, self.top());
        self.pool.set_source(root, Source::None);
        let tables = TableList::default();
        let (stale, shares, holds_code, next) = (false, true, false, None);
        if let Some(place) = self.contexts.get_mut(KERNEL) {
            *place = Some(Context { key, root, tables, stale, shares, holds_code, hinted: 0, next });
        }
        self.restless_shared = false;
        self.shared = Some(SharedHalf { mode, root, tables: TableList::default(), stale: false });
    }

    /// Takes out of a root what it has of the shared half.
    fn clear_shared(&mut self, root: TableId) {
        let Some(shared) = &self.shared else { return };
        for slot in self.pool.used(shared.root) {
            self.pool.set_fixed(root, slot, Pte(0));
        }
    }

    /// Gives a context an upper half of its own.
    fn unshare(&mut self, number: usize) {
        let Some(context) = self.context_mut(number) else { return };
        context.shares = false;
        let root = context.root;
        self.clear_shared(root);
        self.hints.clear();
        self.lost_roots = LostRoots::All;
        self.flush = TlbFlush::All;
    }

    /// Releases a context that was not used lately, not the current one, and returns its number.
    fn evict(&mut self) -> usize {
        let others = self.live & !self.current.map_or(0, bit);
        let mut idle = others & !self.recent;
        if idle == 0 {
            self.recent = 0;
            idle = others;
        }
        let ahead = idle.rotate_right(self.next_victim).trailing_zeros();
        let victim = self.next_victim.wrapping_add(ahead) % CONTEXTS as u32;
        self.next_victim = victim.wrapping_add(1) % CONTEXTS as u32;
        self.release(victim as usize);
        victim as usize
    }

    fn release(&mut self, number: usize) {
        let Some(mut context) = self.contexts.get_mut(number).and_then(Option::take) else { return };
        self.lost_roots = self.lost_roots.and(LostRoots::Asid(context.key.satp.asid));
        self.flush = TlbFlush::All;
        if context.shares {
            self.clear_shared(context.root);
        }
        self.live &= !bit(number);
        self.recent &= !bit(number);
        // The hardware may be running under this root, and its tables soon belong to others.
        self.pool.clear(context.root);
        self.dropped_code.all |= context.holds_code;
        self.own_uppers &= !bit(number);
        self.restless &= !bit(number);
        let root = Root { table: self.pool.address(context.root), number };
        self.hints.forget_root(self.satp(root), context.hinted);
        self.pool.give_back(&mut context.tables);
        let number = Some(number as u8);
        let chain = usize::from(context.key.satp.asid) % CONTEXTS;
        if self.chains.get(chain).copied().flatten() == number {
            if let Some(first) = self.chains.get_mut(chain) {
                *first = context.next;
            }
        } else {
            let before = {
                let mut chain = self.chain(context.key.satp.asid);
                let found = chain.find(|(_, other)| other.next == number);
                found.map(|(before, _)| before)
            };
            if let Some(before) = before.and_then(|before| self.context_mut(before)) {
                before.next = context.next;
            }
        }
        if self.current.map(|current| current as u8) == number {
            self.current = None;
        }
    }
}

/// A context's bit in a set of them; `KERNEL` has none.
const fn bit(number: usize) -> u64 {
    if number < CONTEXTS { 1 << number } else { 0 }
}

/// Whether a context can do with the shared half as long as it touches nothing else.
const fn needs_no_users(key: ContextKey) -> bool {
    matches!(key.view, View::Supervisor { sum: false, mxr: false })
}

/// A bug of ours, which no guest input leads to: `create` has filled the place.
#[cold]
#[allow(clippy::panic, reason = "see above")]
fn lost_context() -> ! {
    panic!("the shadow lost a context")
}
