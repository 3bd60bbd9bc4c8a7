//! What is known of the time that others had while a vCPU would have run. The SBI's calls about it are in `sbi::sta`.

use memory::{GuestPhysAddr, GuestRam};
use serde::{Deserialize, Serialize};

/// What a vCPU is told of the time that others had.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct StealTime {
    /// Ticks that it has waited so far.
    pub(crate) waited: u64,
    pub(crate) shared: Option<Shared>,
}

/// The memory that the guest has named.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Shared {
    pub(crate) address: GuestPhysAddr,
    /// What it had waited when it named it.
    pub(crate) before: u64,
    pub(crate) sequence: u32,
}

/// Bytes of that memory, which also is its alignment.
pub(crate) const SIZE: u64 = 64;

/// What a guest was told, on whatever host.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Told {
    /// Where.
    address: u64,
    /// Ticks.
    stolen: u64,
    sequence: u32,
}

impl Told {
    #[cfg(test)]
    pub(crate) const fn new(address: u64, stolen: u64, sequence: u32) -> Self {
        Self { address, stolen, sequence }
    }

    /// Whether a guest could have been told so.
    pub(crate) fn is_possible(self, ram: &GuestRam) -> bool {
        let is_even = self.sequence.is_multiple_of(2);
        is_even && self.address.is_multiple_of(SIZE) && ram.contains(GuestPhysAddr(self.address), SIZE)
    }
}

impl StealTime {
    /// What the guest was told, if it wants to know.
    pub(crate) fn told(&self) -> Option<Told> {
        let Shared { address, before, sequence } = self.shared?;
        Some(Told { address: address.0, stolen: self.waited.wrapping_sub(before), sequence })
    }

    /// Tells the guest more from there on.
    pub(crate) fn go_on_from(&mut self, told: Option<Told>) {
        self.shared = told.map(|Told { address, stolen, sequence }| Shared {
            address: GuestPhysAddr(address),
            before: self.waited.wrapping_sub(stolen),
            sequence,
        });
    }

    /// The guest hears no more of it; what it has waited stays.
    pub(crate) fn stop(&mut self) {
        self.shared = None;
    }
}
