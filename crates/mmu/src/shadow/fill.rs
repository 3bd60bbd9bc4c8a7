//! Writes shadow leaves: what the guest's walk has found, and what lies beside it; and makes the tables above them. What a
//! leaf allows is `mapping`'s.

use isa::paging::{self, Mode, Pte, Satp};
use memory::{BLOCK_SIZE, GuestPhysAddr, GuestRam, GuestVirtAddr, PAGE_SIZE};

use super::compare::still_holds;
use super::contexts::Context;
use super::mapping::{Mapping, can_be_shared, is_code, is_proper, mapping};
use super::roots::{KERNEL, bit};
use super::{ShadowMmu, TlbFlush};
use crate::context::{ContextKey, View};
use crate::pool::{Source, TableId, TablePool};
use crate::walk::{Access, Translation};

/// Marks a pointer to a table that holds pieces of a guest superpage as large as the pointer's range, so that a
/// fence of any address in it drops them all. One of the bits that the hardware leaves to software.
pub(super) const PIECES: u64 = 1 << 8;

/// Pages that a fill looks at, the one that is wanted among them: what lies in one cache line of the guest's table.
const AROUND: u64 = 8;

/// Where a fill has arrived: at a last table.
#[derive(Clone, Copy, Debug)]
pub(super) struct Spot {
    pub(super) table: TableId,
    pub(super) address: GuestVirtAddr,
    pub(super) view: View,
    /// Whether the table is the shared half's.
    pub(super) shares: bool,
}

/// The way of a walk through the guest's tables.
#[derive(Debug)]
pub(super) struct Walked {
    /// By level, of which guests have four: the table, and the entry in it.
    passed: [(GuestPhysAddr, Pte); 4],
    pub(super) translation: Option<Translation>,
}

impl Walked {
    pub(super) const fn new() -> Self {
        Self { passed: [(GuestPhysAddr(0), Pte(0)); 4], translation: None }
    }

    #[inline]
    pub(super) fn pass(&mut self, level: usize, table: GuestPhysAddr, entry: Pte) {
        if let Some(place) = self.passed.get_mut(level) {
            *place = (table, entry);
        }
    }

    /// Ends the walk; the leaf may have got A and D since it was passed.
    #[inline]
    pub(super) fn arrive(&mut self, translation: Translation) {
        if let Some((_, entry)) = self.passed.get_mut(translation.level) {
            *entry = translation.leaf;
        }
        self.translation = Some(translation);
    }

    #[inline]
    pub(super) fn at(&self, level: usize) -> (GuestPhysAddr, Pte) {
        self.passed.get(level).copied().unwrap_or((GuestPhysAddr(0), Pte(0)))
    }
}

impl ShadowMmu {
    /// Writes the leaf for `address` in the current context, and those beside it that are ready to be used.
    pub(super) fn fill(
        &mut self,
        ram: &GuestRam,
        address: GuestVirtAddr,
        mapping: &Mapping,
        walked: &Walked,
    ) {
        let Some(translation) = walked.translation else { return };
        let top = self.top();
        self.make_room(ram, top + 1);
        let Some((mut number, context)) = self.current_context() else { return };
        let ContextKey { satp: Satp { mode, .. }, view } = context.key;
        let is_upper = self.is_upper(address);
        let can_share = is_upper && can_be_shared(translation);
        if number == KERNEL && !can_share {
            number = self.settle(context.key);
        }
        if is_upper && !can_share && self.context(number).is_some_and(|context| context.shares) {
            self.unshare(number);
        }
        let shares = is_upper && self.context(number).is_some_and(|context| context.shares);
        if is_upper && !shares {
            self.own_uppers |= bit(number);
        }
        let Some(mut table) = self.start(number, shares) else { return };
        for level in (0..=top).rev() {
            // The guest's table whose entries these follow, if it has one at this level.
            let governed = mode != Mode::Bare && level >= translation.level && level < mode.levels();
            let (source, seen) = match walked.at(level) {
                _ if !governed => (Source::None, 0),
                (_, entry) if shares && level + 1 == mode.levels() => (Source::AnyRoot, entry.0),
                (guest_table, entry) => (Source::Table(guest_table), entry.0),
            };
            let is_new = self.follow(table, source);
            if governed
                && is_new
                && source != Source::AnyRoot
                && !ram.overlay().is_watched(walked.at(level).0)
            {
                self.loosen(number, shares, table);
            }
            let slot = paging::index(address.0, level);
            let old = self.pool.entry(table, slot);
            if level == 0 || level == 1 && mapping.block && !old.is_table() {
                self.set_leaf(table, slot, level, address, mapping, seen);
                if level == 0 {
                    let spot = Spot { table, address, view, shares };
                    if let Source::Table(guest_table) = source {
                        self.hint(ram, number, spot, guest_table, walked);
                    }
                    self.fill_around(ram, spot, source, translation);
                }
                return;
            }
            let next = match self.pool.below(old) {
                Some(next) => next,
                None => {
                    let Some(next) = self.take_table(number, shares, level.saturating_sub(1)) else { return };
                    if old.is_leaf() {
                        self.flush = TlbFlush::All;
                    }
                    next
                }
            };
            let pieces = if level <= translation.level { PIECES } else { 0 };
            let pointer = Pte::new(self.pool.address(next).0, Pte::V | pieces);
            let seen_before = self.pool.seen(table, slot);
            if pointer != old || seen != seen_before {
                // What is below was made of another entry: a pointer that made it global, a superpage of other rights.
                if old.is_table() && !still_holds(seen_before, seen) {
                    self.detach(next);
                }
                self.pool.set_entry(table, slot, pointer, seen);
                if source == Source::AnyRoot {
                    self.disturb_shared(table);
                }
                if shares && level == top {
                    self.pass_on(slot, pointer);
                }
            }
            table = next;
        }
    }

    /// Where the walk for an address begins: the context's root, or that of the shared half.
    pub(super) fn start(&self, number: usize, shares: bool) -> Option<TableId> {
        if shares { self.shared_root() } else { self.context(number).map(|context| context.root) }
    }

    /// Makes a table follow `source`; what it has of another one goes. Says whether it was another one.
    pub(super) fn follow(&mut self, table: TableId, source: Source) -> bool {
        let old = self.pool.source(table);
        if old == source {
            return false;
        }
        self.empty(table);
        self.pool.set_source(table, source);
        if old != Source::None {
            self.hints.forget_table(TablePool::number(table));
        }
        true
    }

    fn take_table(&mut self, number: usize, shares: bool, level: usize) -> Option<TableId> {
        let Self { pool, contexts, shared, .. } = self;
        if shares {
            pool.take(&mut shared.as_mut()?.tables, level)
        } else {
            pool.take(&mut contexts.get_mut(number)?.as_mut()?.tables, level)
        }
    }

    /// Gives an entry of the shared half's root to all roots that share it.
    fn pass_on(&mut self, slot: usize, entry: Pte) {
        for context in self.contexts.iter().flatten().filter(|context: &&Context| context.shares) {
            self.pool.set_fixed(context.root, slot, entry);
        }
    }

    pub(super) fn set_leaf(
        &mut self,
        table: TableId,
        slot: usize,
        level: usize,
        address: GuestVirtAddr,
        mapping: &Mapping,
        seen: u64,
    ) {
        let size = if level == 0 { PAGE_SIZE } else { BLOCK_SIZE };
        let leaf = Pte::new(mapping.host.align_down(size).0, mapping.flags);
        let old = self.pool.entry(table, slot);
        if old.is_leaf() {
            let gains = leaf.has(old.0) && leaf.address() == old.address() && leaf != old;
            if leaf != old {
                self.note_code(old, address);
            }
            if !gains {
                // The same again: the hardware faulted on what it had cached before. Less or elsewhere: what it
                // has cached is wrong now.
                self.flush = self.flush.and(TlbFlush::Address(address));
            }
        }
        if is_code(leaf) {
            let is_upper = self.is_upper(address);
            let context = self.current.and_then(|number| self.context_mut(number));
            if let Some(context) = context.filter(|context| !(is_upper && context.shares)) {
                context.holds_code = true;
            }
        }
        if leaf.has(Pte::W) {
            self.writable.note(mapping.guest, level);
        }
        self.pool.set_entry(table, slot, leaf, seen);
        self.fills = self.fills.wrapping_add(1);
    }

    /// Fills in the neighbours of a page: those that the guest's table has ready, with A set, or the neighbouring pieces
    /// of the same superpage.
    pub(super) fn fill_around(
        &mut self,
        ram: &GuestRam,
        spot: Spot,
        source: Source,
        translation: Translation,
    ) {
        let own = paging::index(spot.address.0, 0) as u64;
        let first = own & !(AROUND - 1);
        if let Source::Table(guest_table) = source {
            let Some(entries) = ram.read_words(guest_table.wrapping_add(first << 3)) else { return };
            for (slot, entry) in (first..).zip(entries.map(Pte)) {
                if !entry.has(Pte::V | Pte::A) || !is_proper(entry) {
                    continue;
                }
                // A pointer above may have made all of them global.
                let global = translation.global && (entry.has(Pte::G) || !translation.leaf.has(Pte::G));
                let found =
                    Translation { address: GuestPhysAddr(entry.address()), leaf: entry, level: 0, global };
                self.fill_neighbour(ram, spot, slot, found, entry.0);
            }
        } else if translation.level > 0 {
            let start = translation.address.align_down(PAGE_SIZE).0.wrapping_sub(own << 12);
            for slot in (first..).take(AROUND as usize) {
                let found =
                    Translation { address: GuestPhysAddr(start.wrapping_add(slot << 12)), ..translation };
                self.fill_neighbour(ram, spot, slot, found, 0);
            }
        }
    }

    /// Fills in one neighbour of the page of `address` that is not there yet.
    fn fill_neighbour(&mut self, ram: &GuestRam, spot: Spot, slot: u64, found: Translation, seen: u64) {
        let Spot { table, address, view, shares } = spot;
        if self.pool.entry(table, slot as usize).0 != 0 || shares && !can_be_shared(found) {
            return;
        }
        let rights = view.rights();
        let access = match () {
            () if rights.allow(found.leaf, Access::Load) => Access::Load,
            () if rights.allow(found.leaf, Access::Fetch) => Access::Fetch,
            () => return,
        };
        let Some(host) = ram.present_address(found.address) else { return };
        let Some(mapping) = mapping(ram, host, access, found, view) else { return };
        let neighbour = GuestVirtAddr(address.0 & !(BLOCK_SIZE - 1) | slot << 12);
        self.set_leaf(table, slot as usize, 0, neighbour, &mapping, seen);
    }

    /// Makes sure that `tables` can be had for the current context.
    fn make_room(&mut self, ram: &GuestRam, tables: usize) {
        while self.pool.available() < tables {
            let Some((current, context)) = self.current_context() else { return };
            let key = context.key;
            let is_alone = self.live & !bit(current) == 0;
            if is_alone {
                self.clear();
            } else {
                self.evict();
            }
            // The current context goes only when it is alone.
            if self.current != Some(current) {
                self.switch(ram, key);
                return;
            }
        }
    }
}
