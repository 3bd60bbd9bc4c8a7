//! Each kind of encoding, and the reserved ones beside it.

use super::*;

const A0: Reg = Reg::A0;
const A1: Reg = Reg::A1;

#[test]
fn only_a_low_pair_of_ones_makes_four_bytes() {
    assert_eq!(length(0x0073), 4);
    assert_eq!(length(0x9002), 2);
    assert_eq!(length(0x4501), 2);
    assert_eq!(length(0x0000), 2);
}

#[test]
fn a_csr_access_keeps_all_its_fields() {
    let csr = CsrAddr::SSTATUS;
    // csrrw a0, sstatus, a1
    let src = CsrSource::Reg(A1);
    assert_eq!(decode(0x1005_9573), Instr::Csr { op: CsrOp::Write, csr, rd: A0, src });
    // csrrsi a0, sstatus, 31
    let src = CsrSource::Imm(31);
    assert_eq!(decode(0x100f_e573), Instr::Csr { op: CsrOp::Set, csr, rd: A0, src });
    // csrrc zero, sstatus, zero
    let src = CsrSource::Reg(Reg::ZERO);
    assert_eq!(decode(0x1000_3073), Instr::Csr { op: CsrOp::Clear, csr, rd: Reg::ZERO, src });
}

#[test]
fn privileged_instructions_without_operands_are_known() {
    assert_eq!(decode(0x0000_0073), Instr::Ecall);
    assert_eq!(decode(0x0010_0073), Instr::Ebreak);
    assert_eq!(decode(0x1020_0073), Instr::Sret);
    assert_eq!(decode(0x3020_0073), Instr::Mret);
    assert_eq!(decode(0x7020_0073), Instr::Mret);
    assert_eq!(decode(0x1050_0073), Instr::Wfi);
    assert_eq!(decode(0x1800_0073), Instr::SfenceWInval);
    assert_eq!(decode(0x1810_0073), Instr::SfenceInvalIr);
}

#[test]
fn a_privileged_instruction_with_a_stray_register_is_other() {
    for instr in [0x0000_0073, 0x0010_0073, 0x1020_0073, 0x3020_0073, 0x7020_0073, 0x1050_0073] {
        assert_eq!(decode(instr | 1 << 7), Instr::Other, "{instr:#010x} with rd");
        assert_eq!(decode(instr | 1 << 15), Instr::Other, "{instr:#010x} with rs1");
    }
}

#[test]
fn fences_name_the_address_and_the_asid() {
    // sfence.vma a0, a1 and sinval.vma a0, a1
    assert_eq!(decode(0x12b5_0073), Instr::SfenceVma { rs1: A0, rs2: A1 });
    assert_eq!(decode(0x16b5_0073), Instr::SinvalVma { rs1: A0, rs2: A1 });
    // sfence.vma zero, zero
    assert_eq!(decode(0x1200_0073), Instr::SfenceVma { rs1: Reg::ZERO, rs2: Reg::ZERO });
}

#[test]
fn fences_with_a_destination_are_reserved() {
    for funct7 in [0x09, 0x0b, 0x11, 0x13, 0x31, 0x33] {
        assert_ne!(decode(funct7 << 25 | SYSTEM), Instr::Other, "funct7 {funct7:#x}");
        assert_eq!(decode(funct7 << 25 | 1 << 7 | SYSTEM), Instr::Other, "funct7 {funct7:#x}");
    }
}

#[test]
fn hypervisor_accesses_are_nine_loads_and_four_stores() {
    let known = |bits| decode(bits) == Instr::Hypervisor;
    let encodings = |rd: u32| {
        (0..1 << 12).map(move |high| high << 20 | 4 << 12 | rd << 7 | SYSTEM).filter(move |&b| known(b))
    };
    // HLV.B BU H HU W WU D and HLVX.HU WU write a register; HSV.* B H W D take any rs2.
    assert_eq!(encodings(1).count(), 9);
    assert_eq!(encodings(0).count(), 9 + 4 * 32);
    assert!(known(0x6c05_4073), "hlv.d zero, (a0)");
    assert!(!known(0x6c15_4073), "there is no hlv.du");
    assert!(!known(0x6035_4073), "there is no hlvx.bu");
}

#[test]
fn loads_know_width_and_sign() {
    let expected = [
        (Width::Byte, true),
        (Width::Half, true),
        (Width::Word, true),
        (Width::Double, true),
        (Width::Byte, false),
        (Width::Half, false),
        (Width::Word, false),
    ];
    for (funct3, (width, signed)) in expected.into_iter().enumerate() {
        // l* a1, -4(a0)
        let bits = 0xffc5_0583 | (funct3 as u32) << 12;
        assert_eq!(decode(bits), Instr::Load { rd: A1, rs1: A0, offset: -4, width, signed });
    }
    assert_eq!(decode(0xffc5_7583), Instr::Other);
}

#[test]
fn a_load_into_x0_is_still_a_load() {
    // lw zero, 0(a0)
    let expected = Instr::Load { rd: Reg::ZERO, rs1: A0, offset: 0, width: Width::Word, signed: true };
    assert_eq!(decode(0x0005_2003), expected);
}

#[test]
fn stores_join_the_two_halves_of_their_offset() {
    // sd a1, -2048(a0) and sb a1, 2047(a0)
    let store = |offset, width| Instr::Store { rs2: A1, rs1: A0, offset, width };
    assert_eq!(decode(0x80b5_3023), store(-2048, Width::Double));
    assert_eq!(decode(0x7eb5_0fa3), store(2047, Width::Byte));
    assert_eq!(decode(0x00b5_4023), Instr::Other);
}

#[test]
fn floating_point_accesses_are_of_half_word_and_double() {
    let (fa1, rs1) = (FReg::new(11), A0);
    for (funct3, width) in [(1, Width::Half), (2, Width::Word), (3, Width::Double)] {
        // fl* fa1, 8(a0) and fs* fa1, 8(a0)
        let (load, store) = (0x0085_0587 | funct3 << 12, 0x00b5_0427 | funct3 << 12);
        assert_eq!(decode(load), Instr::FpLoad { rd: fa1, rs1, offset: 8, width });
        assert_eq!(decode(store), Instr::FpStore { rs2: fa1, rs1, offset: 8, width });
    }
    assert_eq!(decode(0x0085_4587), Instr::Other, "flq");
    assert_eq!(decode(0x00b5_4427), Instr::Other, "fsq");
}

#[test]
fn vector_accesses_are_told_from_reserved_ones() {
    let accesses = [
        (0x0205_0007, "vle8.v v0, (a0)"),
        (0x0ab5_7027, "vsse64.v v0, (a0), a1"),
        (0xe6b5_5007, "vluxseg8ei16.v v0, (a0), v11"),
        (0x0305_6007, "vle32ff.v v0, (a0)"),
        (0x02b5_0007, "vlm.v v0, (a0)"),
        (0xe285_7007, "vl8re64.v v0, (a0)"),
        (0xe285_0027, "vs8r.v v0, (a0)"),
    ];
    for (bits, name) in accesses {
        assert_eq!(decode(bits), Instr::VectorMemory, "{name}");
    }
    let reserved = [
        (0x1205_0007, "mew set"),
        (0x0305_6027, "no fault-only-first store"),
        (0x02b5_6007, "a mask register in words"),
        (0xa285_0007, "six whole registers"),
        (0x2285_0087, "two whole registers from v1"),
        (0xe085_0007, "whole registers under a mask"),
        (0xe285_6027, "a whole-register store in words"),
        (0x0215_0007, "lumop 1"),
    ];
    for (bits, name) in reserved {
        assert_eq!(decode(bits), Instr::Other, "{name}");
    }
}

#[test]
fn atomics_fall_into_three_classes() {
    let atomic = |kind, width| Instr::Atomic { kind, rs1: A0, width };
    assert_eq!(decode(0x1005_252f), atomic(Atomic::LoadReserved, Width::Word), "lr.w");
    assert_eq!(decode(0x1605_352f), atomic(Atomic::LoadReserved, Width::Double), "lr.d.aqrl");
    assert_eq!(decode(0x18b5_252f), atomic(Atomic::StoreConditional, Width::Word), "sc.w");
    assert_eq!(decode(0xe0b5_352f), atomic(Atomic::Amo, Width::Double), "amomaxu.d");
    assert_eq!(decode(0x28b5_352f), atomic(Atomic::Amo, Width::Double), "amocas.d");
    assert_eq!(decode(0x00b5_052f), atomic(Atomic::Amo, Width::Byte), "amoadd.b");
}

#[test]
fn atomics_that_do_not_exist_are_other() {
    assert_eq!(decode(0x10b5_252f), Instr::Other, "lr.w with rs2");
    assert_eq!(decode(0x1005_152f), Instr::Other, "lr.h");
    assert_eq!(decode(0x18b5_052f), Instr::Other, "sc.b");
    assert_eq!(decode(0x28b5_452f), Instr::Other, "amocas.q");
    assert_eq!(decode(0x08b5_552f), Instr::Other, "funct3 5");
    assert_eq!(decode(0xf8b5_252f), Instr::Other, "funct5 31");
}

#[test]
fn cache_block_operations_have_no_destination() {
    let ops = [(0, CacheBlock::Inval), (1, CacheBlock::Clean), (2, CacheBlock::Flush), (4, CacheBlock::Zero)];
    for (number, op) in ops {
        let bits = number << 20 | 0x0005_200f;
        assert_eq!(decode(bits), Instr::CacheBlock { op, rs1: A0 });
        assert_eq!(decode(bits | 1 << 7), Instr::Other);
    }
    assert_eq!(decode(0x0035_200f), Instr::Other);
    assert_eq!(decode(0x0ff0_000f), Instr::Other, "fence");
    assert_eq!(decode(0x0000_100f), Instr::Other, "fence.i");
}
