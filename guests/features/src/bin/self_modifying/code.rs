//! Random instructions, in slots of four bytes: one long one or two short ones. A page's slots are of two kinds: in the first
//! sixteen of each sixty-four are sequences that have to stay whole, stores among them, and nothing of the sandbox stores there;
//! in the others is what needs nobody else, and may be overwritten by any other such.

use features::insn::{csrrc, csrrs, csrrsi, csrrw, csrrwi, i_type};
use features::random::Random;
use guest_rt::isa::csr::CsrAddr;

/// Slots of a page.
pub const SLOTS: u64 = 1024;
/// Slots of a zone, and how many at its start are whole sequences.
pub const ZONE: u64 = 64;
pub const WHOLE: u64 = 16;

/// Registers that code may change.
const SCRATCH: [u32; 6] = [5, 6, 7, 28, 12, 13];
/// Registers that hold addresses of places where code may be stored.
pub const ADDRESSES: [u32; 10] = [8, 9, 18, 19, 20, 21, 22, 23, 24, 25];
/// Registers that hold instructions.
pub const WORDS: [u32; 6] = [10, 11, 14, 15, 16, 17];
/// Registers that hold the spaces' satp.
pub const SPACES: [u32; 2] = [26, 27];
/// Registers that hold SPP, SUM and MXR.
pub const SPP: u32 = 29;
pub const SUM: u32 = 30;
pub const MXR: u32 = 31;

/// What a seed's code is like.
#[derive(Clone, Copy)]
pub struct Style {
    /// One slot in so many is privileged.
    pub privileged: u64,
    /// Whether there is WFI; where not, there are returns to supervisor mode, and a watchdog.
    pub has_wfi: bool,
    /// Whether there is what traps each time.
    pub has_traps: bool,
}

const fn number(csr: CsrAddr) -> u32 {
    csr.as_u16() as u32
}

const fn s_type(opcode: u32, funct3: u32, rs1: u32, rs2: u32, imm: i32) -> u32 {
    let imm = imm as u32;
    (imm >> 5 & 0x7f) << 25 | rs2 << 20 | rs1 << 15 | funct3 << 12 | (imm & 31) << 7 | opcode
}

const fn b_type(funct3: u32, rs1: u32, rs2: u32, imm: i32) -> u32 {
    let imm = imm as u32;
    (imm >> 12 & 1) << 31
        | (imm >> 5 & 0x3f) << 25
        | rs2 << 20
        | rs1 << 15
        | funct3 << 12
        | (imm >> 1 & 0xf) << 8
        | (imm >> 11 & 1) << 7
        | 0x63
}

const fn jal(rd: u32, imm: i32) -> u32 {
    let imm = imm as u32;
    (imm >> 20 & 1) << 31
        | (imm >> 1 & 0x3ff) << 21
        | (imm >> 11 & 1) << 20
        | (imm >> 12 & 0xff) << 12
        | rd << 7
        | 0x6f
}

const fn amo(funct5: u32, width: u32, rd: u32, rs1: u32, rs2: u32) -> u32 {
    funct5 << 27 | 3 << 25 | rs2 << 20 | rs1 << 15 | width << 12 | rd << 7 | 0x2f
}

const FENCE_I: u32 = 0x100f;
const SFENCE: u32 = 0x1200_0073;
const SRET: u32 = 0x1020_0073;
const WFI: u32 = 0x1050_0073;
const NOP: u32 = 0x13;

/// A slot that stands alone. `left` is how many slots of its kind follow it without a break.
pub fn single(random: &mut Random, style: Style, left: u64) -> u32 {
    if random.one_in(style.privileged) {
        return privileged(random, style);
    }
    let (rd, a, b) = (random.pick(&SCRATCH), random.pick(&SCRATCH), random.pick(&SCRATCH));
    match random.below(16) {
        0..=2 => i_type(0x13, random.pick(&[0, 4, 6, 7]), rd, a, random.below(4096) as i32 - 2048),
        3 => b << 20 | a << 15 | random.pick(&[0, 4, 6]) << 12 | rd << 7 | 0x33,
        4 => (random.number() as u32) << 12 | rd << 7 | random.pick(&[0x17, 0x37]),
        5..=7 => u32::from(short(random)) | u32::from(short(random)) << 16,
        8..=10 => {
            let width = random.below(7) as u32;
            let imm = random.below(16) as i32 * 4;
            i_type(0x03, width, rd, random.pick(&ADDRESSES), imm)
        }
        11 | 12 if left > 1 => {
            let distance = 4 * (1 + random.below(left.min(12))) as i32;
            b_type(random.pick(&[0, 1, 4, 5, 6, 7]), a, b, distance)
        }
        13 if left > 1 => jal(random.pick(&[0, 5, 6]), 4 * (1 + random.below(left.min(12))) as i32),
        14 => FENCE_I,
        _ => NOP,
    }
}

/// Whether its halves may be mixed with those of others like it: at a page's end.
pub fn torn(random: &mut Random, style: Style) -> u32 {
    match random.below(6) {
        0 => u32::from(short(random)) | u32::from(short(random)) << 16,
        1 => i_type(0x13, 0, random.pick(&SCRATCH), random.pick(&SCRATCH), 0x140 + random.below(4) as i32),
        2 => SFENCE | random.pick(&ADDRESSES) << 15,
        3 if style.has_wfi => WFI,
        _ => csrrs(random.pick(&SCRATCH), random.pick(&[0x140, 0x141, 0x142, 0x143, 0x100]), 0),
    }
}

/// An instruction of two bytes.
fn short(random: &mut Random) -> u16 {
    let (rd, rs) = (random.pick(&SCRATCH) as u16, random.pick(&SCRATCH) as u16);
    let imm = random.below(31) as u16 + 1;
    match random.below(6) {
        0 => 0x0001 | rd << 7 | imm << 2,
        1 => 0x4001 | rd << 7 | imm << 2,
        2 => 0x8002 | rd << 7 | rs << 2,
        3 => 0x9002 | rd << 7 | rs << 2,
        // c.lw a2, 0(s0 or s1)
        4 => 0x4000 | (random.below(2) as u16) << 7 | 4 << 2,
        _ => 0x0001,
    }
}

fn privileged(random: &mut Random, style: Style) -> u32 {
    use CsrAddr as C;
    let (rd, rs) = (random.pick(&SCRATCH), random.pick(&SCRATCH));
    let read = [C::SSCRATCH, C::SEPC, C::SCAUSE, C::STVAL, C::SSTATUS, C::STVEC, C::SATP, C::SIE];
    let written = number(random.pick(&[C::SSCRATCH, C::SCAUSE, C::STVAL, C::SSCRATCH]));
    match random.below(18) {
        0..=3 => csrrs(rd, number(random.pick(&read)), 0),
        4 | 5 => csrrw(random.pick(&[0, rd]), written, rs),
        6 => csrrwi(rd, written, random.below(32) as u32),
        7 => csrrsi(rd, number(C::SSCRATCH), random.below(32) as u32),
        8 => csrrc(rd, number(C::SSCRATCH), rs),
        9 => csrrs(random.pick(&[0, rd]), number(C::SSTATUS), random.pick(&[SUM, MXR])),
        10 => csrrc(random.pick(&[0, rd]), number(C::SSTATUS), random.pick(&[SUM, MXR])),
        11 => SFENCE,
        12 => SFENCE | random.pick(&ADDRESSES) << 15 | random.pick(&[0, 5]) << 20,
        13 => SFENCE | random.pick(&[5, 6]) << 20,
        14 => csrrw(random.pick(&[0, rd]), number(C::SATP), random.pick(&SPACES)),
        15 | 16 if style.has_wfi => WFI,
        17 if style.has_traps => random.pick(&[
            0x0010_0073,   // ebreak
            0x9002_0001,   // c.nop; c.ebreak
            0x0001_9002,   // c.ebreak; c.nop
            0x3020_0073,   // mret
            0x6c05_4073,   // hlv.d
            0x73 | 1 << 7, // reserved
            0x5a5a_0073,   // reserved
            0xc000_1073,   // a write to cycle
            0x0000_0001,   // c.nop; the illegal one
        ]),
        _ => csrrs(rd, number(C::SSCRATCH), 0),
    }
}

/// A sequence that has to stay whole.
pub struct Sequence {
    words: [u32; 10],
    len: usize,
}

impl Sequence {
    fn of(words: &[u32]) -> Self {
        let mut sequence = Self { words: [NOP; 10], len: words.len() };
        sequence.words[..words.len()].copy_from_slice(words);
        sequence
    }

    pub fn words(&self) -> &[u32] {
        &self.words[..self.len]
    }
}

/// A sequence. Where code lies at odd multiples of two, `is_odd`, words of eight bytes are not aligned.
pub fn sequence(random: &mut Random, style: Style, is_odd: bool) -> Sequence {
    let (to, word) = (random.pick(&ADDRESSES), random.pick(&WORDS));
    let (rd, imm) = (random.pick(&SCRATCH), 4 * random.below(8) as i32);
    let store = |width, rs2, imm| s_type(0x23, width, to, rs2, imm);
    match random.below(14) {
        0..=2 => Sequence::of(&[store(2, word, imm), FENCE_I]),
        3 | 4 => Sequence::of(&[store(3, word, imm), FENCE_I]),
        5 => {
            Sequence::of(&[store(1, word, imm), i_type(0x13, 5, 7, word, 16), store(1, 7, imm + 2), FENCE_I])
        }
        6 => {
            let shift = |by| i_type(0x13, 5, 7, word, by);
            Sequence::of(&[
                store(0, word, imm),
                shift(8),
                store(0, 7, imm + 1),
                shift(16),
                store(0, 7, imm + 2),
                shift(24),
                store(0, 7, imm + 3),
                FENCE_I,
            ])
        }
        7 if !is_odd => Sequence::of(&[amo(1, random.pick(&[2, 3]), rd, to, word), FENCE_I]),
        8 if !is_odd => {
            let width = random.pick(&[2, 3]);
            // lr 6, (to); sc 7, word, (to); bnez 7, back
            Sequence::of(&[amo(2, width, 6, to, 0), amo(3, width, 7, to, word), b_type(1, 7, 0, -8), FENCE_I])
        }
        9 => Sequence::of(&[SFENCE, store(2, word, imm), FENCE_I]),
        // c.sw or c.sd of a0, a1, a4 or a5 to s0 or s1; fence.i in halves
        10 => {
            let rs2 = random.pick(&[2, 3, 6, 7]);
            let short = random.pick(&[0xc000_u32, 0xe000]) | (random.below(2) as u32) << 7 | rs2 << 2;
            Sequence::of(&[short | 1 << 16, FENCE_I])
        }
        11 => {
            // auipc 5; jalr over some
            let over = 4 * random.below(4) as i32;
            Sequence::of(&[
                0x17 | 5 << 7,
                i_type(0x67, 0, random.pick(&[0, 1]), 5, 8 + over),
                NOP,
                NOP,
                NOP,
                NOP,
            ])
        }
        _ => {
            let status = number(CsrAddr::SSTATUS);
            let spp = if style.has_wfi { csrrs(5, status, 0) } else { csrrs(0, status, SPP) };
            Sequence::of(&[
                0x17 | 5 << 7,
                i_type(0x13, 0, 5, 5, 20),
                csrrw(0, number(CsrAddr::SEPC), 5),
                if random.one_in(3) { NOP } else { spp },
                SRET,
            ])
        }
    }
}
