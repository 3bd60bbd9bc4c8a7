//! What happened: exit counters by kind, and a ring of the last exits that a panic prints.
//!
//! Records only; the meaning of an exit is `vmm`'s business.
#![no_std]
#![forbid(unsafe_code)]

pub mod counters;
pub mod ring;

pub use counters::{ExitCounters, ExitKind};
pub use ring::{Event, Ring};
