//! From bits to `Instr`: the 32-bit encodings, one function a major opcode. `compressed` has the 16-bit
//! ones.
//!
//! An encoding that the specification reserves is `Other` here, never a near neighbour: what the hardware
//! refused must not come to life in the emulator. Unpriv. spec, "RV32/64G Instruction Set Listings"; priv.
//! spec, "RISC-V Privileged Instruction Set Listings".

use super::{Atomic, CacheBlock, CsrOp, CsrSource, Instr, Width, compressed};
use crate::csr::CsrAddr;
use crate::reg::{FReg, Reg};

// Major opcodes: bits 6:0.
const LOAD: u32 = 0x03;
const LOAD_FP: u32 = 0x07;
const MISC_MEM: u32 = 0x0f;
const STORE: u32 = 0x23;
const STORE_FP: u32 = 0x27;
const AMO: u32 = 0x2f;
const SYSTEM: u32 = 0x73;

/// Bytes in the instruction whose first 16 bits these are: 2 or 4. The prefixes of longer encodings, which
/// no hart defines, count as 4.
pub const fn length(low: u16) -> u64 {
    if low & 3 == 3 { 4 } else { 2 }
}

/// Decodes an instruction. For a compressed one only the low 16 bits count.
pub const fn decode(bits: u32) -> Instr {
    // CSR accesses are by far the most frequent traps, so they are asked for first.
    if bits & 0x7f == SYSTEM {
        return system(bits);
    }
    if bits & 3 != 3 {
        return compressed::decode(bits as u16);
    }
    match bits & 0x7f {
        LOAD => load(bits),
        STORE => store(bits),
        LOAD_FP => fp_load(bits),
        STORE_FP => fp_store(bits),
        AMO => atomic(bits),
        MISC_MEM => cache_block(bits),
        _ => Instr::Other,
    }
}

const fn rd(bits: u32) -> Reg {
    Reg::new(bits >> 7)
}

const fn rs1(bits: u32) -> Reg {
    Reg::new(bits >> 15)
}

const fn rs2(bits: u32) -> Reg {
    Reg::new(bits >> 20)
}

/// Whether the rd field is 0, as all that write no register must have it.
const fn no_rd(bits: u32) -> bool {
    bits >> 7 & 31 == 0
}

const fn funct3(bits: u32) -> u32 {
    bits >> 12 & 7
}

const fn funct7(bits: u32) -> u32 {
    bits >> 25
}

/// The immediate of the I format: bits 31:20, sign-extended.
const fn imm_i(bits: u32) -> i32 {
    bits as i32 >> 20
}

/// The immediate of the S format: bits 31:25 and 11:7, sign-extended.
const fn imm_s(bits: u32) -> i32 {
    bits as i32 >> 25 << 5 | (bits >> 7 & 31) as i32
}

/// The width whose base-two logarithm is in the low two bits of `log2`.
const fn width(log2: u32) -> Width {
    match log2 & 3 {
        0 => Width::Byte,
        1 => Width::Half,
        2 => Width::Word,
        _ => Width::Double,
    }
}

const fn system(bits: u32) -> Instr {
    let funct3 = funct3(bits);
    let op = match funct3 & 3 {
        1 => CsrOp::Write,
        2 => CsrOp::Set,
        3 => CsrOp::Clear,
        _ if funct3 == 0 => return privileged(bits),
        _ => return hypervisor_access(bits),
    };
    let src =
        if funct3 & 4 == 0 { CsrSource::Reg(rs1(bits)) } else { CsrSource::Imm((bits >> 15 & 31) as u8) };
    Instr::Csr { op, csr: CsrAddr::new(bits >> 20), rd: rd(bits), src }
}

const fn privileged(bits: u32) -> Instr {
    match bits {
        0x0000_0073 => return Instr::Ecall,
        0x0010_0073 => return Instr::Ebreak,
        0x1020_0073 => return Instr::Sret,
        0x1050_0073 => return Instr::Wfi,
        0x1800_0073 => return Instr::SfenceWInval,
        0x1810_0073 => return Instr::SfenceInvalIr,
        0x3020_0073 | 0x7020_0073 => return Instr::Mret,
        _ => {}
    }
    if !no_rd(bits) {
        return Instr::Other;
    }
    match funct7(bits) {
        0x09 => Instr::SfenceVma { rs1: rs1(bits), rs2: rs2(bits) },
        0x0b => Instr::SinvalVma { rs1: rs1(bits), rs2: rs2(bits) },
        // HFENCE.VVMA, HINVAL.VVMA, HFENCE.GVMA, HINVAL.GVMA.
        0x11 | 0x13 | 0x31 | 0x33 => Instr::Hypervisor,
        _ => Instr::Other,
    }
}

/// HLV, HLVX and HSV: funct7 is 0110, the width, and 1 for a store.
const fn hypervisor_access(bits: u32) -> Instr {
    let funct7 = funct7(bits);
    let width = width(funct7 >> 1);
    let is_store = funct7 & 1 == 1;
    let defined = funct7 >> 3 == 0b0110
        && if is_store {
            no_rd(bits)
        } else {
            match rs2(bits).index() {
                0 => true,
                1 => !matches!(width, Width::Double),            // HLV.*U
                3 => matches!(width, Width::Half | Width::Word), // HLVX.*
                _ => false,
            }
        };
    if defined { Instr::Hypervisor } else { Instr::Other }
}

const fn load(bits: u32) -> Instr {
    let funct3 = funct3(bits);
    if funct3 == 7 {
        return Instr::Other; // Would be LDU, of RV128.
    }
    Instr::Load {
        rd: rd(bits),
        rs1: rs1(bits),
        offset: imm_i(bits),
        width: width(funct3),
        signed: funct3 & 4 == 0,
    }
}

const fn store(bits: u32) -> Instr {
    let funct3 = funct3(bits);
    if funct3 > 3 {
        return Instr::Other;
    }
    Instr::Store { rs2: rs2(bits), rs1: rs1(bits), offset: imm_s(bits), width: width(funct3) }
}

const fn fp_load(bits: u32) -> Instr {
    match funct3(bits) {
        funct3 @ 1..=3 => Instr::FpLoad {
            rd: FReg::new(bits >> 7),
            rs1: rs1(bits),
            offset: imm_i(bits),
            width: width(funct3),
        },
        0 | 5..=7 if is_vector_memory(bits) => Instr::VectorMemory,
        _ => Instr::Other,
    }
}

const fn fp_store(bits: u32) -> Instr {
    match funct3(bits) {
        funct3 @ 1..=3 => Instr::FpStore {
            rs2: FReg::new(bits >> 20),
            rs1: rs1(bits),
            offset: imm_s(bits),
            width: width(funct3),
        },
        0 | 5..=7 if is_vector_memory(bits) => Instr::VectorMemory,
        _ => Instr::Other,
    }
}

/// Whether a vector load or store is defined, given that its width field is a vector's. What depends on
/// vtype or on registers that overlap is not looked at. Unpriv. spec, "Vector Loads and Stores".
const fn is_vector_memory(bits: u32) -> bool {
    let is_store = bits & 0x7f == STORE_FP;
    let is_byte = funct3(bits) == 0;
    let unmasked = bits >> 25 & 1 == 1;
    let mop = bits >> 26 & 3;
    let mew = bits >> 28 & 1;
    let fields = (bits >> 29) + 1;
    let register = bits >> 7 & 31;
    if mew != 0 {
        return false;
    }
    if mop != 0 {
        return true; // Strided or indexed.
    }
    match bits >> 20 & 31 {
        0b00000 => true,
        // Whole registers: an aligned group of 1, 2, 4 or 8. Only loads hint at the element's width.
        0b01000 => {
            let is_group = fields.is_power_of_two() && register.is_multiple_of(fields);
            is_group && unmasked && (is_byte || !is_store)
        }
        // A mask register.
        0b01011 => unmasked && fields == 1 && is_byte,
        // Fault-only-first.
        0b10000 => !is_store,
        _ => false,
    }
}

const fn atomic(bits: u32) -> Instr {
    let funct3 = funct3(bits);
    if funct3 > 3 {
        return Instr::Other;
    }
    let width = width(funct3);
    let is_narrow = matches!(width, Width::Byte | Width::Half);
    let kind = match bits >> 27 {
        0b00010 if !is_narrow && rs2(bits).index() == 0 => Atomic::LoadReserved,
        0b00011 if !is_narrow => Atomic::StoreConditional,
        // AMOADD, AMOSWAP, AMOXOR, AMOCAS, AMOOR, AMOAND.
        0b00000 | 0b00001 | 0b00100 | 0b00101 | 0b01000 | 0b01100 => Atomic::Amo,
        // AMOMIN, AMOMAX, AMOMINU, AMOMAXU.
        0b10000 | 0b10100 | 0b11000 | 0b11100 => Atomic::Amo,
        _ => return Instr::Other,
    };
    Instr::Atomic { kind, rs1: rs1(bits), width }
}

/// CBO.*; the fences that share the major opcode touch no memory of their own.
const fn cache_block(bits: u32) -> Instr {
    if funct3(bits) != 2 || !no_rd(bits) {
        return Instr::Other;
    }
    let op = match bits >> 20 {
        0 => CacheBlock::Inval,
        1 => CacheBlock::Clean,
        2 => CacheBlock::Flush,
        4 => CacheBlock::Zero,
        _ => return Instr::Other,
    };
    Instr::CacheBlock { op, rs1: rs1(bits) }
}

#[cfg(test)]
mod tests;
