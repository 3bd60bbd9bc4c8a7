//! Random values that find more than uniform ones do, the same in each run.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

/// A source of random values.
pub struct Random(ChaCha8Rng);

impl Random {
    /// The same sequence each time.
    pub fn new() -> Self {
        Self(ChaCha8Rng::seed_from_u64(1))
    }

    /// A number below `end`.
    pub fn below(&mut self, end: u32) -> u32 {
        self.0.next_u32() % end
    }

    /// A register's content: anything, a single bit, all but one, few bits, or near an end.
    pub fn word(&mut self) -> u64 {
        let any = self.0.next_u64();
        match self.below(5) {
            0 => any,
            1 => 1 << (any % 64),
            2 => !(1 << (any % 64)),
            3 => any & self.0.next_u64() & self.0.next_u64(),
            _ => (any % 16).wrapping_sub(8),
        }
    }

    /// A register's number: x0 as often as not.
    pub fn register(&mut self) -> u32 {
        if self.flag() { 0 } else { self.below(32) }
    }

    /// A coin.
    pub fn flag(&mut self) -> bool {
        self.below(2) == 0
    }
}
