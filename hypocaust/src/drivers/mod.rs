//! Drivers of the real machine's devices, as few as the console needs. Found through the device tree.

pub mod plic;
pub mod rtc;
pub mod uart;
