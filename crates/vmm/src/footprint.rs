//! What the hypervisor takes of the host's memory for a guest, beside its RAM. The image takes it; whoever chooses how much
//! memory the host has reckons with it. Pure arithmetic.

use bundle::VmConfig;
use memory::PAGE_SIZE;

/// Of the heap for each guest: tables of the fast path, its device tree, and a few hundred bytes for each megabyte of RAM.
const HEAP: u64 = 1 << 20;
const HEAP_PER_MIB: u64 = 512;
/// And for each of its disks: the longest chain, and a note of each request that may be in flight.
const HEAP_PER_DISK: u64 = 64 << 10;
/// Shadow tables for each vCPU: some for itself, and one for each megabyte of RAM, which maps it once in 4 KiB pages
/// and leaves as much for contexts; each with as much memory again, for what it was made of.
const TABLES: u64 = 1024;
const TABLES_PER_MIB: u64 = 1;
/// Pages of guest-kernel code that can be rewritten at a time: as many as Linux's text has with privileged
/// instructions.
const CODE_COPIES: u64 = 1024;

/// What a guest takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Footprint {
    /// Bytes of the heap.
    pub heap: u64,
    /// Pages for shadow tables and what they were made of.
    pub tables: u64,
    /// Pages for copies of code.
    pub copies: u64,
}

impl Footprint {
    /// Of a guest that is configured so.
    pub const fn of(config: &VmConfig) -> Self {
        Self::with(config.memory, config.disks.len())
    }

    /// Of a guest with so many bytes of RAM and so many disks.
    pub const fn with(ram: u64, disks: usize) -> Self {
        let mebibytes = ram >> 20;
        Self {
            heap: HEAP + HEAP_PER_MIB * mebibytes + HEAP_PER_DISK * disks as u64,
            tables: 2 * (TABLES + TABLES_PER_MIB * mebibytes),
            copies: CODE_COPIES,
        }
    }

    /// Bytes of all of it.
    pub const fn bytes(self) -> u64 {
        self.heap + (self.tables + self.copies) * PAGE_SIZE
    }
}
