//! Shadow page tables as a virtual TLB: filled from the guest's tables when the hardware faults, kept for each
//! context across satp writes, and dropped only by the guest's fences, or for want of room.
//!
//! Belongs to one vCPU, so it needs no lock. Guest tables are never write-protected.

use alloc::boxed::Box;

use arrayvec::ArrayVec;
use isa::Exception;
use isa::paging::{self, Mode, PageTable, Pte, Satp};
use memory::{BLOCK_SIZE, GuestPhysAddr, GuestRam, GuestVirtAddr, HostPhysAddr};

use crate::context::{ContextKey, View};
use crate::pool::{TableId, TableList, TablePool};
use crate::walk::{Access, Rights, Translation, peek, translate};

#[cfg(test)]
pub(crate) mod tests;

/// Contexts that a vCPU keeps.
pub const CONTEXTS: usize = 64;

/// The fewest tables that a pool may have: what one instruction can need at once (two pages fetched, two pages
/// accessed, five levels each) must fit beside the roots, or it would never finish.
pub const MIN_TABLES: usize = 64;

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
    /// Whether the hart has ASIDs enough to tell all roots by.
    pub asids: bool,
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

/// A shadow root, for satp.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Root {
    /// The root table.
    pub table: HostPhysAddr,
    /// Which of the vCPU's contexts it is, 0 to `CONTEXTS` - 1: a hart with ASIDs makes one of it.
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
    /// from RAM by hand, and a store must end the copy first.
    Overlaid(GuestPhysAddr),
    /// The guest's own fault.
    Fault(Exception),
    /// The guest has mapped an address that the hypervisor occupies (hosts with Sv39 only).
    Collision,
}

/// Marks a pointer to a table that holds pieces of a guest superpage as large as the pointer's range, so that a
/// fence of any address in it drops them all. One of the bits that the hardware leaves to software.
const PIECES: u64 = 1 << 8;

#[derive(Debug)]
struct Context {
    key: ContextKey,
    root: TableId,
    tables: TableList,
    last_used: u64,
}

/// The shadow page tables of one vCPU.
#[derive(Debug)]
pub struct ShadowMmu {
    host: HostPaging,
    pool: TablePool,
    contexts: Box<[Option<Context>]>,
    /// Where a key was last found, by its hash; only a hint.
    hints: [u8; CONTEXTS],
    current: Option<usize>,
    clock: u64,
    flush: TlbFlush,
    code_generation: u64,
    generation: u64,
    /// Leaves written since the start.
    pub fills: u64,
}

impl ShadowMmu {
    /// Empty shadows in `tables`, which lie at `base`.
    ///
    /// # Panics
    /// With fewer than `MIN_TABLES` tables.
    pub fn new(host: HostPaging, tables: &'static mut [PageTable], base: HostPhysAddr) -> Self {
        assert!(tables.len() >= MIN_TABLES, "a shadow pool of {} tables is too small", tables.len());
        let contexts = (0..CONTEXTS).map(|_| None).collect();
        let pool = TablePool::new(tables, base);
        Self {
            host,
            pool,
            contexts,
            hints: [0; CONTEXTS],
            current: None,
            clock: 0,
            flush: TlbFlush::All,
            code_generation: 0,
            generation: 0,
            fills: 0,
        }
    }

    /// How the host translates.
    pub fn host(&self) -> &HostPaging {
        &self.host
    }

    /// Stays the same while an address that was fetched from a copy still is.
    #[inline]
    pub fn code_generation(&self) -> u64 {
        self.code_generation
    }

    /// Changes whenever a context comes or goes, and with it a root.
    #[inline]
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// The real satp that runs the guest under `root`. ASID 0 is the hypervisor's own root's.
    pub fn satp(&self, root: Root) -> u64 {
        let asid = if self.host.asids { root.number as u64 + 1 } else { 0 };
        (self.host.mode as u64) << 60 | asid << 44 | root.table.0 >> 12
    }

    /// The root of the context for `key`, if there is one.
    pub fn root(&self, key: ContextKey) -> Option<Root> {
        let number = (0..CONTEXTS).find(|number| self.key(*number) == Some(key))?;
        let context = self.contexts.get(number)?.as_ref()?;
        Some(Root { table: self.pool.address(context.root), number })
    }

    /// Makes the context for `key` the current one and returns its root.
    #[inline]
    pub fn activate(&mut self, key: ContextKey) -> Root {
        if let Some((number, context)) = self.current_context()
            && context.key == key
        {
            return Root { table: self.pool.address(context.root), number };
        }
        self.switch(key)
    }

    /// Explains a fault at `address` in the current context, and fills the shadow where the guest's tables
    /// allow the access.
    pub fn resolve(
        &mut self,
        ram: &GuestRam,
        key: ContextKey,
        address: GuestVirtAddr,
        access: Access,
    ) -> Verdict {
        let rights = key.view.rights();
        let translation = match translate(ram, key.satp, address, access, rights) {
            Ok(translation) => translation,
            Err(exception) => return Verdict::Fault(exception),
        };
        let Some(host) = ram.host_address(translation.address) else {
            return Verdict::NotRam(translation.address);
        };
        let root_level = self.host.mode.levels().saturating_sub(1);
        if self.host.window.covers(paging::index(address.0, root_level)) {
            return Verdict::Collision;
        }
        let leaf = match mapping(ram, host, access, translation, key.view) {
            Some(leaf) => leaf,
            None => return Verdict::Overlaid(translation.address),
        };
        self.activate(key);
        self.fill(address, leaf);
        Verdict::Filled
    }

    /// Carries out SFENCE.VMA for one address or all, in one address space or all. An address that is not
    /// canonical has nothing to drop. Fences more than asked where that is cheaper.
    pub fn fence(&mut self, address: Option<GuestVirtAddr>, asid: Option<u16>) {
        for number in 0..CONTEXTS {
            let Some(context) = self.contexts.get(number).and_then(Option::as_ref) else { continue };
            let Satp { mode, asid: own, .. } = context.key.satp;
            if mode == Mode::Bare || asid.is_some_and(|asid| asid != own) {
                continue;
            }
            match address {
                None => self.release(number),
                Some(address) if mode.is_canonical(address.0) => self.drop_leaf(context.root, address),
                Some(_) => {}
            }
        }
        self.flush = self.flush.and(address.map_or(TlbFlush::All, TlbFlush::Address));
    }

    /// Fills in ahead what the guest's tables now say of `address` in the context for `key`: for an access that is
    /// likely to come. Nothing happens where that would need a change of A or D, or a page that is not plain RAM.
    pub fn prefill(&mut self, ram: &GuestRam, key: ContextKey, address: GuestVirtAddr, access: Access) {
        if key.view == View::Bare {
            return;
        }
        let Some(found) = peek(ram, key.satp, address, access, key.view.rights()) else { return };
        let Some(host) = ram.host_address(found.address) else { return };
        let root_level = self.host.mode.levels().saturating_sub(1);
        if self.host.window.covers(paging::index(address.0, root_level)) {
            return;
        }
        if let Some(mapping) = mapping(ram, host, access, found, key.view) {
            self.activate(key);
            self.fill(address, mapping);
        }
    }

    /// Drops everything, as for a reset.
    pub fn clear(&mut self) {
        (0..CONTEXTS).for_each(|number| self.release(number));
        self.flush = TlbFlush::All;
    }

    /// What the hardware must forget before it runs this vCPU again; the next call says `Nothing`.
    #[inline]
    pub fn take_flush(&mut self) -> TlbFlush {
        core::mem::take(&mut self.flush)
    }

    pub(crate) fn roots(&self) -> impl Iterator<Item = TableId> + '_ {
        self.contexts.iter().flatten().map(|context| context.root)
    }

    pub(crate) fn pool(&self) -> &TablePool {
        &self.pool
    }

    fn current_context(&self) -> Option<(usize, &Context)> {
        let number = self.current?;
        Some((number, self.contexts.get(number)?.as_ref()?))
    }

    fn switch(&mut self, key: ContextKey) -> Root {
        self.clock = self.clock.wrapping_add(1);
        let hash = key.hash() % CONTEXTS;
        let hint = self.hints.get(hash).map_or(0, |hint| usize::from(*hint));
        let number = if self.key(hint) == Some(key) {
            hint
        } else {
            (0..CONTEXTS).find(|number| self.key(*number) == Some(key)).unwrap_or_else(|| self.create(key))
        };
        if let Some(hint) = self.hints.get_mut(hash) {
            *hint = number as u8;
        }
        self.current = Some(number);
        let Some(context) = self.contexts.get_mut(number).and_then(Option::as_mut) else { lost_table() };
        context.last_used = self.clock;
        Root { table: self.pool.address(context.root), number }
    }

    fn key(&self, number: usize) -> Option<ContextKey> {
        Some(self.contexts.get(number)?.as_ref()?.key)
    }

    fn create(&mut self, key: ContextKey) -> usize {
        let number = self.contexts.iter().position(Option::is_none).unwrap_or_else(|| self.evict());
        while self.pool.available() == 0 {
            self.evict();
        }
        let mut tables = TableList::default();
        let Some(root) = self.pool.take(&mut tables) else { lost_table() };
        for (nth, entry) in self.host.window.entries.iter().enumerate() {
            self.pool.set_entry(root, self.host.window.first_slot.wrapping_add(nth), *entry);
        }
        self.generation = self.generation.wrapping_add(1);
        if let Some(place) = self.contexts.get_mut(number) {
            *place = Some(Context { key, root, tables, last_used: self.clock });
        }
        number
    }

    /// Releases the context that was not used for the longest time, and returns its number.
    fn evict(&mut self) -> usize {
        let oldest = self
            .contexts
            .iter()
            .enumerate()
            .filter_map(|(number, context)| Some((context.as_ref()?.last_used, number)))
            .min()
            .map_or(0, |(_, number)| number);
        self.release(oldest);
        self.flush = TlbFlush::All;
        oldest
    }

    fn release(&mut self, number: usize) {
        if let Some(mut context) = self.contexts.get_mut(number).and_then(Option::take) {
            self.code_generation = self.code_generation.wrapping_add(1);
            self.generation = self.generation.wrapping_add(1);
            self.pool.give_back(&mut context.tables);
        }
        if self.current == Some(number) {
            self.current = None;
        }
    }

    /// Drops what is cached of the guest leaf that maps `address`: one shadow leaf, or the whole range of a guest
    /// superpage that was filled in pieces.
    fn drop_leaf(&mut self, root: TableId, address: GuestVirtAddr) {
        let mut table = root;
        for level in (0..self.host.mode.levels()).rev() {
            let slot = paging::index(address.0, level);
            let entry = self.pool.entry(table, slot);
            let next = if entry.is_table() { self.pool.at(HostPhysAddr(entry.address())) } else { None };
            match next {
                Some(next) if entry.has(PIECES) => {
                    self.pool.set_entry(table, slot, Pte(entry.0 & !PIECES));
                    // More goes than the one address that the caller flushes.
                    self.flush = TlbFlush::All;
                    self.code_generation = self.code_generation.wrapping_add(1);
                    return self.drop_below(next, level);
                }
                Some(next) => table = next,
                // What the pool does not hold is the window's.
                None if table == root && self.host.window.covers(slot) => return,
                None => {
                    self.note_code(entry);
                    return self.pool.set_entry(table, slot, Pte(0));
                }
            }
        }
    }

    /// Notes that a leaf is about to go.
    fn note_code(&mut self, leaf: Pte) {
        if leaf.has(Pte::X) && !leaf.has(Pte::R) {
            self.code_generation = self.code_generation.wrapping_add(1);
        }
    }

    /// Drops all leaves in and below `table`, which an entry at `level` points to.
    fn drop_below(&mut self, table: TableId, level: usize) {
        for slot in 0..512 {
            let entry = self.pool.entry(table, slot);
            match self.pool.at(HostPhysAddr(entry.address())) {
                Some(next) if entry.is_table() && level > 1 => self.drop_below(next, level.saturating_sub(1)),
                _ => self.pool.set_entry(table, slot, Pte(0)),
            }
        }
    }

    fn fill(&mut self, address: GuestVirtAddr, mapping: Mapping) {
        let levels = self.host.mode.levels();
        self.make_room(levels);
        let Some(number) = self.current else { return };
        let Some(context) = self.contexts.get_mut(number).and_then(Option::as_mut) else { return };
        let mut table = context.root;
        for level in (0..levels).rev() {
            let slot = paging::index(address.0, level);
            let old = self.pool.entry(table, slot);
            if level == 0 || level == 1 && mapping.block && !old.is_table() {
                let size = if level == 0 { memory::PAGE_SIZE } else { BLOCK_SIZE };
                let leaf = Pte::new(mapping.host.align_down(size).0, mapping.flags);
                let gains = leaf.has(old.0) && leaf.address() == old.address() && leaf != old;
                if leaf != old && old.has(Pte::X) && !old.has(Pte::R) {
                    self.code_generation = self.code_generation.wrapping_add(1);
                }
                if old.is_leaf() && !gains {
                    // The same again: the hardware faulted on what it had cached before. Less or elsewhere: what it
                    // has cached is wrong now.
                    self.flush = self.flush.and(TlbFlush::Address(address));
                }
                self.pool.set_entry(table, slot, leaf);
                self.fills = self.fills.wrapping_add(1);
                return;
            }
            let next = match self.pool.at(HostPhysAddr(old.address())) {
                Some(next) if old.is_table() => next,
                _ => {
                    let Some(next) = self.pool.take(&mut context.tables) else { return };
                    if old.is_leaf() {
                        self.flush = TlbFlush::All;
                    }
                    next
                }
            };
            let pieces = if level <= mapping.guest_level { PIECES } else { old.0 & PIECES };
            let pointer = Pte::new(self.pool.address(next).0, Pte::V | pieces);
            self.pool.set_entry(table, slot, pointer);
            table = next;
        }
    }

    /// Makes sure that `tables` can be had for the current context.
    fn make_room(&mut self, tables: usize) {
        while self.pool.available() < tables {
            let Some((_, current)) = self.current_context() else { return };
            let key = current.key;
            // The current context is the last used one, so it goes only when it is alone.
            self.evict();
            if self.current.is_none() {
                self.switch(key);
                return;
            }
        }
    }
}

/// What a shadow leaf is to map.
struct Mapping {
    host: HostPhysAddr,
    flags: u64,
    /// The level of the guest's leaf.
    guest_level: usize,
    /// Whether the whole block may be mapped by one leaf.
    block: bool,
}

/// The leaf that serves `access`. A page whose kernel code is fetched from a copy is mapped execute-only where the
/// kernel executes it, and read-only elsewhere; `None` where such a page is not to be mapped for this access.
fn mapping(
    ram: &GuestRam,
    host: HostPhysAddr,
    access: Access,
    translation: Translation,
    view: View,
) -> Option<Mapping> {
    let Translation { address, leaf, level, .. } = translation;
    let rights = view.rights();
    let flags = leaf_flags(leaf, rights, view);
    let overlay = ram.overlay();
    // Guest RAM is contiguous in host memory, block-aligned in both, so a guest superpage can be a host one; no
    // larger than a block, for blocks are filled in one by one.
    let block = level >= 1 && !overlay.touches_block(address);
    let whole = Mapping { host, flags, guest_level: level, block };
    let Some(copy) = overlay.copy_of(address) else { return Some(whole) };
    let is_kernel_code = !matches!(view, View::User { .. }) && flags & Pte::X != 0;
    match access {
        Access::Store => None,
        Access::Fetch if is_kernel_code => {
            Some(Mapping { host: copy, flags: flags & !(Pte::R | Pte::W), ..whole })
        }
        Access::Load if is_kernel_code => None,
        Access::Fetch | Access::Load => Some(Mapping { flags: flags & !Pte::W, ..whole }),
    }
}

/// The flags of the shadow leaf for a guest leaf that was walked: what the view allows without asking again.
/// W waits for the guest's D. A and D are preset: the hardware has nothing to tell us by them.
fn leaf_flags(guest: Pte, rights: Rights, view: View) -> u64 {
    const ALWAYS: u64 = Pte::V | Pte::U | Pte::A | Pte::D;
    if view == View::Bare {
        return ALWAYS | Pte::R | Pte::W | Pte::X;
    }
    let mut flags = ALWAYS;
    for (access, flag) in [(Access::Load, Pte::R), (Access::Store, Pte::W), (Access::Fetch, Pte::X)] {
        if rights.allow(guest, access) && (access != Access::Store || guest.has(Pte::D)) {
            flags |= flag;
        }
    }
    flags
}

/// A bug of ours, which no guest input leads to: `create` has made room and filled the place.
#[cold]
#[allow(clippy::panic, reason = "see above")]
fn lost_table() -> ! {
    panic!("the shadow pool lost a table")
}
