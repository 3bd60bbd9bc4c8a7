extern crate std;

use std::vec::Vec;

use super::*;

const BASE: HostPhysAddr = HostPhysAddr(0x9000_0000);
const WINDOW: usize = 100;

/// Two tables beside the roots.
pub(crate) fn tables() -> ShadowTables {
    let memory: Vec<_> = (0..2 * (ROOTS + 2)).map(|_| SharedTable::filled_with(u64::MAX)).collect();
    let window = Window { first_slot: WINDOW, entries: [Pte(7), Pte(9)].into_iter().collect() };
    let authority = HartAuthority::simulated();
    ShadowTables::new(HostTables::new(memory.leak(), BASE, Mode::Sv48, window, authority))
}

fn entry(tables: &ShadowTables, table: u32, slot: usize) -> u64 {
    tables.table(table).unwrap().entries()[slot].get()
}

#[test]
fn a_root_keeps_the_window_whatever_is_written() {
    let tables = tables();
    for root in [0, ROOTS as u32 - 1] {
        for slot in 0..2 * ENTRIES {
            tables.set(root, slot, 1);
            assert!(tables.write(root, slot, 1, 1).is_some());
        }
        assert_eq!([99, 100, 101, 102].map(|slot| entry(&tables, root, slot)), [1, 7, 9, 1]);
    }
    tables.set(ROOTS as u32, WINDOW, 1);
    assert_eq!(entry(&tables, ROOTS as u32, WINDOW), 1);
}

#[test]
fn a_value_for_satp_names_a_root_whatever_the_number() {
    let tables = tables();
    assert_eq!(tables.satp(3, 5).bits(), 9 << 60 | 5 << 44 | 0x90003);
    assert_eq!(tables.satp(ROOTS, 5), tables.satp(ROOTS - 1, 5));
    assert_eq!(tables.satp(usize::MAX, 5), tables.satp(ROOTS - 1, 5));
}

#[test]
fn what_is_beyond_the_end_is_nowhere() {
    let tables = tables();
    let end = tables.len() as u32;
    tables.set(end, 0, 1);
    tables.set_seen(end, 0, 1);
    assert!(tables.write(end, 0, 1, 1).is_none());
    assert!(tables.table(end).is_none() && tables.seen(end).is_none() && tables.slots(end).is_none());
    tables.set_seen(end - 1, 512 + 3, 4);
    assert_eq!(tables.seen(end - 1).unwrap().entries()[3].get(), 4);
}

#[test]
#[should_panic(expected = "room for the roots")]
fn roots_that_are_not_there_are_refused() {
    let memory: Vec<_> = (0..2 * ROOTS - 1).map(|_| SharedTable::filled_with(0)).collect();
    let window = Window::default();
    ShadowTables::new(HostTables::new(memory.leak(), BASE, Mode::Sv39, window, HartAuthority::simulated()));
}
