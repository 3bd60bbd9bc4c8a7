//! Requests to a disk, how they end, and the words of each that the device reads and writes ("Device Operation").

use core::sync::atomic::{AtomicU64, Ordering};

use memory::Extent;

/// Bytes of a serial number.
pub const SERIAL_LENGTH: usize = 20;

/// A request. Memory is shared memory, whole sectors in all, in at most `MAX_SEGMENTS` pieces.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub enum Request<'a> {
    Read {
        sector: u64,
        into: &'a [Extent],
    },
    Write {
        sector: u64,
        from: &'a [Extent],
    },
    Flush,
    Discard {
        sector: u64,
        count: u32,
    },
    WriteZeroes {
        sector: u64,
        count: u32,
        unmap: bool,
    },
    /// Asks for the serial number: see `BlockDevice::serial`.
    Identify,
}

/// Why a request was not taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refused {
    /// There is no room: again, after some request is done.
    Full,
    /// It is out of bounds, its memory is not shared or not whole sectors, or the disk cannot do it.
    Invalid,
    /// The device has failed for good.
    Broken,
}

/// How a request ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ended {
    /// It is done.
    Done,
    /// It failed.
    Failed,
    /// The device cannot do it.
    Unsupported,
}

/// Types of requests, "Device Operation".
pub(super) mod kind {
    pub const READ: u32 = 0;
    pub const WRITE: u32 = 1;
    pub const FLUSH: u32 = 4;
    pub const IDENTIFY: u32 = 8;
    pub const DISCARD: u32 = 11;
    pub const WRITE_ZEROES: u32 = 13;
    /// A flag of write-zeroes: the device may give the space away.
    pub const UNMAP: u32 = 1;
}

pub(super) const STATUS_OK: u8 = 0;
pub(super) const STATUS_UNSUPPORTED: u8 = 2;
/// What stands in a status before the device writes it.
const STATUS_NONE: u8 = 0xff;

/// A request's own words, which the device reads and writes.
#[repr(C, align(64))]
#[derive(Debug, Default)]
pub(super) struct Slot(pub(super) [AtomicU64; 8]);

/// Places in a slot, in words: type and reserved word, sector; then range and flags; then the serial number; then the
/// status.
pub(super) const RANGE: usize = 2;
pub(super) const SERIAL: usize = 4;
pub(super) const STATUS: usize = 7;

impl Slot {
    pub(super) fn set_header(&self, kind: u32, sector: u64) {
        self.0[0].store(u64::from(kind), Ordering::Relaxed);
        self.0[1].store(sector, Ordering::Relaxed);
        self.0[STATUS].store(u64::from(STATUS_NONE), Ordering::Relaxed);
    }

    pub(super) fn set_range(&self, sector: u64, count: u32, flags: u32) {
        self.0[RANGE].store(sector, Ordering::Relaxed);
        self.0[RANGE + 1].store(u64::from(flags) << 32 | u64::from(count), Ordering::Relaxed);
    }

    pub(super) fn status(&self) -> u8 {
        self.0[STATUS].load(Ordering::Acquire) as u8
    }

    pub(super) fn serial(&self) -> [u8; SERIAL_LENGTH] {
        let word = |index: usize| self.0[SERIAL + index / 8].load(Ordering::Acquire);
        core::array::from_fn(|index| (word(index) >> (8 * (index % 8))) as u8)
    }
}
