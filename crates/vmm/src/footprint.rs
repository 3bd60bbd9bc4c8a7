//! What the hypervisor takes of the host's memory, for itself and for each guest. Set-up takes it, and `hypo` chooses by the same
//! figures how much memory the host has. Pure arithmetic.

use bundle::VmConfig;
use memory::{BLOCK_SIZE, PAGE_SIZE};

/// The heap at the start: the manifest, and what serves all guests. Each guest adds to it.
pub const HEAP: u64 = 2 << 20;
/// What is left free when memory is given to disks whose writes are kept in RAM.
pub const RESERVE: u64 = 4 << 20;
/// The most that is kept of what a guest writes to such a disk.
pub const MOST_KEPT: u64 = 256 << 20;

/// What set-up cannot do without beside guests: the heap, the reserve, and what the drivers of disks and NICs take.
pub const LEAST: u64 = 16 << 20;
const LEAST_KEPT: u64 = 1 << 20;
/// What is plenty beside guests, and for each of them, with this part of its RAM.
const PLENTY: u64 = 96 << 20;
const PLENTY_FOR_GUEST: u64 = 32 << 20;
const PLENTY_PART: u64 = 64;

/// Of the heap for each guest: tables of the fast path, its device tree, and a few hundred bytes for each megabyte of RAM.
const GUEST_HEAP: u64 = 1 << 20;
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
            heap: GUEST_HEAP + HEAP_PER_MIB * mebibytes + HEAP_PER_DISK * disks as u64,
            tables: 2 * (TABLES + TABLES_PER_MIB * mebibytes),
            copies: CODE_COPIES,
        }
    }

    /// Bytes of all of it.
    pub const fn bytes(self) -> u64 {
        self.heap + (self.tables + self.copies) * PAGE_SIZE
    }
}

/// The least memory that the host needs for these guests, in one stretch beside the bundle and the image.
pub fn least<'a>(guests: impl IntoIterator<Item = &'a VmConfig>) -> u64 {
    let of_guest = |config: &VmConfig| {
        let kept = config.disks.iter().filter(|disk| disk.snapshot).count() as u64 * LEAST_KEPT;
        // The guest's RAM is aligned.
        config.memory + BLOCK_SIZE + Footprint::of(config).bytes() + kept
    };
    LEAST + guests.into_iter().map(of_guest).sum::<u64>()
}

/// As much as does for these guests in any case; `kept` are the bytes of the disks whose writes are kept in RAM, `None` where
/// nobody knows how many one has.
pub fn plenty<'a>(
    guests: impl IntoIterator<Item = &'a VmConfig>,
    kept: impl IntoIterator<Item = Option<u64>>,
) -> u64 {
    let of_guest = |config: &VmConfig| config.memory + config.memory / PLENTY_PART + PLENTY_FOR_GUEST;
    let of_disk = |bytes: Option<u64>| bytes.unwrap_or(MOST_KEPT).min(MOST_KEPT);
    let guests: u64 = guests.into_iter().map(of_guest).sum();
    PLENTY + guests + kept.into_iter().map(of_disk).sum::<u64>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_plenty_is_more_than_the_least() {
        for shift in 21..40 {
            let guest = |memory| VmConfig { memory, ..VmConfig::default() };
            let guests = [guest(1 << shift), guest((1 << shift) * 3 / 2)];
            let needed: u64 = guests.iter().map(|config| config.memory + Footprint::of(config).bytes()).sum();
            let (least, plenty) = (least(&guests), plenty(&guests, []));
            assert!(needed + HEAP + RESERVE < least && least < plenty, "{needed} {least} {plenty}");
        }
    }

    #[test]
    fn what_is_kept_of_a_disk_is_bounded() {
        let plenty = |bytes| plenty([], [bytes]) - PLENTY;
        assert_eq!([Some(4096), Some(1 << 40), None].map(plenty), [4096, MOST_KEPT, MOST_KEPT]);
    }
}
