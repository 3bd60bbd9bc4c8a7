//! Instruction encodings, for code made at run time. Registers are numbers, immediates signed 12-bit.

/// a0.
pub const A0: u32 = 10;
/// a1.
pub const A1: u32 = 11;
/// x0.
pub const ZERO: u32 = 0;
/// ra.
pub const RA: u32 = 1;

/// ECALL.
pub const ECALL: u32 = 0x0000_0073;
/// EBREAK.
pub const EBREAK: u32 = 0x0010_0073;
/// SRET.
pub const SRET: u32 = 0x1020_0073;
/// MRET.
pub const MRET: u32 = 0x3020_0073;
/// WFI.
pub const WFI: u32 = 0x1050_0073;
/// SFENCE.VMA x0, x0.
pub const SFENCE_VMA: u32 = 0x1200_0073;
/// FENCE.I.
pub const FENCE_I: u32 = 0x0000_100f;
/// ADDI x0, x0, 0.
pub const NOP: u32 = addi(ZERO, ZERO, 0);
/// JALR x0, 0(ra).
pub const RET: u32 = i_type(0x67, 0, ZERO, RA, 0);
/// C.NOP twice.
pub const TWO_C_NOPS: u32 = 0x0001_0001;
/// C.EBREAK and C.NOP.
pub const C_EBREAK_C_NOP: u32 = 0x0001_9002;

/// An I-type instruction.
pub const fn i_type(opcode: u32, funct3: u32, rd: u32, rs1: u32, imm: i32) -> u32 {
    (imm as u32) << 20 | rs1 << 15 | funct3 << 12 | rd << 7 | opcode
}

/// ADDI rd, rs1, imm.
pub const fn addi(rd: u32, rs1: u32, imm: i32) -> u32 {
    i_type(0x13, 0, rd, rs1, imm)
}

/// ADD rd, rs1, rs2.
pub const fn add(rd: u32, rs1: u32, rs2: u32) -> u32 {
    rs2 << 20 | rs1 << 15 | rd << 7 | 0x33
}

/// LD rd, imm(rs1).
pub const fn ld(rd: u32, rs1: u32, imm: i32) -> u32 {
    i_type(0x03, 3, rd, rs1, imm)
}

/// SD rs2, imm(rs1), for imm 0 to 31.
pub const fn sd(rs2: u32, rs1: u32, imm: u32) -> u32 {
    rs2 << 20 | rs1 << 15 | 3 << 12 | (imm & 31) << 7 | 0x23
}

/// CSRRW rd, csr, rs1.
pub const fn csrrw(rd: u32, csr: u32, rs1: u32) -> u32 {
    csr_op(1, rd, csr, rs1)
}

/// CSRRS rd, csr, rs1.
pub const fn csrrs(rd: u32, csr: u32, rs1: u32) -> u32 {
    csr_op(2, rd, csr, rs1)
}

/// CSRRC rd, csr, rs1.
pub const fn csrrc(rd: u32, csr: u32, rs1: u32) -> u32 {
    csr_op(3, rd, csr, rs1)
}

/// CSRRWI rd, csr, imm.
pub const fn csrrwi(rd: u32, csr: u32, imm: u32) -> u32 {
    csr_op(5, rd, csr, imm)
}

/// CSRRSI rd, csr, imm.
pub const fn csrrsi(rd: u32, csr: u32, imm: u32) -> u32 {
    csr_op(6, rd, csr, imm)
}

/// CSRRCI rd, csr, imm.
pub const fn csrrci(rd: u32, csr: u32, imm: u32) -> u32 {
    csr_op(7, rd, csr, imm)
}

const fn csr_op(funct3: u32, rd: u32, csr: u32, source: u32) -> u32 {
    csr << 20 | source << 15 | funct3 << 12 | rd << 7 | 0x73
}
