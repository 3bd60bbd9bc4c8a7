//! Drops shadow leaves: for the guest's fences, for code that is fetched from elsewhere from now on, and for resets.
//!
//! A fence of a whole address space drops nothing at once. It marks contexts, and `compare` looks at those that are used
//! again.

use isa::paging::{self, Mode, Pte};
use memory::{BLOCK_SIZE, GuestPhysAddr, GuestRam, GuestVirtAddr, HostPhysAddr};

use super::fill::PIECES;
use super::mapping::is_code;
use super::roots::{CONTEXTS, KERNEL, members};
use super::trust::Trust;
use super::writable::Writable;
use super::{LostRoots, ShadowMmu, TlbFlush};
use crate::context::ContextKey;
use crate::pool::{Source, TableId, TablePool};

impl ShadowMmu {
    /// Carries out SFENCE.VMA for one address or all, in one address space or all. An address that is not
    /// canonical has nothing to drop. Fences more than asked where that is cheaper, and everything where the kernel is not
    /// trusted to ask for what it needs: see `trust`.
    pub fn fence(&mut self, ram: &GuestRam, address: Option<GuestVirtAddr>, asid: Option<u16>) {
        self.follow_unwatched(ram);
        self.flush = self.flush.and(address.map_or(TlbFlush::All, TlbFlush::Address));
        self.fences = self.fences.wrapping_add(1);
        if !self.trust.fences() && !self.is_settled() {
            self.judge(ram, address, asid);
        }
        match address {
            None => self.mark_stale(asid),
            Some(address) => self.fence_address(address, asid),
        }
    }

    /// Drops everything that is remembered, what is known of the kernel included: there may be another one. What others are still
    /// to be told, of watches and of the hardware's TLB, stays.
    pub fn drop_all(&mut self) {
        self.clear();
        self.trust = Trust::default();
        self.limits.clear();
        // No leaf is left.
        self.writable = Writable::default();
        self.doubted.clear();
        (self.recent, self.next_victim) = (0, 0);
    }

    /// Drops all translations, as a fence of everything may.
    pub fn clear(&mut self) {
        self.fences = self.fences.wrapping_add(1);
        (0..CONTEXTS).for_each(|number| self.release(number));
        if let Some(mut shared) = self.shared.take() {
            self.pool.clear(shared.root);
            self.pool.give_back(&mut shared.tables);
        }
        if let Some(kernel) = self.contexts.get_mut(KERNEL) {
            *kernel = None;
        }
        self.current = None;
        self.lost_roots = LostRoots::All;
        self.restless_shared = false;
        self.hints.clear();
        self.dropped_code.all = true;
        self.flush = TlbFlush::All;
    }

    /// Lets the page of RAM at `page` be mapped anew everywhere: its code, which is executed at `pc` in the context for
    /// `key`, is fetched from a copy from now on, and nobody writes to it without asking.
    /// `writable` says that a writable leaf was made without noting it.
    pub fn remap(
        &mut self,
        ram: &GuestRam,
        key: ContextKey,
        pc: GuestVirtAddr,
        page: GuestPhysAddr,
        writable: bool,
    ) {
        self.protect(ram, page, writable);
        if let Some((number, context)) = self.find(key) {
            let shares = context.shares && self.is_upper(pc);
            if let Some(root) = self.start(number, shares) {
                self.drop_piece(root, pc);
            }
        }
        self.flush = TlbFlush::All;
    }

    /// Drops all leaves by which the page of RAM at `page`, which was scanned, might be written; with them those of its block,
    /// for most pages of code were written before they run.
    pub fn guard(&mut self, ram: &GuestRam, page: GuestPhysAddr) {
        if self.writable.take_block(page, ram.overlay().released())
            && let Some(block) = ram.host_address(page.align_down(BLOCK_SIZE))
        {
            self.each_table(|shadow, table| shadow.drop_writable_in(table, block));
            self.flush = TlbFlush::All;
        }
    }

    /// Drops all leaves by which the page of RAM at `page` might be written. `writable` says that a writable leaf was made
    /// without noting it.
    pub(super) fn protect(&mut self, ram: &GuestRam, page: GuestPhysAddr, writable: bool) {
        if (self.writable.take(page) || writable)
            && let Some(host) = ram.host_address(page)
        {
            self.drop_leaves(host);
            self.flush = TlbFlush::All;
        }
    }

    /// Drops all leaves that map the page at `host`, of RAM or the copy of one. What was fetched from it is the caller's
    /// business.
    pub fn drop_page(&mut self, host: HostPhysAddr) {
        // What was known of loads from the page: the hardware makes them itself from now on.
        self.fences = self.fences.wrapping_add(1);
        self.drop_leaves(host);
        self.flush = TlbFlush::All;
    }

    /// Empties a table and those below it; they stay where they are.
    pub(super) fn empty(&mut self, table: TableId) {
        let mut first = 0;
        while let Some(slot) = self.pool.next_used(table, first) {
            first = slot + 1;
            let entry = self.pool.entry(table, slot);
            match self.pool.below(entry) {
                Some(next) => self.detach(next),
                None => {
                    self.dropped_code.all |= is_code(entry);
                    self.pool.drop_entry(table, slot);
                    self.flush = TlbFlush::All;
                }
            }
        }
    }

    /// Empties a table that no longer follows what it did; it stays where it is.
    pub(super) fn detach(&mut self, table: TableId) {
        self.empty(table);
        if self.pool.source(table) != Source::None {
            self.pool.set_source(table, Source::None);
            self.hints.forget_table(TablePool::number(table));
        }
    }

    /// Notes that a leaf is about to go.
    pub(super) fn note_code(&mut self, leaf: Pte, address: GuestVirtAddr) {
        if is_code(leaf) {
            self.dropped_code.note(address);
        }
    }

    /// Marks the contexts that a fence of one address space, or all, concerns, but for those that are settled.
    fn mark_stale(&mut self, asid: Option<u16>) {
        let named = asid.map_or(u64::MAX, |asid| self.with_asid(asid));
        self.trust.note_named(named, asid.is_none());
        // A fence of one address space leaves alone what all have.
        if self.mark(self.restless & named, self.restless_shared && asid.is_none()) {
            self.lost_roots = self.lost_roots.and(asid.map_or(LostRoots::All, LostRoots::Asid));
        }
    }

    /// Marks these contexts, and the shared half if `shared` says so. Says whether there was anything to mark.
    #[inline]
    pub(super) fn mark(&mut self, marked: u64, shared: bool) -> bool {
        if marked == 0 && !shared {
            return false;
        }
        self.restless &= !marked;
        for number in members(marked) {
            if let Some(context) = self.context_mut(number) {
                context.stale = true;
            }
        }
        if shared && let Some(shared) = &mut self.shared {
            shared.stale = true;
        }
        self.restless_shared &= !shared;
        true
    }

    fn fence_address(&mut self, address: GuestVirtAddr, asid: Option<u16>) {
        let is_upper = self.is_upper(address);
        if is_upper
            && asid.is_none()
            && let Some(shared) = &self.shared
            && shared.mode.is_canonical(address.0)
        {
            self.drop_leaf(shared.root, address);
            self.hints.remove(address.0 / BLOCK_SIZE, 0);
        }
        let mut named = if is_upper { self.own_uppers } else { self.live };
        if let Some(asid) = asid
            && named != 0
        {
            named &= self.with_asid(asid);
        }
        members(named).for_each(|number| self.fence_in(number, address));
    }

    /// What a fence of an address drops in one context.
    fn fence_in(&mut self, number: usize, address: GuestVirtAddr) {
        let Some(context) = self.context(number) else { return };
        let (mode, root) = (context.key.satp.mode, context.root);
        if mode != Mode::Bare && mode.is_canonical(address.0) {
            self.drop_leaf(root, address);
            // The specification wants a fence of everything where a pointer has changed, but a kernel that fences less works
            // on hardware that caches no pointers.
            let (range, root) = (address.0 / BLOCK_SIZE, self.hint_root_of(number));
            if self.hints.find(range, root).is_some()
                && self.doubted.try_push((number as u8, address)).is_err()
            {
                self.hints.remove(range, root);
            }
        }
    }

    /// Drops what is cached of the guest leaf that maps `address`: one shadow leaf, or the whole range of a guest
    /// superpage that was filled in pieces.
    fn drop_leaf(&mut self, root: TableId, address: GuestVirtAddr) {
        let mut table = root;
        for level in (0..=self.top()).rev() {
            let slot = paging::index(address.0, level);
            let entry = self.pool.entry(table, slot);
            match self.pool.below(entry) {
                Some(next) if entry.has(PIECES) => {
                    // More goes than the one address that the caller flushes.
                    self.flush = TlbFlush::All;
                    return self.empty(next);
                }
                Some(next) => table = next,
                // What the pool does not hold is the window's.
                None if table == root && self.host.window.covers(slot) => return,
                None if entry.0 == 0 => return,
                None => {
                    self.note_code(entry, address);
                    return self.pool.drop_entry(table, slot);
                }
            }
        }
    }

    /// Drops the one shadow leaf for `address`: what lies beside it is as good as before.
    fn drop_piece(&mut self, root: TableId, address: GuestVirtAddr) {
        let mut table = root;
        for level in (0..=self.top()).rev() {
            let slot = paging::index(address.0, level);
            let entry = self.pool.entry(table, slot);
            match self.pool.below(entry) {
                Some(next) => table = next,
                None if entry.is_leaf() && table != root => {
                    self.note_code(entry, address);
                    return self.pool.drop_entry(table, slot);
                }
                None => return,
            }
        }
    }

    /// Drops all leaves that map the page at `host`.
    fn drop_leaves(&mut self, host: HostPhysAddr) {
        self.each_table(|shadow, table| shadow.drop_leaves_in(table, host));
    }

    /// Does something with each table below the roots.
    fn each_table(&mut self, mut visit: impl FnMut(&mut Self, TableId)) {
        for number in 0..=KERNEL {
            let first = match self.context(number) {
                Some(_) if number == KERNEL => self.shared.as_ref().and_then(|shared| shared.tables.first()),
                Some(context) => context.tables.first(),
                None => None,
            };
            let mut next = first;
            while let Some(table) = next {
                next = self.pool.next(table);
                visit(self, table);
            }
        }
    }

    /// Drops a table's writable leaves in a block of RAM.
    fn drop_writable_in(&mut self, table: TableId, block: HostPhysAddr) {
        let mut next = 0;
        while let Some(slot) = self.pool.find_writable(table, next, block) {
            self.pool.drop_entry(table, slot);
            next = slot.wrapping_add(1);
        }
    }

    fn drop_leaves_in(&mut self, table: TableId, host: HostPhysAddr) {
        let size = paging::leaf_size(self.pool.level(table));
        let mut next = 0;
        while let Some(slot) = self.pool.find_address(table, next, host.align_down(size)) {
            if self.pool.entry(table, slot).is_leaf() {
                self.pool.drop_entry(table, slot);
            }
            next = slot.wrapping_add(1);
        }
    }
}
