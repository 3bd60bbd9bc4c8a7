//! What is made of the generator's numbers, from which all choices come: instructions, and values that are worth trying. One
//! seed, one sequence.

use features::random::Random;

use crate::places;

/// A value at some border, a small one, one of a few bits, an address, or any.
pub fn value(tape: &mut Random) -> u64 {
    match tape.below(8) {
        0 => tape.pick(&BORDERS),
        1 => tape.pick(&BORDERS).wrapping_add(tape.below(5)).wrapping_sub(2),
        2 | 3 => tape.below(16),
        4 => 1 << tape.below(64),
        5 => tape.number() >> tape.below(64),
        6 => places::address(tape),
        _ => tape.number(),
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
pub fn program(tape: &mut Random) -> [Instruction; PROGRAM] {
    core::array::from_fn(|_| Instruction { action: tape.number() as u8, operands: tape.number() })
}
