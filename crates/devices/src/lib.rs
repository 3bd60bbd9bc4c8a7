//! The devices of QEMU's `virt` machine, as models that know neither bus, vCPU nor clock.
//!
//! Each device takes an offset, a width and, where it keeps time, the time; it says the level of its interrupt
//! line. [`board::Board`] wires one virtual machine's devices together at their addresses. The VMM decodes the
//! access, owns the clock and moves console bytes and data; nothing here touches hardware, allocates once it is built,
//! or can panic on what a guest writes.
//!
//! The measure is what a kernel sees on QEMU 7.2: reset values, widths, holes and side effects were read off
//! it, and `tests/against_qemu` compares again. Differences are named where they are made.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod board;
pub mod finisher;
pub mod plic;
mod queue;
pub mod rtc;
pub mod slots;
pub mod time;
pub mod uart16550;
pub mod virtio;

pub use board::{Board, BoardEvent, Loaded};
pub use slots::{SlotId, SlotSet};
pub use time::BoardTime;

/// No register answers this access: wrong place, width or alignment. The guest takes an access fault.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Refused;
