//! Random page tables, dense enough that walks reach their leaves, and wrong in every way that entries can be.

use std::vec::Vec;

use isa::Privilege;
use isa::paging::{Mode, Pte, Satp};
use memory::{BLOCK_SIZE, GuestVirtAddr, PAGE_SIZE};
use proptest::prelude::*;
use proptest::sample::select;

use super::{Guest, RAM_BASE, RAM_SIZE, table_address};
use crate::walk::{Access, Rights};

/// Tables of a random guest.
pub const TABLES: u64 = 8;
/// The slots that have entries, in each of them: small addresses, 2 GiB where RAM is, both sides of the hole, the
/// end.
pub const SLOTS: [usize; 7] = [0, 1, 2, 3, 255, 256, 511];

/// Entries for all slots of all tables.
pub fn tables() -> impl Strategy<Value = Vec<Pte>> {
    prop::collection::vec(entry(), TABLES as usize * SLOTS.len())
}

/// Gives a guest, new or used for this before, these tables.
pub fn load(guest: &mut Guest, entries: &[Pte]) {
    guest.tables = TABLES;
    for (number, entries) in entries.chunks(SLOTS.len()).enumerate() {
        for (slot, entry) in SLOTS.iter().zip(entries) {
            guest.set(table_address(number as u64), *slot, *entry);
        }
    }
}

/// A page-table entry, more often good than bad.
pub fn entry() -> impl Strategy<Value = Pte> {
    prop_oneof![
        7 => table().prop_map(|table| Pte::new(table, Pte::V)),
        1 => table().prop_map(|table| Pte::new(table, Pte::V | Pte::G)),
        8 => leaf(),
        1 => (table(), any::<u8>()).prop_map(|(table, flags)| Pte::new(table, u64::from(flags))),
        1 => (leaf(), 54..64u32).prop_map(|(leaf, bit)| Pte(leaf.0 | 1 << bit)),
        1 => any::<u64>().prop_map(Pte),
        1 => Just(Pte(0)),
    ]
}

/// A leaf with any flags, most with A and D.
pub fn leaf() -> impl Strategy<Value = Pte> {
    let mostly = prop_oneof![3 => Just(Pte::A | Pte::D), 1 => Just(0)];
    (page(), any::<u8>(), mostly)
        .prop_map(|(page, flags, more)| Pte::new(page, u64::from(flags) | Pte::V | more))
}

/// The physical address of a page: in RAM, at its borders, or nowhere; few are aligned for a superpage.
fn page() -> impl Strategy<Value = u64> {
    prop_oneof![
        4 => (0..2 * BLOCK_SIZE / PAGE_SIZE).prop_map(|page| RAM_BASE + page * PAGE_SIZE),
        4 => (0..4u64).prop_map(|block| RAM_BASE + block * BLOCK_SIZE),
        2 => Just(RAM_BASE),
        1 => table(),
        1 => select(&[0, RAM_BASE - PAGE_SIZE, RAM_BASE + RAM_SIZE, 0x1000_0000, 1 << 55, (1 << 56) - 4096][..]),
    ]
}

fn table() -> impl Strategy<Value = u64> {
    prop_oneof![
        20 => (0..TABLES).prop_map(|number| table_address(number).0),
        1 => select(&[0, 0x1000_0000, RAM_BASE - PAGE_SIZE, RAM_BASE + RAM_SIZE, (1 << 56) - 4096][..]),
    ]
}

/// An address that leads through the slots of random tables; a few are not canonical.
pub fn address(mode: Mode) -> impl Strategy<Value = GuestVirtAddr> {
    let slots = prop::collection::vec(select(&SLOTS[..]), mode.levels());
    let spoiled = prop_oneof![15 => Just(0), 1 => (mode.address_bits().min(63)..64).prop_map(|bit| 1 << bit)];
    (slots, 0..PAGE_SIZE, spoiled).prop_map(move |(slots, offset, spoiled)| {
        let significant = slots.iter().fold(0, |address, slot| address << 9 | *slot as u64) << 12 | offset;
        let unused = 64 - mode.address_bits();
        GuestVirtAddr((((significant << unused) as i64) >> unused) as u64 ^ spoiled)
    })
}

/// An address space of this mode over random tables; a few have their root outside RAM.
pub fn satp(mode: Mode) -> impl Strategy<Value = Satp> {
    (0..3u16, table()).prop_map(move |(asid, table)| match mode {
        Mode::Bare => Satp::BARE,
        _ => Satp { mode, asid, ppn: table / PAGE_SIZE },
    })
}

/// An access.
pub fn access() -> impl Strategy<Value = Access> {
    select(&[Access::Fetch, Access::Load, Access::Store][..])
}

/// Any rights.
pub fn rights() -> impl Strategy<Value = Rights> {
    let privilege = select(&[Privilege::User, Privilege::Supervisor][..]);
    (privilege, any::<bool>(), any::<bool>()).prop_map(|(privilege, sum, mxr)| Rights { privilege, sum, mxr })
}
