//! What a hart of the host's has counted.

use core::ops::{AddAssign, Sub};

/// How often the hart did what instruction counts do not show.
#[derive(Clone, Copy, Debug, Default)]
pub struct HartCounts {
    /// Runs of a guest, each of which ended with an exit to Rust.
    pub runs: u64,
    /// Fences of all addresses.
    pub flushes_all: u64,
    /// Fences of one address.
    pub flushes_address: u64,
}

impl Sub for HartCounts {
    type Output = Self;

    fn sub(self, before: Self) -> Self {
        Self {
            runs: self.runs.wrapping_sub(before.runs),
            flushes_all: self.flushes_all.wrapping_sub(before.flushes_all),
            flushes_address: self.flushes_address.wrapping_sub(before.flushes_address),
        }
    }
}

impl AddAssign for HartCounts {
    fn add_assign(&mut self, more: Self) {
        self.runs = self.runs.wrapping_add(more.runs);
        self.flushes_all = self.flushes_all.wrapping_add(more.flushes_all);
        self.flushes_address = self.flushes_address.wrapping_add(more.flushes_address);
    }
}
