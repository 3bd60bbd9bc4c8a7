extern crate std;

use super::*;
use crate::tables::ROOTS;
use crate::tables::tests::tables;

/// A table that a hint may lead to.
const TABLE: u32 = ROOTS as u32;
static GUEST: [AtomicU64; 512] = [const { AtomicU64::new(0) }; 512];

fn hint(range: u64, root: u64) -> FillHint {
    FillHint { range, root, table: TABLE, ..FillHint::NONE }
}

#[test]
fn a_hint_is_found_by_range_and_root_until_another_takes_its_place() {
    let tables = tables();
    let mut table = HintTable::new(&tables);
    let (range, root) = (0x3fff_1234, 9 << 60 | 5 << 44 | 0x81000);
    table.insert(&tables, &GUEST, FillHint { root_entry: 7, ..hint(range, root) });
    assert_eq!(table.find(range, root).map(|hint| hint.root_entry), Some(7));
    assert!(table.find(range, root + 1).is_none() && table.find(range + 64, root).is_none());
    table.insert(&tables, &GUEST, hint(range + 64, root));
    assert!(table.find(range, root).is_none());
    table.remove(range + 64, root + 1);
    assert!(table.find(range + 64, root).is_some());
    table.remove(range + 64, root);
    assert!(table.find(range + 64, root).is_none());
}

#[test]
fn the_hints_of_a_root_are_forgotten_by_their_places() {
    let tables = tables();
    let mut table = HintTable::new(&tables);
    let [one, other] = [1, 2].map(|asid| 9 << 60 | asid << 44 | 0x81000);
    let mut places = 0;
    for range in [3, 9, 63] {
        places |= table.insert(&tables, &GUEST, hint(range, one));
    }
    table.insert(&tables, &GUEST, hint(9 ^ 1 ^ 2, other));
    table.forget_root(one, places);
    assert!([3, 9, 63].into_iter().all(|range| table.find(range, one).is_none()));
    assert!(table.find(9 ^ 1 ^ 2, other).is_some());
}

#[test]
fn no_address_is_in_an_empty_places_range() {
    let mut table = HintTable::new(&tables());
    table.clear();
    for address in [0, u64::MAX, 1 << 63, u64::MAX >> 1] {
        assert!(table.find(address >> 21, 0).is_none());
    }
}

#[test]
fn the_assembly_reads_what_is_there_and_not_what_was_forgotten() {
    let tables = tables();
    let mut table = HintTable::new(&tables);
    let ready = Ready { user: true, global: false, execute: true };
    let place = table.insert(&tables, &GUEST, FillHint { ready, ..hint(5, 0) });
    let shared = &table.shared.clone().places[place.trailing_zeros() as usize];
    let word = |word: &AtomicU64| word.load(Ordering::Relaxed);
    assert_eq!([&shared.range, &shared.root, &shared.guest].map(word), [5, 0, address_of(&GUEST)]);
    assert_eq!([&shared.shadow, &shared.seen, &shared.used].map(word), tables.places(TABLE).unwrap());
    assert_eq!(word(&shared.mask), Pte::RESERVED | Pte::V | Pte::R | Pte::A | Pte::U);
    assert_eq!(word(&shared.value), Pte::V | Pte::R | Pte::A | Pte::U);
    assert_eq!(word(&shared.kept), Pte::R | Pte::X);
    table.forget_table(TABLE);
    assert_eq!(word(&shared.range), FillHint::NONE.range);
}

/// The assembly would fill in pages where the hypervisor's window is.
#[test]
fn no_hint_leads_to_a_root_or_to_no_table_or_to_another_vcpus() {
    let (own, others) = (tables(), tables());
    let mut table = HintTable::new(&own);
    for number in [0, TABLE - 1, own.len() as u32] {
        assert_eq!(table.insert(&own, &GUEST, FillHint { table: number, ..hint(5, 0) }), 0);
    }
    assert_eq!(table.insert(&others, &GUEST, hint(5, 0)), 0);
    assert!(table.find(5, 0).is_none());
    assert_ne!(table.insert(&own, &GUEST, hint(5, 0)), 0);
}
