//! Properties of `decode`: what an encoder of the test's own makes comes back, and no word does harm.

mod encodings;

use encodings::{MAJOR_OPCODES, all_compressed, all_functs};
use isa::csr::CsrAddr;
use isa::instr::{Atomic, CsrOp, CsrSource, Instr, Width, decode, length};
use isa::reg::{FReg, Reg};
use proptest::prelude::*;
use std::mem::discriminant;

const WIDTHS: [Width; 4] = [Width::Byte, Width::Half, Width::Word, Width::Double];

fn i_format(opcode: u32, funct3: u32, rd: u32, rs1: u32, immediate: i32) -> u32 {
    (immediate as u32) << 20 | rs1 << 15 | funct3 << 12 | rd << 7 | opcode
}

fn s_format(opcode: u32, funct3: u32, rs1: u32, rs2: u32, immediate: i32) -> u32 {
    let immediate = immediate as u32;
    (immediate >> 5) << 25 | rs2 << 20 | rs1 << 15 | funct3 << 12 | (immediate & 31) << 7 | opcode
}

fn r_format(opcode: u32, funct7: u32, funct3: u32, rd: u32, rs1: u32, rs2: u32) -> u32 {
    funct7 << 25 | rs2 << 20 | rs1 << 15 | funct3 << 12 | rd << 7 | opcode
}

prop_compose! {
    fn register()(number in 0u32..32) -> u32 { number }
}

prop_compose! {
    fn offset()(offset in -2048i32..2048) -> i32 { offset }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4096, failure_persistence: None, ..Default::default() })]

    #[test]
    fn integer_loads_come_back(rd in register(), rs1 in register(), offset in offset(), funct3 in 0usize..7) {
        let bits = i_format(0x03, funct3 as u32, rd, rs1, offset);
        let (width, signed) = (WIDTHS[funct3 % 4], funct3 < 4);
        let expected = Instr::Load { rd: Reg::new(rd), rs1: Reg::new(rs1), offset, width, signed };
        prop_assert_eq!(decode(bits), expected);
    }

    #[test]
    fn integer_stores_come_back(rs1 in register(), rs2 in register(), offset in offset(), size in 0usize..4) {
        let bits = s_format(0x23, size as u32, rs1, rs2, offset);
        let expected = Instr::Store { rs2: Reg::new(rs2), rs1: Reg::new(rs1), offset, width: WIDTHS[size] };
        prop_assert_eq!(decode(bits), expected);
    }

    #[test]
    fn floating_point_accesses_come_back(
        fp in register(), rs1 in register(), offset in offset(), size in 1usize..4,
    ) {
        let (freg, base, width) = (FReg::new(fp), Reg::new(rs1), WIDTHS[size]);
        let load = i_format(0x07, size as u32, fp, rs1, offset);
        prop_assert_eq!(decode(load), Instr::FpLoad { rd: freg, rs1: base, offset, width });
        let store = s_format(0x27, size as u32, rs1, fp, offset);
        prop_assert_eq!(decode(store), Instr::FpStore { rs2: freg, rs1: base, offset, width });
    }

    #[test]
    fn csr_accesses_come_back(
        csr in 0u32..4096, rd in register(), field in register(), op in 1u32..4, immediate: bool,
    ) {
        let bits = i_format(0x73, op | u32::from(immediate) << 2, rd, field, csr as i32);
        let op = [CsrOp::Write, CsrOp::Set, CsrOp::Clear][op as usize - 1];
        let src = if immediate { CsrSource::Imm(field as u8) } else { CsrSource::Reg(Reg::new(field)) };
        prop_assert_eq!(decode(bits), Instr::Csr { op, csr: CsrAddr::new(csr), rd: Reg::new(rd), src });
    }

    #[test]
    fn fences_come_back(rs1 in register(), rs2 in register()) {
        let (address, asid) = (Reg::new(rs1), Reg::new(rs2));
        let sfence = r_format(0x73, 0x09, 0, 0, rs1, rs2);
        prop_assert_eq!(decode(sfence), Instr::SfenceVma { rs1: address, rs2: asid });
        let sinval = r_format(0x73, 0x0b, 0, 0, rs1, rs2);
        prop_assert_eq!(decode(sinval), Instr::SinvalVma { rs1: address, rs2: asid });
    }

    #[test]
    fn atomics_come_back(
        funct5 in prop::sample::select(vec![0u32, 1, 3, 4, 5, 8, 12, 16, 20, 24, 28]),
        order in 0u32..4, rd in register(), rs1 in register(), rs2 in register(), size in 2usize..4,
    ) {
        let bits = r_format(0x2f, funct5 << 2 | order, size as u32, rd, rs1, rs2);
        let kind = if funct5 == 3 { Atomic::StoreConditional } else { Atomic::Amo };
        prop_assert_eq!(decode(bits), Instr::Atomic { kind, rs1: Reg::new(rs1), width: WIDTHS[size] });
    }

    #[test]
    fn the_upper_half_of_a_compressed_word_is_ignored(upper: u16, high in 0u16..0x4000, quadrant in 0u16..3) {
        let lower = high << 2 | quadrant;
        prop_assert_eq!(decode(u32::from(upper) << 16 | u32::from(lower)), decode(u32::from(lower)));
    }

    #[test]
    fn any_word_outside_the_major_opcodes_is_other(bits: u32) {
        let is_compressed = length(bits as u16) == 2;
        let instr = decode(bits);
        prop_assert!(is_compressed || MAJOR_OPCODES.contains(&(bits & 0x7f)) || instr == Instr::Other);
    }
}

#[test]
fn every_compressed_offset_is_an_unsigned_multiple_of_the_width() {
    let mut accesses = 0;
    for half in all_compressed() {
        let (offset, width) = match decode(half.into()) {
            Instr::Load { offset, width, .. } | Instr::Store { offset, width, .. } => (offset, width),
            Instr::FpLoad { offset, width, .. } | Instr::FpStore { offset, width, .. } => (offset, width),
            other => {
                assert!(matches!(other, Instr::Ebreak | Instr::Other), "{half:#06x}: {other:?}");
                continue;
            }
        };
        assert!((0..512).contains(&offset), "{half:#06x}: offset {offset}");
        assert_eq!(offset as u64 % width.bytes(), 0, "{half:#06x}: offset {offset}");
        accesses += 1;
    }
    // Six through popular registers and six through sp fill 2,048 encodings each, less 2 * 64 loads into x0;
    // Zcb's bytes have 256 each and its halfwords 128.
    assert_eq!(accesses, 12 * 2048 - 2 * 64 + 2 * 256 + 3 * 128);
}

#[test]
fn nonzero_register_numbers_never_decide_what_an_instruction_is() {
    for opcode in MAJOR_OPCODES {
        // Whole-register vector accesses want a multiple of 8.
        for (one, other) in all_functs(opcode, 8, 1).zip(all_functs(opcode, 24, 30)) {
            let kinds = (discriminant(&decode(one)), discriminant(&decode(other)));
            assert_eq!(kinds.0, kinds.1, "{one:#010x} and {other:#010x}");
        }
    }
}
