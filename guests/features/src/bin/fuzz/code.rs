//! Code for supervisor mode that is rewritten again and again, in a page whose other half devices and stores change.

use crate::places;
use crate::raw;
use features::exec;
use features::insn::{self, A0, ZERO};
use features::random::Random;

/// Instructions in a piece.
const PIECE: u64 = 12;
/// Pieces in the first half of the page.
const PIECES: u64 = 2048 / (4 * (PIECE + 1));

/// CSRs that can hold anything for a while: `sscratch`, `sepc`, `scause`, `stval`, `senvcfg`, `scounteren`, `fcsr`.
const WRITABLE: [u32; 8] = [0x140, 0x141, 0x142, 0x143, 0x10a, 0x106, 0x003, 0x001];

/// Makes all pieces ones that do nothing.
pub fn prepare() {
    exec::write(places::code(), &[insn::RET; 512]);
}

/// Writes a piece, or changes one word of one.
pub fn write(tape: &mut Random) {
    let at = places::code() + 4 * (PIECE + 1) * tape.below(PIECES);
    if tape.one_in(3) {
        exec::write(at + 4 * tape.below(PIECE), &[word(tape)]);
    } else {
        let words: [u32; PIECE as usize] = core::array::from_fn(|_| word(tape));
        exec::write(at, &words);
        exec::write(at + 4 * PIECE, &[insn::RET]);
    }
}

/// Runs a piece, often enough to become hot.
pub fn run(tape: &mut Random, last: u64) -> u64 {
    let at = places::code() + 4 * (PIECE + 1) * tape.below(PIECES);
    let mut value = last;
    for _ in 0..tape.pick(&[1, 4, 40]) {
        value = raw::call(at, value);
    }
    value
}

/// An instruction after which this program is still what it was.
fn word(tape: &mut Random) -> u32 {
    let bits = tape.number() as u32;
    // a0 to a5 are the callee's.
    let register = A0 + bits % 6;
    match tape.below(14) {
        0 => insn::csrrs(register, bits >> 20, ZERO),
        1 | 2 => insn::csrrw(register, tape.pick(&WRITABLE), A0 + (bits >> 8) % 6),
        // SUM and MXR.
        3 => insn::csrrs(register, 0x100, ZERO),
        4 => insn::csrrci(register, 0x100, 2),
        // A new interrupt enable, taken back at the end; SIE is off.
        5 => insn::csrrs(ZERO, 0x104, register),
        6 => insn::csrrwi(register, 0x144, 0),
        7 => insn::SFENCE_VMA,
        8 => insn::FENCE_I,
        9 => tape.pick(&[insn::EBREAK, insn::C_EBREAK_C_NOP, 0, u32::MAX, insn::MRET]),
        10 => insn::TWO_C_NOPS,
        // rdtime, rdcycle, rdinstret, and numbers that are no counter.
        11 => insn::csrrs(register, 0xc00 + bits % 5, ZERO),
        _ => insn::addi(register, A0 + (bits >> 8) % 6, bits as i32 >> 20),
    }
}
