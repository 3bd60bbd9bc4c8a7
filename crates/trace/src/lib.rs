//! What happened: exit counters by kind, what a hart counts; and what a panic prints: a ring of the last exits, the console's unsent bytes.
//!
//! Records only; the meaning of an exit is `vmm`'s business.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod array;
pub mod counters;
pub mod hart;
pub mod outbox;
pub mod ring;

pub use counters::{ExitCounters, ExitKind};
pub use hart::HartCounts;
pub use outbox::Outbox;
pub use ring::{Event, Ring};
