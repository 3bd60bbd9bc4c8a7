//! Where all choices come from: a generator of numbers, the instructions made of them, and classes of values that are worth
//! trying. One seed, one sequence.

use crate::places;

/// A xorshift generator.
#[derive(Clone, Copy)]
pub struct Tape(u64);

impl Tape {
    /// The sequence of this seed, whatever it is.
    pub fn new(seed: u64) -> Self {
        // SplitMix64's mixing: neighbouring seeds have nothing in common, and 0 is none for a xorshift.
        let mut mixed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        Self((mixed ^ mixed >> 31) | 1)
    }

    /// The next number.
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// A number below `bound`, which is not 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        (self.next() >> 8) % bound
    }

    /// True one time in `times`.
    pub fn one_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }

    /// One of these.
    pub fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len() as u64) as usize]
    }

    /// A value at some border, a small one, one of a few bits, an address, or any.
    pub fn value(&mut self) -> u64 {
        match self.below(8) {
            0 => self.pick(&BORDERS),
            1 => self.pick(&BORDERS).wrapping_add(self.below(5)).wrapping_sub(2),
            2 | 3 => self.below(16),
            4 => 1 << self.below(64),
            5 => self.next() >> self.below(64),
            6 => places::address(self),
            _ => self.next(),
        }
    }
}

/// Where integers end.
const BORDERS: [u64; 14] = [
    0,
    0x7f,
    0x80,
    0xff,
    0x7fff,
    0x8000,
    0xffff,
    i32::MAX as u64,
    1 << 31,
    u32::MAX as u64,
    1 << 32,
    i64::MAX as u64,
    1 << 63,
    u64::MAX,
];

/// An instruction: what is done, and the seed of how. A loop does the same several times.
#[derive(Clone, Copy)]
pub struct Instruction {
    /// Which action, by its place among all.
    pub action: u8,
    /// Begins the tape of its operands.
    pub operands: u64,
}

/// The longest program.
pub const PROGRAM: usize = 48;

/// A program, as bytes would be.
pub fn program(tape: &mut Tape) -> [Instruction; PROGRAM] {
    core::array::from_fn(|_| Instruction { action: tape.next() as u8, operands: tape.next() })
}
