//! What the tests of this crate share: a guest's memory with page tables in it, the specification's walk written a
//! second time (`reference`), and random tables and accesses (`random`).

pub mod random;
pub mod reference;

use core::sync::atomic::AtomicU64;
use std::sync::Mutex;
use std::vec::Vec;

use isa::Privilege;
use isa::paging::{self, Mode, Pte, Satp};
use memory::{BLOCK_SIZE, GuestPhysAddr, GuestRam, GuestVirtAddr, HostPhysAddr, PAGE_SIZE};
use proptest::strategy::Strategy;
use proptest::test_runner::{Config, TestRunner};

use crate::walk::{Access, Rights};

/// Where a test guest's RAM begins: at a multiple of 1 GiB, so that a guest superpage of that size can lie there.
pub const RAM_BASE: u64 = 0x8000_0000;
/// Its bytes: a 1 GiB superpage there reaches beyond the end.
pub const RAM_SIZE: u64 = 4 * BLOCK_SIZE;
/// Where its RAM is in host memory: aligned to a block and to nothing larger.
pub const HOST_BASE: u64 = 0x1_2360_0000;
/// Where its page tables are: in the last block.
const TABLES: u64 = RAM_BASE + 3 * BLOCK_SIZE;

/// What a user page's leaf has for everything to be allowed.
pub const USER: u64 = Pte::V | Pte::R | Pte::W | Pte::X | Pte::U | Pte::A | Pte::D;
/// The same of a supervisor's page.
pub const KERNEL: u64 = Pte::V | Pte::R | Pte::W | Pte::X | Pte::A | Pte::D;

/// A supervisor that may touch no user page.
pub const SUPERVISOR: Rights = Rights { privilege: Privilege::Supervisor, sum: false, mxr: false };
/// A supervisor with SUM.
pub const SUPERVISOR_SUM: Rights = Rights { privilege: Privilege::Supervisor, sum: true, mxr: false };
/// A user program.
pub const USER_MODE: Rights = Rights { privilege: Privilege::User, sum: false, mxr: false };

/// Memory of guests that are gone, for the next ones: there are many tests and each guest has megabytes.
static SPARE: Mutex<Vec<&'static [AtomicU64]>> = Mutex::new(Vec::new());

/// A guest's RAM, and page tables built in it.
pub struct Guest {
    /// The RAM.
    pub ram: GuestRam,
    words: &'static [AtomicU64],
    host_base: u64,
    tables: u64,
}

/// Gives a page of RAM a copy; says whether it could.
pub fn cover(ram: &GuestRam, page: GuestPhysAddr, copy: HostPhysAddr) -> bool {
    ram.close_page(page, copy) && ram.publish_copy(page)
}

/// Ends the copy of a page of RAM, and says where it was.
pub fn uncover(ram: &GuestRam, page: GuestPhysAddr) -> Option<HostPhysAddr> {
    ram.unpublish_copy(page).filter(|_| ram.open_page(page))
}

impl Guest {
    /// A guest with RAM full of zeros.
    pub fn new() -> Self {
        Self::at(HOST_BASE)
    }

    /// One whose RAM is at this address in host memory.
    pub fn at(host_base: u64) -> Self {
        let spare = SPARE.lock().unwrap().pop();
        let words = spare.unwrap_or_else(|| {
            let words: Vec<_> = (0..RAM_SIZE / 8).map(|_| AtomicU64::new(0x5555)).collect();
            words.leak()
        });
        let ram = GuestRam::new(words, GuestPhysAddr(RAM_BASE), HostPhysAddr(host_base), Vec::new());
        Self { ram, words, host_base, tables: 0 }
    }

    /// An empty table. The first is at `table_address(0)`, and so on.
    pub fn table(&mut self) -> GuestPhysAddr {
        let table = table_address(self.tables);
        self.tables += 1;
        for slot in 0..512 {
            self.set(table, slot, Pte(0));
        }
        table
    }

    /// Forgets its tables, so that their places are handed out again.
    pub fn reset(&mut self) {
        self.tables = 0;
    }

    /// An entry of a table in RAM.
    pub fn get(&self, table: GuestPhysAddr, slot: usize) -> Pte {
        Pte(self.ram.read_word(entry_address(table, slot)).unwrap())
    }

    /// Writes an entry of a table in RAM.
    pub fn set(&self, table: GuestPhysAddr, slot: usize, entry: Pte) {
        let address = entry_address(table, slot);
        let old = self.ram.read_word(address).unwrap();
        self.ram.unwatch_page(address);
        assert_eq!(self.ram.compare_exchange(address, old, entry.0), Some(true));
    }

    /// An address space with an empty root table.
    pub fn space(&mut self, mode: Mode, asid: u16) -> Satp {
        Satp { mode, asid, ppn: self.table().0 / PAGE_SIZE }
    }

    /// Puts `entry` where the walk for `address` looks at `level`, with the tables above it as needed.
    pub fn map(&mut self, satp: Satp, address: u64, level: usize, entry: Pte) {
        let (table, slot) = self.place(satp, address, level);
        self.set(table, slot, entry);
    }

    /// The table and slot where the walk for `address` looks at `level`, with the tables above it as needed.
    pub fn place(&mut self, satp: Satp, address: u64, level: usize) -> (GuestPhysAddr, usize) {
        let mut table = GuestPhysAddr(satp.ppn * PAGE_SIZE);
        for above in (level + 1..satp.mode.levels()).rev() {
            let slot = paging::index(address, above);
            if !self.get(table, slot).is_table() {
                let next = self.table();
                self.set(table, slot, Pte::new(next.0, Pte::V));
            }
            table = GuestPhysAddr(self.get(table, slot).address());
        }
        (table, paging::index(address, level))
    }

    /// The table and slot of the entry where the walk for `address` ends, or `up` levels above; `None` where that is
    /// not in this guest's tables.
    pub fn looked_at(&self, satp: Satp, address: GuestVirtAddr, up: usize) -> Option<(GuestPhysAddr, usize)> {
        let mut table = GuestPhysAddr(satp.ppn * PAGE_SIZE);
        let mut passed = Vec::new();
        for level in (0..satp.mode.levels()).rev() {
            if !(TABLES..TABLES + self.tables * PAGE_SIZE).contains(&table.0) {
                break;
            }
            let slot = paging::index(address.0, level);
            passed.push((table, slot));
            let entry = self.get(table, slot);
            if !entry.is_table() {
                break;
            }
            table = GuestPhysAddr(entry.address());
        }
        passed.into_iter().nth_back(up)
    }

    /// What the specification says of an access, with the memory as it is.
    pub fn reference(
        &self,
        satp: Satp,
        address: GuestVirtAddr,
        access: Access,
        rights: Rights,
    ) -> Result<reference::Reached, reference::Cause> {
        reference::walk(
            |word| self.ram.read_word(GuestPhysAddr(word)),
            satp.bits(),
            address.0,
            access,
            rights,
        )
    }

    /// Where the host has what this guest sees at `address`, for an address in RAM.
    pub fn host_of(&self, address: u64) -> Option<HostPhysAddr> {
        let offset = address.checked_sub(RAM_BASE)?;
        (offset < RAM_SIZE).then(|| HostPhysAddr(self.host_base + offset))
    }

    /// All words of all tables.
    pub fn snapshot(&self) -> Vec<u64> {
        let words = self.tables * (PAGE_SIZE / 8);
        (0..words).map(|word| self.ram.read_word(GuestPhysAddr(TABLES + word * 8)).unwrap()).collect()
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        if let Ok(mut spare) = SPARE.lock() {
            spare.push(self.words);
        }
    }
}

/// Holds `property`, which asserts, against `cases` random values.
pub fn for_all<S: Strategy>(cases: u32, values: &S, property: impl Fn(S::Value)) {
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    let verdict = TestRunner::new(config).run(values, |value| {
        property(value);
        Ok(())
    });
    if let Err(failure) = verdict {
        panic!("{failure}");
    }
}

/// Where table number `number` of a guest is.
pub const fn table_address(number: u64) -> GuestPhysAddr {
    GuestPhysAddr(TABLES + number * PAGE_SIZE)
}

/// The index of the word at `address` in a snapshot.
pub const fn snapshot_index(address: u64) -> usize {
    ((address - TABLES) / 8) as usize
}

fn entry_address(table: GuestPhysAddr, slot: usize) -> GuestPhysAddr {
    GuestPhysAddr(table.0 + slot as u64 * 8)
}
