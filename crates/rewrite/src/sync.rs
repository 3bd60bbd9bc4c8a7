//! Atomics that more than one hart changes: the core's, or `loom`'s where a test explores all interleavings of them.

#[cfg(not(loom))]
pub use core::sync::atomic::{AtomicU64, Ordering};
#[cfg(loom)]
pub use loom::sync::atomic::{AtomicU64, Ordering};
