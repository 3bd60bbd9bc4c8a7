//! What a disk is made of, and what is to be done on the host's disk for it.

use arrayvec::ArrayVec;
use memory::Extent;

/// Pieces of memory in an operation on the host's disk.
pub const OPERATION_SEGMENTS: usize = 32;

/// What a disk is made of.
#[derive(Debug)]
pub enum Source {
    /// A range of a host disk that begins at this sector.
    Host {
        /// The range's first sector.
        first: u64,
        /// What the host disk can do.
        abilities: HostAbilities,
    },
    /// An image in RAM.
    Image(&'static [u64]),
}

/// What a host disk can do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HostAbilities {
    /// Pieces of memory in an operation; not 0, and at most `OPERATION_SEGMENTS` count.
    pub segments: usize,
    /// Bytes in a piece; a multiple of the sector.
    pub segment_size: u32,
    /// Whether what was written needs a flush to be safe.
    pub flush: bool,
    /// Sectors in a discard; 0 where it has none.
    pub discard: u32,
    /// Sectors in a write-zeroes; 0 where it has none.
    pub write_zeroes: u32,
    /// Host memory that holds zeros, whole sectors: what is written where it has none.
    pub zeros: Extent,
}

/// What is to be done on the host's disk.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Operation {
    /// For `Disk::finished`.
    pub tag: usize,
    /// What.
    pub kind: OperationKind,
    /// The first sector, on the host's disk.
    pub sector: u64,
    /// The memory to read into or to write from.
    pub memory: ArrayVec<Extent, OPERATION_SEGMENTS>,
}

/// What is to be done on the host's disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub enum OperationKind {
    Read,
    Write,
    Flush,
    Discard { sectors: u32 },
    WriteZeroes { sectors: u32, unmap: bool },
}
