//! Random numbers, the same in each run: SplitMix64, for ten million cases want half a milliard of them.

/// A source of random numbers.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// The sequence with this seed.
    pub const fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    /// Any number.
    pub const fn any(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ word >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ word >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ word >> 31
    }

    /// A number below `end`.
    pub const fn below(&mut self, end: u64) -> u64 {
        (self.any() as u32 as u64 * end) >> 32
    }

    /// Whether something happens that happens so often in a hundred.
    pub const fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    /// One of these.
    pub fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len() as u64) as usize]
    }

    /// A number that finds more than a uniform one does.
    pub const fn word(&mut self) -> u64 {
        let any = self.any();
        match self.below(6) {
            0 => any,
            1 => 1 << (any % 64),
            2 => !(1 << (any % 64)),
            3 => any & self.any() & self.any(),
            4 => 0,
            _ => (any % 16).wrapping_sub(8),
        }
    }
}
