//! The memory that shadow tables are made of: a fixed number of page tables, handed out and taken back in lists.

use alloc::boxed::Box;

use isa::paging::{PageTable, Pte};
use memory::{HostPhysAddr, PAGE_SIZE};

/// A table of the pool, by number.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TableId(u32);

/// A list of tables that belong together. Appending one list to another takes constant time.
#[derive(Debug, Default)]
pub struct TableList {
    ends: Option<(TableId, TableId)>,
    len: usize,
}

/// A pool of page tables at consecutive host-physical addresses.
#[derive(Debug)]
pub struct TablePool {
    tables: &'static mut [PageTable],
    base: HostPhysAddr,
    /// For each table, the next one in the list it is in.
    next: Box<[Option<TableId>]>,
    free: TableList,
}

impl TablePool {
    /// A pool of `tables`, the first of which lies at `base`.
    pub fn new(tables: &'static mut [PageTable], base: HostPhysAddr) -> Self {
        let count = tables.len() as u32;
        let mut pool =
            Self { next: (0..count).map(|_| None).collect(), tables, base, free: TableList::default() };
        let mut free = TableList::default();
        for id in (0..count).rev() {
            pool.push(&mut free, TableId(id));
        }
        pool.free = free;
        pool
    }

    /// Tables that can be had without taking one back.
    pub fn available(&self) -> usize {
        self.free.len
    }

    /// All tables, free or not.
    pub fn capacity(&self) -> usize {
        self.tables.len()
    }

    /// Takes an emptied table from the pool and puts it on `list`.
    pub fn take(&mut self, list: &mut TableList) -> Option<TableId> {
        let (first, last) = self.free.ends?;
        let rest = self.next.get(first.0 as usize).copied().flatten();
        self.free.ends = rest.map(|next| (next, last));
        self.free.len = self.free.len.saturating_sub(1);
        self.push(list, first);
        *self.tables.get_mut(first.0 as usize)? = PageTable::EMPTY;
        Some(first)
    }

    /// Takes all tables of a list back.
    pub fn give_back(&mut self, list: &mut TableList) {
        let list = core::mem::take(list);
        let Some((first, last)) = list.ends else { return };
        let last_free = match self.free.ends {
            None => last,
            Some((first_free, last_free)) => {
                if let Some(next) = self.next.get_mut(last.0 as usize) {
                    *next = Some(first_free);
                }
                last_free
            }
        };
        self.free = TableList { ends: Some((first, last_free)), len: self.free.len.wrapping_add(list.len) };
    }

    /// Where a table lies.
    pub fn address(&self, table: TableId) -> HostPhysAddr {
        self.base.wrapping_add(u64::from(table.0) * PAGE_SIZE)
    }

    /// The table at `address`, or `None` where the pool has none.
    pub fn at(&self, address: HostPhysAddr) -> Option<TableId> {
        let number = address.offset_from(self.base)? / PAGE_SIZE;
        (number < self.tables.len() as u64).then_some(TableId(number as u32))
    }

    /// An entry; `slot` counts modulo 512.
    #[inline]
    pub fn entry(&self, table: TableId, slot: usize) -> Pte {
        let entry = self.tables.get(table.0 as usize).and_then(|table| table.0.get(slot & 511));
        Pte(entry.copied().unwrap_or(0))
    }

    /// Writes an entry; `slot` counts modulo 512.
    #[inline]
    pub fn set_entry(&mut self, table: TableId, slot: usize, entry: Pte) {
        let table = self.tables.get_mut(table.0 as usize);
        if let Some(place) = table.and_then(|table| table.0.get_mut(slot & 511)) {
            *place = entry.0;
        }
    }

    /// A table's entries.
    pub fn entries(&self, table: TableId) -> impl Iterator<Item = Pte> + '_ {
        let table = self.tables.get(table.0 as usize);
        // By reference: the scanner recurses over these, and the hypervisor's stack is small.
        table.into_iter().flat_map(|table| &table.0).map(|entry| Pte(*entry))
    }

    fn push(&mut self, list: &mut TableList, table: TableId) {
        if let Some(next) = self.next.get_mut(table.0 as usize) {
            *next = list.ends.map(|(first, _)| first);
        }
        let last = list.ends.map_or(table, |(_, last)| last);
        *list = TableList { ends: Some((table, last)), len: list.len.wrapping_add(1) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    fn pool(count: usize) -> TablePool {
        TablePool::new(vec![PageTable([1; 512]); count].leak(), HostPhysAddr(0x9000_0000))
    }

    #[test]
    fn a_taken_table_is_empty_and_all_can_be_taken() {
        let mut pool = pool(3);
        let mut list = TableList::default();
        for left in (0..3).rev() {
            let table = pool.take(&mut list).unwrap();
            assert!(pool.entries(table).all(|entry| entry.0 == 0));
            assert_eq!(pool.available(), left);
        }
        assert_eq!(pool.take(&mut list), None);
    }

    #[test]
    fn lists_come_back_whole_and_in_any_order() {
        let mut pool = pool(5);
        let (mut a, mut b) = (TableList::default(), TableList::default());
        for _ in 0..2 {
            pool.take(&mut a).unwrap();
            pool.take(&mut b).unwrap();
        }
        pool.give_back(&mut a);
        assert_eq!(pool.available(), 3);
        pool.give_back(&mut b);
        pool.give_back(&mut b);
        assert_eq!(pool.available(), 5);
        let mut all = TableList::default();
        let mut taken = vec![];
        while let Some(table) = pool.take(&mut all) {
            taken.push(pool.address(table));
        }
        taken.sort();
        taken.dedup();
        assert_eq!(taken.len(), 5);
    }

    #[test]
    fn an_address_outside_the_pool_is_no_table() {
        let pool = pool(2);
        assert!(pool.at(HostPhysAddr(0x9000_1000)).is_some());
        assert_eq!(pool.at(HostPhysAddr(0x9000_2000)), None);
        assert_eq!(pool.at(HostPhysAddr(0x8fff_f000)), None);
    }
}
