//! Writes shadow leaves: what the guest's walk has found, and what lies beside it.

use alloc::vec::Vec;

use isa::paging::{self, Mode, Pte};
use memory::{BLOCK_SIZE, GuestPhysAddr, GuestRam, GuestVirtAddr, HostPhysAddr, PAGE_SIZE};

use super::{Context, ShadowMmu, TlbFlush, UPPER};
use crate::context::View;
use crate::pool::{Source, TableId};
use crate::walk::{Access, Rights, Translation};

/// Marks a pointer to a table that holds pieces of a guest superpage as large as the pointer's range, so that a
/// fence of any address in it drops them all. One of the bits that the hardware leaves to software.
pub(super) const PIECES: u64 = 1 << 8;

/// Pages that a fill looks at, the one that is wanted among them: what lies in one cache line of the guest's table.
const AROUND: u64 = 8;

/// The way of a walk through the guest's tables.
#[derive(Debug)]
pub(super) struct Walked {
    /// By level: the table, and the entry in it.
    passed: [(GuestPhysAddr, Pte); 5],
    translation: Option<Translation>,
}

impl Walked {
    pub(super) const fn new() -> Self {
        Self { passed: [(GuestPhysAddr(0), Pte(0)); 5], translation: None }
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
    let Translation { address, leaf, level, .. } = translation;
    let flags = leaf_flags(leaf, view.rights(), view);
    let overlay = ram.overlay();
    if !overlay.touches_block(address) {
        // Guest RAM is contiguous in host memory, block-aligned in both, so a guest superpage can be a host one; no
        // larger than a block, for blocks are filled in one by one.
        return Some(Mapping { host, flags, block: level >= 1 });
    }
    let whole = Mapping { host, flags, block: false };
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

/// Whether what a leaf maps may be seen by all contexts that share the upper half.
const fn can_be_shared(translation: Translation) -> bool {
    translation.global && !translation.leaf.has(Pte::U)
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
        let Some((number, context)) = self.current_context() else { return };
        let (mode, view) = (context.key.satp.mode, context.key.view);
        let is_upper = paging::index(address.0, top) >= UPPER;
        if is_upper && context.shares && !can_be_shared(translation) {
            self.unshare(number);
        }
        let shares = is_upper && self.context(number).is_some_and(|context| context.shares);
        if is_upper && !shares {
            self.own_uppers |= 1 << number;
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
            if pointer != old || seen != self.pool.seen(table, slot) {
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
    fn follow(&mut self, table: TableId, source: Source) {
        if self.pool.source(table) != source {
            self.empty(table);
            self.pool.set_source(table, source);
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
        let entries = match source {
            Source::Table(guest_table) => ram.read_words(guest_table.wrapping_add(first * 8)),
            Source::None | Source::AnyRoot => None,
        };
        if translation.level == 0 && entries.is_none() {
            return;
        }
        for nth in 0..AROUND {
            let slot = first | nth;
            if slot == own || self.pool.entry(table, slot as usize).0 != 0 {
                continue;
            }
            let (found, seen) = match entries {
                Some(entries) => {
                    let entry = Pte(entries.get(nth as usize).copied().unwrap_or(0));
                    if !is_ready(entry) {
                        continue;
                    }
                    let found =
                        Translation { address: GuestPhysAddr(entry.address()), leaf: entry, ..translation };
                    // A pointer above may have made the first one global.
                    let global = translation.global && (entry.has(Pte::G) || !translation.leaf.has(Pte::G));
                    (Translation { global, ..found }, entry.0)
                }
                None => {
                    let page = translation.address.align_down(PAGE_SIZE);
                    let start = page.0.wrapping_sub(own * PAGE_SIZE);
                    (
                        Translation {
                            address: GuestPhysAddr(start.wrapping_add(slot * PAGE_SIZE)),
                            ..translation
                        },
                        0,
                    )
                }
            };
            if shares && !can_be_shared(found) {
                continue;
            }
            let rights = view.rights();
            let access = match () {
                () if rights.allow(found.leaf, Access::Load) => Access::Load,
                () if rights.allow(found.leaf, Access::Fetch) => Access::Fetch,
                () => continue,
            };
            let Some(host) = ram.present_address(found.address) else { continue };
            let Some(mapping) = mapping(ram, host, access, found, view) else { continue };
            let neighbour = GuestVirtAddr(address.0 & !(PAGE_SIZE * 512 - 1) | slot * PAGE_SIZE);
            self.set_leaf(table, slot as usize, 0, neighbour, &mapping, found, seen);
        }
    }

    /// Makes sure that `tables` can be had for the current context.
    fn make_room(&mut self, ram: &GuestRam, tables: usize) {
        while self.pool.available() < tables {
            let Some((current, context)) = self.current_context() else { return };
            let key = context.key;
            let is_alone = self.contexts.iter().flatten().count() == 1;
            if is_alone {
                self.clear();
            } else {
                self.evict();
            }
            // The current context is the last used one, so it goes only when it is alone.
            if self.current != Some(current) {
                self.switch(ram, key);
                return;
            }
        }
    }
}

/// Whether an entry of a guest's last table is a leaf that needs no change, and nothing is wrong with it.
const fn is_ready(entry: Pte) -> bool {
    let write_only = entry.has(Pte::W) && !entry.has(Pte::R);
    entry.is_leaf() && entry.has(Pte::A) && !write_only && entry.0 & Pte::RESERVED == 0
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
