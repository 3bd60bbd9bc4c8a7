//! Drives whole virtual machines the way the run loop does, with everything but the hardware real.
//!
//! `support` has the fake host, a guest to run on it, an assembler and page tables; `model` compares with the
//! executable form of the specification.

mod access_faults;
mod causes;
mod clock;
mod copied;
mod devices;
mod exits;
mod fetching;
mod garbage;
mod lifecycle;
mod lines;
mod losing;
mod model;
mod running;
mod sbi;
mod slow_host;
mod support;
mod trap_loops;
mod tree;
mod trust;
