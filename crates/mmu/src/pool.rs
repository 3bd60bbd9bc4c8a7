//! The memory that shadow tables are made of: a fixed number of page tables, handed out and taken back in lists.
//!
//! Beside each table is kept what its entries were made of: which slots are in use, the guest's table that they follow,
//! and the guest's entries as they were then. So a table can be emptied, and compared with the guest's, slot by slot. The
//! memory itself, which the assembly and the hardware use, too, is `vhart`'s `ShadowTables`.

use alloc::boxed::Box;

use core::sync::atomic::Ordering::Relaxed;

use isa::paging::Pte;
use memory::{BLOCK_SIZE, GuestPhysAddr, HostPhysAddr, PAGE_SIZE};
use vhart::tables::{Entry, ROOTS, Slots};
use vhart::{HostTables, ShadowTables};

#[cfg(test)]
mod tests;

/// A table of the pool, by number.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TableId(u32);

/// A list of tables that belong together. Appending one list to another takes constant time.
#[derive(Debug, Default)]
pub struct TableList {
    ends: Option<(TableId, TableId)>,
    len: usize,
}

impl TableList {
    /// The first of them; `TablePool::next` has the others.
    pub fn first(&self) -> Option<TableId> {
        self.ends.map(|(first, _)| first)
    }
}

/// What the entries of a table follow.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Source {
    /// No table of the guest's: the table is above them all, or holds the pieces of one guest page.
    None,
    /// The guest's table at this address, slot by slot.
    Table(GuestPhysAddr),
    /// The root of whichever address space one looks from.
    AnyRoot,
}

#[derive(Clone, Debug)]
struct Meta {
    next: Option<TableId>,
    /// Entries of this table are at this level.
    level: u8,
    /// Whether it is on a list of loose ones, and which one comes after it there.
    is_loose: bool,
    next_loose: Option<TableId>,
    /// How often it was compared since something in it was found changed; larger tables count more.
    quiet: u32,
    source: Source,
}

/// A pool of page tables at consecutive host-physical addresses.
#[derive(Debug)]
pub struct TablePool {
    memory: ShadowTables,
    metas: Box<[Meta]>,
    free: TableList,
}

impl TablePool {
    /// A pool of half as many tables; the other half is for what they were made of. The roots, empty but for the hypervisor's
    /// window, are not handed out: see `fixed`.
    pub fn new(tables: HostTables) -> Self {
        let memory = ShadowTables::new(tables);
        let count = memory.len() as u32;
        let meta =
            Meta { next: None, level: 0, is_loose: false, next_loose: None, quiet: 0, source: Source::None };
        let metas = (0..count).map(|_| meta.clone()).collect();
        let mut pool = Self { metas, memory, free: TableList::default() };
        let mut free = TableList::default();
        for id in (ROOTS as u32..count).rev() {
            pool.push(&mut free, TableId(id));
        }
        pool.free = free;
        (0..ROOTS as u32).for_each(|id| pool.clear(TableId(id)));
        pool
    }

    /// The tables as the assembly and the hardware see them.
    #[inline]
    pub const fn memory(&self) -> &ShadowTables {
        &self.memory
    }

    /// The table with this number of those that are never handed out, for entries at `level`.
    pub fn fixed(&mut self, number: usize, level: usize) -> TableId {
        if let Some(meta) = self.metas.get_mut(number) {
            meta.level = level as u8;
            meta.is_loose = false;
        }
        TableId(number as u32)
    }

    /// Tables that can be had without taking one back.
    pub fn available(&self) -> usize {
        self.free.len
    }

    /// All tables that are handed out, free or not.
    #[cfg(test)]
    pub fn capacity(&self) -> usize {
        self.memory.len() - ROOTS
    }

    /// Takes an emptied table from the pool, for entries at `level`, and puts it on `list`.
    pub fn take(&mut self, list: &mut TableList, level: usize) -> Option<TableId> {
        let (first, last) = self.free.ends?;
        self.free.ends = self.next(first).map(|next| (next, last));
        self.free.len = self.free.len.saturating_sub(1);
        self.push(list, first);
        self.clear(first);
        let meta = self.metas.get_mut(first.0 as usize)?;
        (meta.level, meta.source, meta.is_loose) = (level as u8, Source::None, false);
        Some(first)
    }

    /// Takes all tables of a list back.
    pub fn give_back(&mut self, list: &mut TableList) {
        let list = core::mem::take(list);
        let Some((first, last)) = list.ends else { return };
        let last_free = match self.free.ends {
            None => last,
            Some((first_free, last_free)) => {
                if let Some(meta) = self.metas.get_mut(last.0 as usize) {
                    meta.next = Some(first_free);
                }
                last_free
            }
        };
        self.free = TableList { ends: Some((first, last_free)), len: self.free.len.wrapping_add(list.len) };
    }

    /// Empties a root that is never handed out, and takes the tables below it back.
    pub fn forget(&mut self, root: TableId, list: &mut TableList) {
        self.clear(root);
        self.set_source(root, Source::None);
        if let Some(meta) = self.metas.get_mut(root.0 as usize) {
            meta.is_loose = false;
        }
        self.give_back(list);
    }

    /// The table after `table` in its list.
    pub fn next(&self, table: TableId) -> Option<TableId> {
        self.metas.get(table.0 as usize)?.next
    }

    /// Where a table lies.
    pub fn address(&self, table: TableId) -> HostPhysAddr {
        self.memory.address(table.0)
    }

    /// Where the table with this number lies.
    pub fn address_of(&self, number: usize) -> HostPhysAddr {
        self.address(TableId(number as u32))
    }

    /// The table at `address`, or `None` where the pool has none.
    pub fn at(&self, address: HostPhysAddr) -> Option<TableId> {
        let number = address.offset_from(self.memory.base())? / PAGE_SIZE;
        (number < self.memory.len() as u64).then_some(TableId(number as u32))
    }

    /// The table that a pointer leads to; `None` for what is no pointer into the pool.
    #[inline]
    pub fn below(&self, entry: Pte) -> Option<TableId> {
        if entry.is_table() { self.at(HostPhysAddr(entry.address())) } else { None }
    }

    /// An entry; `slot` counts modulo 512.
    #[inline]
    pub fn entry(&self, table: TableId, slot: usize) -> Pte {
        let entry = self.memory.table(table.0).and_then(|table| table.entries().get(slot & 511));
        Pte(entry.map_or(0, |entry| entry.get()))
    }

    /// Writes an entry that was made of the guest's entry `seen`; `slot` counts modulo 512.
    #[inline]
    pub fn set_entry(&mut self, table: TableId, slot: usize, entry: Pte, seen: u64) {
        let Some(slots) = self.memory.write(table.0, slot, entry.0, seen) else { return };
        mark(slots, slot, entry.0 != 0);
        if entry.is_leaf() {
            slots
                .blocks
                .store(slots.blocks.load(Relaxed) | block_bit(HostPhysAddr(entry.address())), Relaxed);
        }
    }

    /// Empties an entry.
    #[inline]
    pub fn drop_entry(&mut self, table: TableId, slot: usize) {
        self.set_fixed(table, slot, Pte(0));
        if let Some(slots) = self.memory.slots(table.0) {
            mark(slots, slot, false);
        }
    }

    /// Writes an entry that is no business of the guest's. `take` does not empty it.
    #[inline]
    pub fn set_fixed(&mut self, table: TableId, slot: usize, entry: Pte) {
        self.memory.set(table.0, slot, entry.0);
    }

    /// Says that an entry is right for the guest's entry `seen`, too.
    pub fn set_seen(&mut self, table: TableId, slot: usize, seen: u64) {
        self.memory.set_seen(table.0, slot, seen);
    }

    /// The guest's entry that an entry was made of.
    #[inline]
    pub fn seen(&self, table: TableId, slot: usize) -> u64 {
        let seen = self.memory.seen(table.0).and_then(|seen| seen.entries().get(slot & 511));
        seen.map_or(0, |seen| seen.get())
    }

    /// What the table's entries follow.
    #[inline]
    pub fn source(&self, table: TableId) -> Source {
        self.metas.get(table.0 as usize).map_or(Source::None, |meta| meta.source)
    }

    /// Says what the table's entries follow from now on.
    #[inline]
    pub fn set_source(&mut self, table: TableId, source: Source) {
        if let Some(meta) = self.metas.get_mut(table.0 as usize) {
            (meta.source, meta.quiet) = (source, 0);
        }
    }

    /// Puts a table on a list of loose ones, unless it is on one already.
    pub fn push_loose(&mut self, list: &mut Option<TableId>, table: TableId) {
        if let Some(meta) = self.metas.get_mut(table.0 as usize)
            && !meta.is_loose
        {
            (meta.is_loose, meta.next_loose) = (true, list.replace(table));
        }
    }

    /// Takes a table from a list of loose ones.
    pub fn pop_loose(&mut self, list: &mut Option<TableId>) -> Option<TableId> {
        let table = (*list)?;
        let meta = self.metas.get_mut(table.0 as usize)?;
        meta.is_loose = false;
        *list = meta.next_loose.take();
        Some(table)
    }

    /// Whether a table is on a list of loose ones.
    pub fn is_loose(&self, table: TableId) -> bool {
        self.metas.get(table.0 as usize).is_some_and(|meta| meta.is_loose)
    }

    /// Counts that a table was found as it was, `times` times, or with `None` that it was not; gives the count.
    pub fn count_quiet(&mut self, table: TableId, times: Option<u32>) -> u32 {
        let Some(meta) = self.metas.get_mut(table.0 as usize) else { return 0 };
        meta.quiet = times.map_or(0, |times| meta.quiet.saturating_add(times));
        meta.quiet
    }

    /// The level of the table's entries.
    pub fn level(&self, table: TableId) -> usize {
        self.metas.get(table.0 as usize).map_or(0, |meta| usize::from(meta.level))
    }

    /// The first slot in use from `first` on; the table may change before the next one is asked for.
    #[inline]
    pub fn next_used(&self, table: TableId, first: usize) -> Option<usize> {
        let slots = self.memory.slots(table.0)?;
        let mut words = u64::from(slots.words.load(Relaxed)) & u64::MAX.checked_shl((first / 64) as u32)?;
        let mut from = u64::MAX << (first % 64);
        while words != 0 {
            let nth = words.trailing_zeros() as usize;
            if nth != first / 64 {
                from = u64::MAX;
            }
            let word = slots.used.get(nth)?.load(Relaxed) & from;
            if word != 0 {
                return Some(nth * 64 + word.trailing_zeros() as usize);
            }
            words &= words.wrapping_sub(1);
        }
        None
    }

    /// The first slot from `first` on with a leaf at `address`, if there is one; where the assembly has made it, only if it
    /// can be written.
    #[inline]
    pub fn find_address(&self, table: TableId, first: usize, address: HostPhysAddr) -> Option<usize> {
        self.find(table, first, Pte::new(address.0, 0), ADDRESS)
    }

    /// The first slot from `first` on with a leaf that can be written, of a page in `block`, which may be mapped whole.
    #[inline]
    pub fn find_writable(&self, table: TableId, first: usize, block: HostPhysAddr) -> Option<usize> {
        const PAGES: u64 = Pte::new(BLOCK_SIZE - 1, 0).0;
        self.find(table, first, Pte::new(block.0, Pte::W), ADDRESS & !PAGES | Pte::W)
    }

    /// The first slot from `first` on whose entry has these bits where `mask` has any.
    #[inline]
    fn find(&self, table: TableId, first: usize, wanted: Pte, mask: u64) -> Option<usize> {
        let Slots { used, blocks, .. } = self.memory.slots(table.0)?;
        if blocks.load(Relaxed) & block_bit(HostPhysAddr(wanted.address())) == 0 {
            return None;
        }
        let entries = self.memory.table(table.0)?.entries().as_chunks::<8>().0;
        let mut group = first / 8;
        let mut skip = first % 8;
        while let Some(word) = used.get(group / 8) {
            let mut word = word.load(Relaxed) >> (8 * (group % 8));
            let end = (group | 7) + 1;
            while word != 0 {
                if word as u8 != 0 {
                    let is_wanted = |entry: &Entry| (entry.get() ^ wanted.0) & mask == 0;
                    if let Some(nth) = entries.get(group)?.iter().skip(skip).position(is_wanted) {
                        return Some(8 * group + skip + nth);
                    }
                }
                skip = 0;
                word >>= 8;
                group += 1;
            }
            (group, skip) = (end, 0);
        }
        None
    }

    /// The tables, of which the assembly may use any slot of this one from now on.
    pub fn fill_by_assembly(&self, table: TableId) -> &ShadowTables {
        if let Some(slots) = self.memory.slots(table.0) {
            slots.words.store(u8::MAX, Relaxed);
        }
        &self.memory
    }

    /// The number of a table.
    pub const fn number(table: TableId) -> u32 {
        table.0
    }

    /// The table with this number.
    pub const fn numbered(number: u32) -> TableId {
        TableId(number)
    }

    /// A table's entries.
    pub fn entries(&self, table: TableId) -> impl Iterator<Item = Pte> + '_ {
        // By reference: the scanner recurses over these, and the hypervisor's stack is small.
        let table = self.memory.table(table.0);
        table.into_iter().flat_map(|table| table.entries()).map(|entry| Pte(entry.get()))
    }

    /// Empties the slots in use, or all where nothing is known of the table yet.
    pub fn clear(&mut self, table: TableId) {
        let Some(slots) = self.memory.slots(table.0) else { return };
        for_each_bit(u64::from(slots.words.load(Relaxed)), |nth| {
            let Some(place) = slots.used.get(nth) else { return };
            let word = place.load(Relaxed);
            place.store(0, Relaxed);
            for_each_bit(word, |bit| self.memory.set(table.0, nth * 64 + bit, 0));
        });
        slots.words.store(0, Relaxed);
        slots.blocks.store(0, Relaxed);
    }

    /// Drops the entries of a table for which `holds`, told the slot, the entry and what it was made of, says no.
    #[inline]
    pub fn retain(&mut self, table: TableId, mut holds: impl FnMut(usize, Pte, u64) -> bool) {
        let (Some(slots), Some(entries), Some(seen)) =
            (self.memory.slots(table.0), self.memory.table(table.0), self.memory.seen(table.0))
        else {
            return;
        };
        for_each_bit(u64::from(slots.words.load(Relaxed)), |nth| {
            let Some(place) = slots.used.get(nth) else { return };
            let mut word = place.load(Relaxed);
            for_each_bit(word, |bit| {
                let slot = (nth * 64 + bit) & 511;
                if let (Some(entry), Some(seen)) = (entries.entries().get(slot), seen.entries().get(slot))
                    && !holds(slot, Pte(entry.get()), seen.get())
                {
                    self.memory.set(table.0, slot, 0);
                    word &= !(1 << (bit & 63));
                }
            });
            place.store(word, Relaxed);
        });
    }

    fn push(&mut self, list: &mut TableList, table: TableId) {
        if let Some(meta) = self.metas.get_mut(table.0 as usize) {
            meta.next = list.ends.map(|(first, _)| first);
        }
        let last = list.ends.map_or(table, |(_, last)| last);
        *list = TableList { ends: Some((table, last)), len: list.len.wrapping_add(1) };
    }
}

/// Notes whether a slot is in use.
#[inline]
fn mark(slots: &Slots, slot: usize, used: bool) {
    let nth = (slot & 511) / 64;
    if let Some(place) = slots.used.get(nth) {
        let (bit, word) = (1 << (slot & 63), place.load(Relaxed));
        if used {
            place.store(word | bit, Relaxed);
            slots.words.store(slots.words.load(Relaxed) | 1 << nth, Relaxed);
        } else {
            place.store(word & !bit, Relaxed);
        }
    }
}

/// The bits of an entry of ours that are its address, and those that the hardware reserves.
const ADDRESS: u64 = !0x3ff;

/// The bit that stands for the block of host memory in which an address lies.
const fn block_bit(address: HostPhysAddr) -> u64 {
    1 << (address.0 / BLOCK_SIZE % 64)
}

/// The numbers of the bits that are set, in order.
#[inline]
fn for_each_bit(mut word: u64, mut f: impl FnMut(usize)) {
    while word != 0 {
        f(word.trailing_zeros() as usize);
        word &= word.wrapping_sub(1);
    }
}
