//! What belongs to one hart and is reached by no other: its port, its timer, and whose vCPU is on it.

use trace::HartCounts;
use vmm::timer::Alarm;

use crate::port::Platform;

/// A hart, by its place among those that take turns. Not its id in the device tree.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct HartId(pub usize);

/// Some harts, at most 64.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct HartSet(u64);

impl HartSet {
    /// Adds a hart.
    pub const fn add(&mut self, hart: HartId) {
        self.0 |= 1_u64.wrapping_shl(hart.0 as u32);
    }

    /// Takes a hart out.
    pub const fn remove(&mut self, hart: HartId) {
        self.0 &= !1_u64.wrapping_shl(hart.0 as u32);
    }

    /// Whether a hart is one of them.
    pub const fn contains(self, hart: HartId) -> bool {
        self.0 >> (hart.0 as u32 % u64::BITS) & 1 != 0
    }
}

/// A hart's own part.
#[derive(Debug)]
pub struct Hart<P: Platform> {
    /// Which one it is.
    pub id: HartId,
    /// The hart itself.
    pub port: P::Port,
    /// What its timer is set to.
    pub alarm: Alarm,
    /// The guest whose vCPU is on it.
    pub current: Option<usize>,
    /// What it had counted when that one came.
    pub counted: HartCounts,
}

impl<P: Platform> Hart<P> {
    /// A hart on which there is no vCPU yet.
    pub const fn new(id: HartId, port: P::Port, alarm: Alarm) -> Self {
        let counted = HartCounts { runs: 0, flushes_all: 0, flushes_address: 0 };
        Self { id, port, alarm, current: None, counted }
    }
}
