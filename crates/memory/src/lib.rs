//! Addresses, guest RAM and host memory ranges, as types.
//!
//! Pure and host-testable: what hardware needs is a slice handed in by the `hart` crate, or a leaked `Vec`
//! in a test. Knows nothing of page tables or devices. Holds no unsafe code, but declares what only unsafe code may call:
//! see `host`.
#![no_std]
#![deny(unsafe_code)]

extern crate alloc;

pub mod addr;
pub mod block;
pub mod extents;
pub mod host;
pub mod overlay;
pub mod ram;

pub use addr::{GuestPhysAddr, GuestVirtAddr, HostPhysAddr};
pub use block::Block;
pub use extents::{Extent, Extents, covers};
pub use host::{HartAuthority, HostWords};
pub use overlay::{Overlay, RamState};
pub use ram::{GuestRam, InitialData, NotRam};

/// Bytes in a base page.
pub const PAGE_SIZE: u64 = 4096;
/// Bytes in a block: the unit in which guest RAM is populated and the largest shadow leaf.
pub const BLOCK_SIZE: u64 = 2 << 20;
