//! The pool alone: what is taken is empty, and everything comes back.

use alloc::vec::Vec;

use alloc::vec;

use isa::paging::Mode;
use memory::HartAuthority;
use vhart::{SharedTable, Window};

use super::*;

const BASE: HostPhysAddr = HostPhysAddr(0x9000_0000);

fn pool(count: usize) -> TablePool {
    let tables: Vec<_> = (0..2 * (ROOTS + count)).map(|_| SharedTable::filled_with(1)).collect();
    let authority = HartAuthority::simulated();
    TablePool::new(HostTables::new(tables.leak(), BASE, Mode::Sv39, Window::default(), authority))
}

#[test]
fn a_taken_table_is_empty_and_all_can_be_taken() {
    let mut pool = pool(3);
    let mut list = TableList::default();
    for left in (0..3).rev() {
        let table = pool.take(&mut list, 0).unwrap();
        assert!(pool.entries(table).all(|entry| entry.0 == 0));
        assert_eq!(pool.available(), left);
    }
    assert_eq!(pool.take(&mut list, 0), None);
}

#[test]
fn lists_come_back_whole_and_in_any_order() {
    let mut pool = pool(5);
    let (mut a, mut b) = (TableList::default(), TableList::default());
    for _ in 0..2 {
        pool.take(&mut a, 0).unwrap();
        pool.take(&mut b, 0).unwrap();
    }
    pool.give_back(&mut a);
    assert_eq!(pool.available(), 3);
    pool.give_back(&mut b);
    pool.give_back(&mut b);
    assert_eq!(pool.available(), 5);
    let mut all = TableList::default();
    let mut taken = vec![];
    while let Some(table) = pool.take(&mut all, 0) {
        taken.push(pool.address(table));
    }
    taken.sort();
    taken.dedup();
    assert_eq!(taken.len(), 5);
}

#[test]
fn an_address_outside_the_pool_is_no_table() {
    let pool = pool(2);
    let end = BASE.wrapping_add((ROOTS as u64 + 2) * PAGE_SIZE);
    assert!(pool.at(HostPhysAddr(end.0 - PAGE_SIZE)).is_some());
    assert_eq!(pool.at(end), None);
    assert_eq!(pool.at(HostPhysAddr(BASE.0 - PAGE_SIZE)), None);
}

#[test]
fn a_table_that_was_used_is_empty_when_it_is_taken_again() {
    let mut pool = pool(1);
    let mut list = TableList::default();
    let table = pool.take(&mut list, 2).unwrap();
    for slot in [0, 63, 64, 511] {
        pool.set_entry(table, slot, Pte(7), 9);
    }
    pool.drop_entry(table, 64);
    let mut found = Vec::new();
    while let Some(slot) = pool.next_used(table, found.last().map_or(0, |last| last + 1)) {
        found.push(slot);
    }
    assert_eq!(found, [0, 63, 511]);
    assert_eq!([64, 511, 512].map(|first| pool.next_used(table, first)), [Some(511), Some(511), None]);
    assert_eq!((pool.entry(table, 511), pool.seen(table, 511), pool.level(table)), (Pte(7), 9, 2));
    pool.set_source(table, Source::AnyRoot);
    pool.give_back(&mut list);
    let again = pool.take(&mut list, 0).unwrap();
    assert_eq!((again, pool.source(again), pool.level(again)), (table, Source::None, 0));
    assert!(pool.entries(again).all(|entry| entry.0 == 0));
    assert_eq!(pool.next_used(again, 0), None);
}
