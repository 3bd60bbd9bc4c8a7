//! What stands behind a guest's disk: a host disk or a partition of it, or an image in RAM; writable, read-only, or with
//! writes that are kept in RAM and dropped at the end.
//!
//! Pure: turns a guest's request into operations on the host's disk or carries it out in RAM, and keeps the accounts. Who
//! submits the operations, and how a guest's request was found in a ring, is not known here.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod disk;
pub mod gpt;
pub mod overlay;
pub mod sharing;

pub use disk::{Counters, Disk, HostAbilities, Operation, OperationKind, Source, Step, Writes};
pub use overlay::Overlay;

/// Bytes in a sector, the unit of all positions and capacities.
pub const SECTOR: u64 = 512;
