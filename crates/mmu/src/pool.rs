//! The memory that shadow tables are made of: a fixed number of page tables, handed out and taken back in lists.
//!
//! Beside each table is kept what its entries were made of: which slots are in use, the guest's table that they follow,
//! and the guest's entries as they were then. So a table can be emptied, and compared with the guest's, slot by slot.

use alloc::boxed::Box;

use isa::paging::{PageTable, Pte};
use memory::{BLOCK_SIZE, GuestPhysAddr, HostPhysAddr, PAGE_SIZE};

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
#[repr(C)]
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
    /// Which words of `used` may not be 0, a bit each: all, once the assembly fills the table.
    words: u8,
    /// A bit for each slot whose entry is not 0.
    used: [u64; 8],
    /// Blocks of host memory in which leaves of this table may lie, by their numbers modulo 64, a bit each; the assembly
    /// finds it behind `used`, and notes those that it makes writable.
    blocks: u64,
}

/// A pool of page tables at consecutive host-physical addresses.
#[derive(Debug)]
pub struct TablePool {
    tables: &'static mut [PageTable],
    /// For each table, the guest's entries that its own were made of.
    seen: &'static mut [PageTable],
    base: HostPhysAddr,
    metas: Box<[Meta]>,
    free: TableList,
}

impl TablePool {
    /// A pool of half as many tables, which lie at `base`; the other half is for what they were made of. The first
    /// `fixed` of them, empty, are not handed out: see `fixed`.
    pub fn new(tables: &'static mut [PageTable], base: HostPhysAddr, fixed: usize) -> Self {
        let count = tables.len() / 2;
        let (tables, seen) = tables.split_at_mut(count);
        let meta = Meta {
            next: None,
            level: 0,
            is_loose: false,
            next_loose: None,
            quiet: 0,
            source: Source::None,
            words: u8::MAX,
            used: [u64::MAX; 8],
            blocks: 0,
        };
        let metas = (0..count).map(|_| meta.clone()).collect();
        let mut pool = Self { metas, tables, seen, base, free: TableList::default() };
        let mut free = TableList::default();
        for id in (fixed as u32..count as u32).rev() {
            pool.push(&mut free, TableId(id));
        }
        pool.free = free;
        (0..fixed as u32).for_each(|id| pool.clear(TableId(id)));
        pool
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
        self.tables.len() - crate::shadow::ROOTS
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
        self.base.wrapping_add(u64::from(table.0) * PAGE_SIZE)
    }

    /// Where the table with this number lies.
    pub fn address_of(&self, number: usize) -> HostPhysAddr {
        self.address(TableId(number as u32))
    }

    /// The table at `address`, or `None` where the pool has none.
    pub fn at(&self, address: HostPhysAddr) -> Option<TableId> {
        let number = address.offset_from(self.base)? / PAGE_SIZE;
        (number < self.tables.len() as u64).then_some(TableId(number as u32))
    }

    /// The table that a pointer leads to; `None` for what is no pointer into the pool.
    #[inline]
    pub fn below(&self, entry: Pte) -> Option<TableId> {
        if entry.is_table() { self.at(HostPhysAddr(entry.address())) } else { None }
    }

    /// An entry; `slot` counts modulo 512.
    #[inline]
    pub fn entry(&self, table: TableId, slot: usize) -> Pte {
        let entry = self.tables.get(table.0 as usize).and_then(|table| table.0.get(slot & 511));
        Pte(entry.copied().unwrap_or(0))
    }

    /// Writes an entry that was made of the guest's entry `seen`; `slot` counts modulo 512.
    #[inline]
    pub fn set_entry(&mut self, table: TableId, slot: usize, entry: Pte, seen: u64) {
        self.set_fixed(table, slot, entry);
        self.set_seen(table, slot, seen);
        self.mark(table, slot, entry.0 != 0);
        if entry.is_leaf()
            && let Some(meta) = self.metas.get_mut(table.0 as usize)
        {
            meta.blocks |= block_bit(HostPhysAddr(entry.address()));
        }
    }

    /// Empties an entry.
    #[inline]
    pub fn drop_entry(&mut self, table: TableId, slot: usize) {
        self.set_fixed(table, slot, Pte(0));
        self.mark(table, slot, false);
    }

    /// Writes an entry that is no business of the guest's. `take` does not empty it.
    #[inline]
    pub fn set_fixed(&mut self, table: TableId, slot: usize, entry: Pte) {
        let table = self.tables.get_mut(table.0 as usize);
        if let Some(place) = table.and_then(|table| table.0.get_mut(slot & 511)) {
            *place = entry.0;
        }
    }

    /// Says that an entry is right for the guest's entry `seen`, too.
    pub fn set_seen(&mut self, table: TableId, slot: usize, seen: u64) {
        if let Some(place) = self.seen.get_mut(table.0 as usize).and_then(|table| table.0.get_mut(slot & 511))
        {
            *place = seen;
        }
    }

    /// The guest's entry that an entry was made of.
    #[inline]
    pub fn seen(&self, table: TableId, slot: usize) -> u64 {
        self.seen.get(table.0 as usize).and_then(|seen| seen.0.get(slot & 511)).copied().unwrap_or(0)
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
        let meta = self.metas.get(table.0 as usize)?;
        let mut words = u64::from(meta.words) & u64::MAX.checked_shl((first / 64) as u32)?;
        let mut from = u64::MAX << (first % 64);
        while words != 0 {
            let nth = words.trailing_zeros() as usize;
            if nth != first / 64 {
                from = u64::MAX;
            }
            let word = meta.used.get(nth)? & from;
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
        let Meta { used, blocks, .. } = self.metas.get(table.0 as usize)?;
        if blocks & block_bit(HostPhysAddr(wanted.address())) == 0 {
            return None;
        }
        let entries = self.tables.get(table.0 as usize)?.0.as_chunks::<8>().0;
        let mut group = first / 8;
        let mut skip = first % 8;
        while let Some(word) = used.get(group / 8) {
            let mut word = word >> (8 * (group % 8));
            let end = (group | 7) + 1;
            while word != 0 {
                if word as u8 != 0 {
                    let is_wanted = |entry: &u64| (entry ^ wanted.0) & mask == 0;
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

    /// Where the hypervisor has a table, what its entries were made of, and the bits of its slots in use: for the assembly,
    /// which may use any slot from now on.
    pub fn places(&mut self, table: TableId) -> Option<[u64; 3]> {
        let number = table.0 as usize;
        self.metas.get_mut(number)?.words = u8::MAX;
        let address = |table: &PageTable| core::ptr::from_ref(&table.0).addr() as u64;
        let used = core::ptr::from_ref(&self.metas.get(number)?.used).addr() as u64;
        Some([address(self.tables.get(number)?), address(self.seen.get(number)?), used])
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
        let table = self.tables.get(table.0 as usize);
        // By reference: the scanner recurses over these, and the hypervisor's stack is small.
        table.into_iter().flat_map(|table| &table.0).map(|entry| Pte(*entry))
    }

    /// Empties the slots in use, or all where nothing is known of the table yet.
    pub fn clear(&mut self, table: TableId) {
        let number = table.0 as usize;
        let (Some(meta), Some(table)) = (self.metas.get_mut(number), self.tables.get_mut(number)) else {
            return;
        };
        for_each_bit(u64::from(core::mem::take(&mut meta.words)), |nth| {
            let word = meta.used.get_mut(nth).map(core::mem::take).unwrap_or(0);
            for_each_bit(word, |bit| {
                if let Some(entry) = table.0.get_mut((nth * 64 + bit) & 511) {
                    *entry = 0;
                }
            });
        });
        meta.blocks = 0;
    }

    /// Drops the entries of a table for which `holds`, told the slot, the entry and what it was made of, says no.
    #[inline]
    pub fn retain(&mut self, table: TableId, mut holds: impl FnMut(usize, Pte, u64) -> bool) {
        let number = table.0 as usize;
        let (Some(meta), Some(table), Some(seen)) =
            (self.metas.get_mut(number), self.tables.get_mut(number), self.seen.get(number))
        else {
            return;
        };
        for_each_bit(u64::from(meta.words), |nth| {
            let Some(word) = meta.used.get_mut(nth) else { return };
            for_each_bit(*word, |bit| {
                let slot = (nth * 64 + bit) & 511;
                if let (Some(entry), Some(seen)) = (table.0.get_mut(slot), seen.0.get(slot))
                    && !holds(slot, Pte(*entry), *seen)
                {
                    *entry = 0;
                    *word &= !(1 << (bit & 63));
                }
            });
        });
    }

    #[inline]
    fn mark(&mut self, table: TableId, slot: usize, used: bool) {
        let Some(meta) = self.metas.get_mut(table.0 as usize) else { return };
        let nth = (slot & 511) / 64;
        if let Some(word) = meta.used.get_mut(nth) {
            let bit = 1 << (slot & 63);
            if used {
                *word |= bit;
                meta.words |= 1 << nth;
            } else {
                *word &= !bit;
            }
        }
    }

    fn push(&mut self, list: &mut TableList, table: TableId) {
        if let Some(meta) = self.metas.get_mut(table.0 as usize) {
            meta.next = list.ends.map(|(first, _)| first);
        }
        let last = list.ends.map_or(table, |(_, last)| last);
        *list = TableList { ends: Some((table, last)), len: list.len.wrapping_add(1) };
    }
}

const _: () = assert!(
    core::mem::offset_of!(Meta, blocks)
        == core::mem::offset_of!(Meta, used) + vhart::layout::BLOCKS_BEHIND_USED
);

/// The bit that stands for the block of host memory in which an address lies.
/// The bits of an entry of ours that are its address, and those that the hardware reserves.
const ADDRESS: u64 = !0x3ff;

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
