//! Clocks and counters of the hart.

use crate::csr;

/// The time CSR, in ticks of the timebase.
#[inline]
pub fn now() -> u64 {
    csr::read!("time")
}

/// The cycle counter. Only where `HartFeatures::counters` says so; else it traps.
pub fn cycle() -> u64 {
    csr::read!("cycle")
}

/// The counter of retired instructions, under the same condition.
pub fn instret() -> u64 {
    csr::read!("instret")
}
