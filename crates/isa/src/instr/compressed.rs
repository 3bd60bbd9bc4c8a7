//! From 16 bits to `Instr`: the loads and stores of C (with D) and Zcb, and C.EBREAK. Called by `decode`.
//!
//! Everything in quadrant 1 computes or jumps, so it is `Other`. Unpriv. spec, "RVC Instruction Set
//! Listings" and "Zcb".

use super::{Instr, Width};
use crate::reg::{FReg, Reg};

/// C.EBREAK is C.JALR with no register.
const C_EBREAK: u32 = 0x9002;

/// Decodes a compressed instruction: one whose low two bits are not 11.
pub(super) const fn decode(half: u16) -> Instr {
    let bits = half as u32;
    match bits & 3 {
        0 => quadrant_0(bits),
        2 => quadrant_2(bits),
        _ => Instr::Other,
    }
}

/// Accesses through one of the eight popular registers.
const fn quadrant_0(bits: u32) -> Instr {
    let rs1 = popular(bits >> 7);
    let reg = popular(bits >> 2);
    let freg = FReg::new(8 | bits >> 2 & 7);
    match bits >> 13 {
        0b001 => Instr::FpLoad { rd: freg, rs1, offset: offset_double(bits), width: Width::Double },
        0b010 => load(reg, rs1, offset_word(bits), Width::Word),
        0b011 => load(reg, rs1, offset_double(bits), Width::Double),
        0b100 => narrow(bits, reg, rs1),
        0b101 => Instr::FpStore { rs2: freg, rs1, offset: offset_double(bits), width: Width::Double },
        0b110 => Instr::Store { rs2: reg, rs1, offset: offset_word(bits), width: Width::Word },
        0b111 => Instr::Store { rs2: reg, rs1, offset: offset_double(bits), width: Width::Double },
        _ => Instr::Other, // C.ADDI4SPN.
    }
}

/// Zcb's accesses to bytes and halfwords.
const fn narrow(bits: u32, reg: Reg, rs1: Reg) -> Instr {
    let offset_byte = field(bits, 6, 1, 0) | field(bits, 5, 1, 1);
    let offset_half = field(bits, 5, 1, 1);
    let bit_6 = bits >> 6 & 1 == 1;
    match bits >> 10 & 7 {
        0b000 => Instr::Load { rd: reg, rs1, offset: offset_byte, width: Width::Byte, signed: false },
        0b001 => Instr::Load { rd: reg, rs1, offset: offset_half, width: Width::Half, signed: bit_6 },
        0b010 => Instr::Store { rs2: reg, rs1, offset: offset_byte, width: Width::Byte },
        0b011 if !bit_6 => Instr::Store { rs2: reg, rs1, offset: offset_half, width: Width::Half },
        _ => Instr::Other,
    }
}

/// Accesses through the stack pointer.
const fn quadrant_2(bits: u32) -> Instr {
    let rd = Reg::new(bits >> 7);
    let rs2 = Reg::new(bits >> 2);
    let rs1 = Reg::SP;
    match bits >> 13 {
        0b001 => Instr::FpLoad {
            rd: FReg::new(bits >> 7),
            rs1,
            offset: offset_load_double_sp(bits),
            width: Width::Double,
        },
        // A load into x0 is reserved here.
        0b010 if rd.index() != 0 => load(rd, rs1, offset_load_word_sp(bits), Width::Word),
        0b011 if rd.index() != 0 => load(rd, rs1, offset_load_double_sp(bits), Width::Double),
        0b100 if bits == C_EBREAK => Instr::Ebreak,
        0b101 => Instr::FpStore {
            rs2: FReg::new(bits >> 2),
            rs1,
            offset: offset_store_double_sp(bits),
            width: Width::Double,
        },
        0b110 => Instr::Store { rs2, rs1, offset: offset_store_word_sp(bits), width: Width::Word },
        0b111 => Instr::Store { rs2, rs1, offset: offset_store_double_sp(bits), width: Width::Double },
        _ => Instr::Other,
    }
}

/// A load of a word or a doubleword; both sign-extend.
const fn load(rd: Reg, rs1: Reg, offset: i32, width: Width) -> Instr {
    Instr::Load { rd, rs1, offset, width, signed: true }
}

/// The register that a three-bit field names: x8 to x15.
const fn popular(field: u32) -> Reg {
    Reg::new(8 | field & 7)
}

/// The `len` bits from `low` up, moved to stand at `to`. All offsets here are unsigned.
const fn field(bits: u32, low: u32, len: u32, to: u32) -> i32 {
    ((bits >> low & ((1 << len) - 1)) << to) as i32
}

const fn offset_word(bits: u32) -> i32 {
    field(bits, 10, 3, 3) | field(bits, 6, 1, 2) | field(bits, 5, 1, 6)
}

const fn offset_double(bits: u32) -> i32 {
    field(bits, 10, 3, 3) | field(bits, 5, 2, 6)
}

const fn offset_load_word_sp(bits: u32) -> i32 {
    field(bits, 12, 1, 5) | field(bits, 4, 3, 2) | field(bits, 2, 2, 6)
}

const fn offset_load_double_sp(bits: u32) -> i32 {
    field(bits, 12, 1, 5) | field(bits, 5, 2, 3) | field(bits, 2, 3, 6)
}

const fn offset_store_word_sp(bits: u32) -> i32 {
    field(bits, 9, 4, 2) | field(bits, 7, 2, 6)
}

const fn offset_store_double_sp(bits: u32) -> i32 {
    field(bits, 10, 3, 3) | field(bits, 7, 3, 6)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_unprivileged_quadrant_is_other() {
        for high in 0..1 << 14 {
            assert_eq!(decode(high << 2 | 1), Instr::Other);
        }
    }

    #[test]
    fn popular_registers_start_at_x8() {
        // c.lw a5, 64(s0): bit 5 is bit 6 of the offset
        let (s0, a5) = (Reg::new(8), Reg::new(15));
        assert_eq!(decode(0x403c), load(a5, s0, 64, Width::Word));
        // c.sd a5, 248(s0)
        assert_eq!(decode(0xfc7c), Instr::Store { rs2: a5, rs1: s0, offset: 248, width: Width::Double });
        // c.fld fa5, 248(s0)
        let fa5 = FReg::new(15);
        assert_eq!(decode(0x3c7c), Instr::FpLoad { rd: fa5, rs1: s0, offset: 248, width: Width::Double });
        assert_eq!(decode(0xbc7c), Instr::FpStore { rs2: fa5, rs1: s0, offset: 248, width: Width::Double });
    }

    #[test]
    fn stack_accesses_reach_to_the_end_of_their_offset() {
        let rs1 = Reg::SP;
        assert_eq!(decode(0x50fe), load(Reg::RA, rs1, 252, Width::Word));
        assert_eq!(decode(0x70fe), load(Reg::RA, rs1, 504, Width::Double));
        assert_eq!(decode(0xdf86), Instr::Store { rs2: Reg::RA, rs1, offset: 252, width: Width::Word });
        assert_eq!(decode(0xff86), Instr::Store { rs2: Reg::RA, rs1, offset: 504, width: Width::Double });
        let ft1 = FReg::new(1);
        assert_eq!(decode(0x30fe), Instr::FpLoad { rd: ft1, rs1, offset: 504, width: Width::Double });
        assert_eq!(decode(0xbf86), Instr::FpStore { rs2: ft1, rs1, offset: 504, width: Width::Double });
    }

    #[test]
    fn a_stack_load_into_x0_is_reserved_but_not_into_ft0() {
        assert_eq!(decode(0x4002), Instr::Other, "c.lwsp zero");
        assert_eq!(decode(0x6002), Instr::Other, "c.ldsp zero");
        let expected = Instr::FpLoad { rd: FReg::new(0), rs1: Reg::SP, offset: 0, width: Width::Double };
        assert_eq!(decode(0x2002), expected);
    }

    #[test]
    fn only_jalr_without_registers_is_ebreak() {
        assert_eq!(decode(0x9002), Instr::Ebreak);
        assert_eq!(decode(0x8002), Instr::Other, "c.jr zero");
        assert_eq!(decode(0x9082), Instr::Other, "c.jalr ra");
        assert_eq!(decode(0x9006), Instr::Other, "c.add zero, ra");
    }

    #[test]
    fn zcb_offsets_count_in_their_own_order() {
        let (rs1, reg) = (Reg::new(8), Reg::new(9));
        let byte = |offset| Instr::Load { rd: reg, rs1, offset, width: Width::Byte, signed: false };
        assert_eq!(decode(0x8044), byte(1), "bit 6 is bit 0");
        assert_eq!(decode(0x8024), byte(2), "bit 5 is bit 1");
        let half = |offset, signed| Instr::Load { rd: reg, rs1, offset, width: Width::Half, signed };
        assert_eq!(decode(0x8424), half(2, false));
        assert_eq!(decode(0x8464), half(2, true));
        assert_eq!(decode(0x8864), Instr::Store { rs2: reg, rs1, offset: 3, width: Width::Byte });
        assert_eq!(decode(0x8c24), Instr::Store { rs2: reg, rs1, offset: 2, width: Width::Half });
        assert_eq!(decode(0x8c64), Instr::Other, "c.sh with bit 6 is reserved");
    }
}
