//! The parts of the firmware that need no machine: what it reads in the device tree and adds to it, and what a call's
//! set of harts means. They are a library so that the developer's machine can test them; the firmware itself is the
//! binary, `main.rs`.
#![no_std]
#![forbid(unsafe_code)]

pub mod harts;
pub mod tree;
