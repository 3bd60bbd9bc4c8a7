//! Writes shadow leaves: what the guest's walk has found, and what lies beside it.

use alloc::vec::Vec;
use core::sync::atomic::Ordering;

use isa::paging::{self, Mode, Pte, Satp};
use memory::{BLOCK_SIZE, GuestPhysAddr, GuestRam, GuestVirtAddr, HostPhysAddr, PAGE_SIZE};

use vhart::{FillHint, Pointer};

use super::forget::{is_code, still_holds};
use super::{Context, KERNEL, Root, ShadowMmu, TlbFlush, UPPER, Verdict, bit};
use crate::context::{ContextKey, View};
use crate::pool::{Source, TableId, TablePool};
use crate::walk::{Access, Rights, Translation, last_table, needed};

/// Marks a pointer to a table that holds pieces of a guest superpage as large as the pointer's range, so that a
/// fence of any address in it drops them all. One of the bits that the hardware leaves to software.
pub(super) const PIECES: u64 = 1 << 8;

/// Pages that a fill looks at, the one that is wanted among them: what lies in one cache line of the guest's table.
const AROUND: u64 = 8;

/// The way of a walk through the guest's tables.
#[derive(Debug)]
pub(super) struct Walked {
    /// By level, of which guests have four: the table, and the entry in it.
    passed: [(GuestPhysAddr, Pte); 4],
    translation: Option<Translation>,
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
    fn at(&self, level: usize) -> (GuestPhysAddr, Pte) {
        self.passed.get(level).copied().unwrap_or((GuestPhysAddr(0), Pte(0)))
    }
}

/// What a shadow leaf is to map.
pub(super) struct Mapping {
    host: HostPhysAddr,
    flags: u64,
    /// Whether the whole block may be mapped by one leaf.
    block: bool,
}

/// The leaf that serves `access`. A page whose kernel code is fetched from a copy is mapped execute-only where the
/// kernel executes it, and read-only elsewhere; `None` where such a page is not to be mapped for this access.
pub(super) fn mapping(
    ram: &GuestRam,
    host: HostPhysAddr,
    access: Access,
    translation: Translation,
    view: View,
) -> Option<Mapping> {
    let Translation { address, leaf, .. } = translation;
    let mut flags = leaf_flags(leaf, view.rights(), view);
    let overlay = ram.overlay();
    if overlay.wants_scan() && !matches!(view, View::User { .. }) && flags & Pte::X != 0 {
        if overlay.may_run(address) {
            let small = Translation { level: 0, ..translation };
            return covered(ram, host, access, small, view, flags);
        }
        flags &= !Pte::X;
        if access == Access::Fetch {
            return None;
        }
    }
    covered(ram, host, access, translation, view, flags)
}

/// As `mapping`, with these flags where there is no copy.
fn covered(
    ram: &GuestRam,
    host: HostPhysAddr,
    access: Access,
    translation: Translation,
    view: View,
    flags: u64,
) -> Option<Mapping> {
    let Translation { address, level, .. } = translation;
    let overlay = ram.overlay();
    if !overlay.touches_block(address) {
        // Guest RAM is contiguous in host memory, block-aligned in both, so a guest superpage can be a host one; no
        // larger than a block, for blocks are filled in one by one.
        return Some(Mapping { host, flags, block: level >= 1 });
    }
    let whole = Mapping { host, flags, block: false };
    let Some(copy) = overlay.copy_of(address) else {
        return match access {
            _ if !overlay.is_watched(address) => Some(whole),
            Access::Store => None,
            Access::Fetch | Access::Load => Some(Mapping { flags: flags & !Pte::W, ..whole }),
        };
    };
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

/// Whether what a leaf maps may be seen by all contexts that share the upper half.
const fn can_be_shared(translation: Translation) -> bool {
    translation.global && !translation.leaf.has(Pte::U)
}

/// Whether the guest's pointers still lead to what a hint says: they may have changed without a fence, and in the shared
/// half those of another space may be others. The assembly does not ask.
#[inline]
fn leads_there(ram: &GuestRam, satp: Satp, address: GuestVirtAddr, hint: &FillHint) -> bool {
    let root = ram.table(GuestPhysAddr(satp.ppn << 12));
    let first =
        root.and_then(|root| root.get(paging::index(address.0, satp.mode.levels().saturating_sub(1))));
    if first.is_some_and(|first| first.load(Ordering::Relaxed) == hint.root_entry)
        && hint.pointers.iter().all(Pointer::stands)
    {
        return true;
    }
    last_table(ram, satp, address)
        .is_some_and(|(table, global)| table.0 == hint.guest_table && (global || !hint.global))
}

impl ShadowMmu {
    /// The verdict on an access in the current context, the one for `key`, where the neighbourhood of `address` is known.
    #[inline]
    pub(super) fn resolve_by_hint(
        &mut self,
        ram: &GuestRam,
        key: ContextKey,
        address: GuestVirtAddr,
        access: Access,
    ) -> Option<Verdict> {
        let (number, context) = self.current_context()?;
        let shares = context.shares && (address.0 as i64) < 0;
        let hint = self.hints.find(address.0 / BLOCK_SIZE, self.hint_root(number, shares))?;
        if !leads_there(ram, key.satp, address, hint) {
            return None;
        }
        let (table, guest_table) = (TablePool::numbered(hint.table), GuestPhysAddr(hint.guest_table));
        let is_global = hint.global;
        let slot = paging::index(address.0, 0);
        let place = guest_table.wrapping_add(slot as u64 * 8);
        let entry = Pte(ram.read_word(place)?);
        let rights = key.view.rights();
        if !is_proper(entry) || !rights.allow(entry, access) {
            return Some(Verdict::Fault(access.page_fault()));
        }
        let leaf = Pte(entry.0 | needed(access));
        if leaf != entry && ram.compare_exchange(place, entry.0, leaf.0) != Some(true) {
            return None;
        }
        let found = GuestPhysAddr(leaf.address() | (address.0 % PAGE_SIZE));
        let translation =
            Translation { address: found, leaf, level: 0, global: is_global || leaf.has(Pte::G) };
        if shares && !can_be_shared(translation) {
            return None;
        }
        let mapping = mapping(ram, ram.host_address(found)?, access, translation, key.view)?;
        self.set_leaf(table, slot, 0, address, &mapping, translation, leaf.0);
        let source = Source::Table(guest_table);
        // Where a program stores for the first time, what lies beside has seldom been used before.
        if access != Access::Store {
            self.fill_around(ram, table, address, source, translation, key.view, shares);
        }
        Some(Verdict::Filled)
    }

    /// Carries out SFENCE.VMA for an address in the shared half in all address spaces, and fills in at once what the guest's
    /// table now says: kernels fence what they are about to use. Says whether it could: only where the neighbourhood is
    /// known.
    pub fn fence_shared(&mut self, ram: &GuestRam, address: GuestVirtAddr) -> bool {
        self.fences = self.fences.wrapping_add(1);
        self.try_fence_shared(ram, address).is_some()
    }

    #[inline]
    fn try_fence_shared(&mut self, ram: &GuestRam, address: GuestVirtAddr) -> Option<()> {
        let shared = self.shared.as_ref()?;
        if self.own_uppers != 0 || shared.stale || (address.0 as i64) >= 0 {
            return None;
        }
        let hint = self.hints.find(address.0 / BLOCK_SIZE, 0)?;
        let satp = self.current_context().filter(|(_, context)| context.shares)?.1.key.satp;
        if !leads_there(ram, satp, address, hint) {
            return None;
        }
        let (table, guest_table) = (TablePool::numbered(hint.table), GuestPhysAddr(hint.guest_table));
        let is_global = hint.global;
        let slot = paging::index(address.0, 0);
        self.note_code(self.pool.entry(table, slot), address);
        self.pool.drop_entry(table, slot);
        self.flush = self.flush.and(TlbFlush::Address(address));
        let entry = Pte(ram.read_word(guest_table.wrapping_add(slot as u64 * 8))?);
        let global = is_global || entry.has(Pte::G);
        let found = Translation { address: GuestPhysAddr(entry.address()), leaf: entry, level: 0, global };
        let view = View::Supervisor { sum: false, mxr: false };
        if is_proper(entry)
            && entry.has(Pte::A | Pte::R)
            && can_be_shared(found)
            && let Some(host) = ram.present_address(found.address)
            && let Some(mapping) = mapping(ram, host, Access::Load, found, view)
        {
            self.set_leaf(table, slot, 0, address, &mapping, found, entry.0);
        }
        Some(())
    }

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
        let is_upper = paging::index(address.0, top) >= UPPER;
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
        if !self.is_restless(number, shares)
            && (translation.level..mode.levels()).any(|level| !ram.overlay().is_watched(walked.at(level).0))
        {
            self.set_restless(number, shares, true);
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
            self.follow(table, source);
            let slot = paging::index(address.0, level);
            let old = self.pool.entry(table, slot);
            if level == 0 || level == 1 && mapping.block && !old.is_table() {
                self.set_leaf(table, slot, level, address, mapping, translation, seen);
                if level == 0 {
                    if let Source::Table(guest_table) = source {
                        self.hint(ram, number, shares, address, table, guest_table, walked);
                    }
                    self.fill_around(ram, table, address, source, translation, view, shares);
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

    /// Makes a table follow `source`; what it has of another one goes.
    pub(super) fn follow(&mut self, table: TableId, source: Source) {
        let old = self.pool.source(table);
        if old != source {
            self.empty(table);
            self.pool.set_source(table, source);
            if old != Source::None {
                self.hints.forget_table(TablePool::number(table));
            }
        }
    }

    /// By what root hints of a context, or of the shared half, are found.
    pub(super) fn hint_root(&self, number: usize, shares: bool) -> u64 {
        match self.context(number) {
            Some(context) if !shares => self.satp(Root { table: self.pool.address(context.root), number }),
            _ => 0,
        }
    }

    /// Remembers the last tables of the range of `address`.
    #[allow(clippy::too_many_arguments, reason = "it goes on from where `fill` stands")]
    fn hint(
        &mut self,
        ram: &GuestRam,
        number: usize,
        shares: bool,
        address: GuestVirtAddr,
        table: TableId,
        guest_table: GuestPhysAddr,
        walked: &Walked,
    ) {
        let Some(translation) = walked.translation else { return };
        let (Some(context), Some(guest)) = (self.context(number), ram.table(guest_table)) else { return };
        let Some([shadow, seen, used]) = self.pool.places(table) else { return };
        let plain = Pte::V | Pte::R | Pte::A;
        // The assembly takes user pages in user mode and with SUM, where the kernel may not execute them.
        let (value, kept) = match context.key.view {
            View::User { mxr: false } => (plain | Pte::U, Pte::R | Pte::X),
            View::Supervisor { sum: true, mxr: false } if !shares => (plain | Pte::U, Pte::R),
            View::Supervisor { mxr: false, .. } if ram.overlay().wants_scan() => (plain, Pte::R),
            View::Supervisor { mxr: false, .. } => (plain, Pte::R | Pte::X),
            _ => return,
        };
        let global = translation.global && !translation.leaf.has(Pte::G);
        let shared = if shares && !global { Pte::G } else { 0 };
        let top = context.key.satp.mode.levels().saturating_sub(1);
        let mut pointers = [Pointer::NONE; 2];
        for level in 1..top {
            let (table, entry) = walked.at(level);
            let at = ram.table(table).and_then(|table| table.get(paging::index(address.0, level)));
            let (Some(at), Some(place)) = (at, pointers.get_mut(level.wrapping_sub(1))) else { return };
            *place = Pointer { at: Some(at), seen: entry.0 };
        }
        let hint = FillHint {
            range: address.0 / BLOCK_SIZE,
            root: self.hint_root(number, shares),
            guest: core::ptr::from_ref(guest).addr() as u64,
            shadow,
            seen,
            used,
            mask: Pte::RESERVED | plain | Pte::U | shared,
            value: value | shared,
            kept,
            table: TablePool::number(table),
            global,
            guest_table: guest_table.0,
            root_entry: walked.at(top).1.0,
            pointers,
        };
        let place = self.hints.insert(hint);
        if let Some(context) = self.context_mut(number) {
            context.hinted |= place;
        }
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

    #[allow(clippy::too_many_arguments, reason = "one place writes leaves, and needs all of them")]
    fn set_leaf(
        &mut self,
        table: TableId,
        slot: usize,
        level: usize,
        address: GuestVirtAddr,
        mapping: &Mapping,
        translation: Translation,
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
            self.writable.note(translation.address, level);
        }
        self.pool.set_entry(table, slot, leaf, seen);
        self.fills = self.fills.wrapping_add(1);
    }

    /// Fills in the neighbours of a page: those that the guest's table has ready, with A set, or the neighbouring pieces
    /// of the same superpage.
    #[allow(clippy::too_many_arguments, reason = "it goes on from where `fill` stands")]
    fn fill_around(
        &mut self,
        ram: &GuestRam,
        table: TableId,
        address: GuestVirtAddr,
        source: Source,
        translation: Translation,
        view: View,
        shares: bool,
    ) {
        let own = paging::index(address.0, 0) as u64;
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
                self.fill_neighbour(ram, table, address, slot, found, view, shares, entry.0);
            }
        } else if translation.level > 0 {
            let start = translation.address.align_down(PAGE_SIZE).0.wrapping_sub(own << 12);
            for slot in (first..).take(AROUND as usize) {
                let found =
                    Translation { address: GuestPhysAddr(start.wrapping_add(slot << 12)), ..translation };
                self.fill_neighbour(ram, table, address, slot, found, view, shares, 0);
            }
        }
    }

    /// Fills in one neighbour of the page of `address` that is not there yet.
    #[allow(clippy::too_many_arguments, reason = "it goes on from where `fill_around` stands")]
    fn fill_neighbour(
        &mut self,
        ram: &GuestRam,
        table: TableId,
        address: GuestVirtAddr,
        slot: u64,
        found: Translation,
        view: View,
        shares: bool,
        seen: u64,
    ) {
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
        self.set_leaf(table, slot as usize, 0, neighbour, &mapping, found, seen);
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

/// Whether an entry of a guest's last table is a leaf with nothing wrong about it.
const fn is_proper(entry: Pte) -> bool {
    let write_only = entry.has(Pte::W) && !entry.has(Pte::R);
    entry.is_leaf() && !write_only && entry.0 & Pte::RESERVED == 0
}

/// Which of the guest's pages a writable leaf may map: a bit for each page, and one for each block mapped whole. What is
/// noted stays until all leaves of the page are dropped.
#[derive(Debug, Default)]
pub(super) struct Writable {
    pages: Vec<u64>,
    blocks: Vec<u64>,
}

impl Writable {
    fn note(&mut self, address: GuestPhysAddr, level: usize) {
        let (bits, number) = if level == 0 {
            (&mut self.pages, address.0 / PAGE_SIZE)
        } else {
            (&mut self.blocks, address.0 / BLOCK_SIZE)
        };
        let word = (number / 64) as usize;
        // Only addresses of RAM come here, so this is bounded by where RAM ends.
        if bits.len() <= word {
            bits.resize(word + 1, 0);
        }
        if let Some(word) = bits.get_mut(word) {
            *word |= 1 << (number % 64);
        }
    }

    /// Whether the page may be mapped, and forgets it.
    pub(super) fn take(&mut self, page: GuestPhysAddr) -> bool {
        let take = |bits: &mut Vec<u64>, number: u64| {
            let Some(word) = bits.get_mut((number / 64) as usize) else { return false };
            let bit = 1 << (number % 64);
            let was = *word & bit != 0;
            *word &= !bit;
            was
        };
        let page_was = take(&mut self.pages, page.0 / PAGE_SIZE);
        take(&mut self.blocks, page.0 / BLOCK_SIZE) || page_was
    }
}
