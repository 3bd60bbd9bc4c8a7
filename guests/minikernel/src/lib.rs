//! The parts of minikernel that need no machine: line editing, command parsing, the run queue and the byte
//! ring between interrupt and kernel. They are a library so that the developer's machine can test them; the
//! kernel itself is the binary, `main.rs`.
#![no_std]
#![forbid(unsafe_code)]

pub mod command;
pub mod line;
pub mod queue;
pub mod ring;
