//! Memory: which frames are free, and the page tables that map them.

pub mod active;
pub mod frames;
pub mod space;
pub mod table;

/// Bytes in a page, and in a frame that holds it.
pub const PAGE: u64 = 4096;
