//! Encodings of the instructions that tests execute. Registers are given by number.

pub const ECALL: u32 = 0x0000_0073;
pub const EBREAK: u32 = 0x0010_0073;
pub const SRET: u32 = 0x1020_0073;
pub const WFI: u32 = 0x1050_0073;
pub const MRET: u32 = 0x3020_0073;
pub const SFENCE_W_INVAL: u32 = 0x1800_0073;
pub const SFENCE_INVAL_IR: u32 = 0x1810_0073;
/// The canonical illegal instruction.
pub const UNIMP: u32 = 0xc000_1073;

/// funct3 of the six Zicsr instructions: rw, rs, rc, rwi, rsi, rci.
pub const CSR_FORMS: [u32; 6] = [1, 2, 3, 5, 6, 7];

const fn i_type(opcode: u32, funct3: u32, rd: u32, rs1: u32, imm: i32) -> u32 {
    (imm as u32) << 20 | rs1 << 15 | funct3 << 12 | rd << 7 | opcode
}

const fn s_type(opcode: u32, funct3: u32, rs2: u32, rs1: u32, imm: i32) -> u32 {
    let imm = imm as u32;
    (imm >> 5 & 0x7f) << 25 | rs2 << 20 | rs1 << 15 | funct3 << 12 | (imm & 31) << 7 | opcode
}

const fn r_type(opcode: u32, funct7: u32, funct3: u32, rd: u32, rs1: u32, rs2: u32) -> u32 {
    funct7 << 25 | rs2 << 20 | rs1 << 15 | funct3 << 12 | rd << 7 | opcode
}

/// One of `CSR_FORMS`; `source` is rs1 or the immediate.
pub const fn csr(form: u32, rd: u32, csr: u16, source: u32) -> u32 {
    i_type(0x73, form, rd, source, csr as i32)
}

/// CSRRW.
pub const fn csrrw(rd: u32, address: u16, rs1: u32) -> u32 {
    csr(1, rd, address, rs1)
}

/// CSRRS.
pub const fn csrrs(rd: u32, address: u16, rs1: u32) -> u32 {
    csr(2, rd, address, rs1)
}

/// LB, LH, LW, LD, LBU, LHU, LWU, by funct3.
pub const fn load(funct3: u32, rd: u32, rs1: u32, offset: i32) -> u32 {
    i_type(0x03, funct3, rd, rs1, offset)
}

/// SB, SH, SW, SD, by funct3.
pub const fn store(funct3: u32, rs2: u32, rs1: u32, offset: i32) -> u32 {
    s_type(0x23, funct3, rs2, rs1, offset)
}

/// FLH, FLW, FLD, by funct3 (1 to 3).
pub const fn float_load(funct3: u32, rd: u32, rs1: u32, offset: i32) -> u32 {
    i_type(0x07, funct3, rd, rs1, offset)
}

/// FSH, FSW, FSD, by funct3 (1 to 3).
pub const fn float_store(funct3: u32, rs2: u32, rs1: u32, offset: i32) -> u32 {
    s_type(0x27, funct3, rs2, rs1, offset)
}

/// LR.W into rd.
pub const fn lr_w(rd: u32, rs1: u32) -> u32 {
    r_type(0x2f, 0b00010 << 2, 2, rd, rs1, 0)
}

/// SC.W.
pub const fn sc_w(rd: u32, rs1: u32, rs2: u32) -> u32 {
    r_type(0x2f, 0b00011 << 2, 2, rd, rs1, rs2)
}

/// AMOADD.W.
pub const fn amoadd_w(rd: u32, rs1: u32, rs2: u32) -> u32 {
    r_type(0x2f, 0, 2, rd, rs1, rs2)
}

/// CBO.ZERO.
pub const fn cbo_zero(rs1: u32) -> u32 {
    i_type(0x0f, 2, 0, rs1, 4)
}

/// SFENCE.VMA.
pub const fn sfence_vma(rs1: u32, rs2: u32) -> u32 {
    r_type(0x73, 9, 0, 0, rs1, rs2)
}

/// SINVAL.VMA.
pub const fn sinval_vma(rs1: u32, rs2: u32) -> u32 {
    r_type(0x73, 11, 0, 0, rs1, rs2)
}
