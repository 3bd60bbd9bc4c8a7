//! From a line of objdump's to the `Instr` that it stands for.

use crate::tool::Line;
use isa::csr::CsrAddr;
use isa::instr::{Atomic, CacheBlock, CsrOp, CsrSource, Instr, Width};
use isa::reg::{FReg, Reg};

/// The instruction that `line` names. `bits` serve only for the number of a CSR, which objdump gives by name.
pub fn instr(bits: u32, line: &Line) -> Instr {
    let operands: Vec<&str> = line.operands.split(',').collect();
    let mnemonic = line.mnemonic.strip_prefix("c.").unwrap_or(&line.mnemonic);
    None.or_else(|| plain(mnemonic))
        .or_else(|| fence(mnemonic, &operands))
        .or_else(|| csr(bits, &line.mnemonic, &operands))
        .or_else(|| access(mnemonic.strip_suffix("sp").unwrap_or(mnemonic), &operands))
        .or_else(|| atomic(mnemonic, &operands))
        .or_else(|| cache_block(mnemonic, &operands))
        .or_else(|| is_vector_memory(mnemonic, &operands).then_some(Instr::VectorMemory))
        .unwrap_or(Instr::Other)
}

fn plain(mnemonic: &str) -> Option<Instr> {
    Some(match mnemonic {
        "ecall" => Instr::Ecall,
        "ebreak" => Instr::Ebreak,
        "sret" => Instr::Sret,
        "mret" | "mnret" => Instr::Mret,
        "wfi" => Instr::Wfi,
        "sfence.w.inval" => Instr::SfenceWInval,
        "sfence.inval.ir" => Instr::SfenceInvalIr,
        _ if ["hfence.", "hinval.", "hlv", "hsv."].iter().any(|prefix| mnemonic.starts_with(prefix)) => {
            Instr::Hypervisor
        }
        _ => return None,
    })
}

fn fence(mnemonic: &str, operands: &[&str]) -> Option<Instr> {
    let registers = || Some((reg(operands.first()?)?, reg(operands.get(1)?)?));
    match mnemonic {
        "sfence.vma" => registers().map(|(rs1, rs2)| Instr::SfenceVma { rs1, rs2 }),
        "sinval.vma" => registers().map(|(rs1, rs2)| Instr::SinvalVma { rs1, rs2 }),
        _ => None,
    }
}

fn csr(bits: u32, mnemonic: &str, operands: &[&str]) -> Option<Instr> {
    if mnemonic == "unimp" {
        // An alias in spite of "no-aliases"; C.UNIMP is another matter.
        let (csr, src) = (CsrAddr::CYCLE, CsrSource::Reg(Reg::ZERO));
        return Some(Instr::Csr { op: CsrOp::Write, csr, rd: Reg::ZERO, src });
    }
    let op = match mnemonic {
        "csrrw" | "csrrwi" => CsrOp::Write,
        "csrrs" | "csrrsi" => CsrOp::Set,
        "csrrc" | "csrrci" => CsrOp::Clear,
        _ => return None,
    };
    let [rd, csr, src] = operands else { return None };
    let src = match reg(src) {
        Some(reg) => CsrSource::Reg(reg),
        None => CsrSource::Imm(src.parse().ok()?),
    };
    let number = match csr.strip_prefix("0x") {
        Some(hex) => u32::from_str_radix(hex, 16).ok()?,
        None => csr.parse().unwrap_or(bits >> 20),
    };
    Some(Instr::Csr { op, csr: CsrAddr::new(number), rd: reg(rd)?, src })
}

fn access(mnemonic: &str, operands: &[&str]) -> Option<Instr> {
    let [value, place] = operands else { return None };
    let (offset, base) = place.split_once('(')?;
    let (offset, rs1) = (offset.parse().ok()?, reg(base.strip_suffix(')')?)?);
    if let Some(size) = mnemonic.strip_prefix("fl") {
        return Some(Instr::FpLoad { rd: freg(value)?, rs1, offset, width: width(size)? });
    }
    if let Some(size) = mnemonic.strip_prefix("fs") {
        return Some(Instr::FpStore { rs2: freg(value)?, rs1, offset, width: width(size)? });
    }
    if let Some(size) = mnemonic.strip_prefix('s') {
        return Some(Instr::Store { rs2: reg(value)?, rs1, offset, width: width(size)? });
    }
    let size = mnemonic.strip_prefix('l')?;
    let (size, signed) = size.strip_suffix('u').map_or((size, true), |size| (size, false));
    Some(Instr::Load { rd: reg(value)?, rs1, offset, width: width(size)?, signed })
}

fn atomic(mnemonic: &str, operands: &[&str]) -> Option<Instr> {
    let mut parts = mnemonic.split('.');
    let kind = match parts.next()? {
        "lr" => Atomic::LoadReserved,
        "sc" => Atomic::StoreConditional,
        amo if amo.starts_with("amo") => Atomic::Amo,
        _ => return None,
    };
    Some(Instr::Atomic { kind, rs1: address(operands.last()?)?, width: width(parts.next()?)? })
}

fn cache_block(mnemonic: &str, operands: &[&str]) -> Option<Instr> {
    let op = match mnemonic {
        "cbo.inval" => CacheBlock::Inval,
        "cbo.clean" => CacheBlock::Clean,
        "cbo.flush" => CacheBlock::Flush,
        "cbo.zero" => CacheBlock::Zero,
        _ => return None,
    };
    Some(Instr::CacheBlock { op, rs1: address(operands.first()?)? })
}

/// vle, vl1re, vlse, vluxei, vlseg, vlm, vsm and so on: no other vector instruction is named so.
fn is_vector_memory(mnemonic: &str, operands: &[&str]) -> bool {
    (mnemonic.starts_with("vl") || mnemonic.starts_with("vs"))
        && mnemonic.ends_with(".v")
        && is_aligned(mnemonic, operands)
}

/// Whether the registers of a whole-register access start at a multiple of their number, as they must: GNU's
/// objdump prints the others too.
fn is_aligned(mnemonic: &str, operands: &[&str]) -> bool {
    let count: Option<u32> = mnemonic.get(2..3).and_then(|digit| digit.parse().ok());
    let first: Option<u32> = operands.first().and_then(|name| name.strip_prefix('v')?.parse().ok());
    count.zip(first).is_none_or(|(count, first)| first % count == 0)
}

fn width(letter: &str) -> Option<Width> {
    Some(match letter {
        "b" => Width::Byte,
        "h" => Width::Half,
        "w" => Width::Word,
        "d" => Width::Double,
        _ => return None,
    })
}

fn reg(text: &str) -> Option<Reg> {
    text.strip_prefix('x')?.parse().ok().map(Reg::new)
}

fn freg(text: &str) -> Option<FReg> {
    text.strip_prefix('f')?.parse().ok().map(FReg::new)
}

/// `(x10)`, or `0(x10)` as some print it.
fn address(text: &str) -> Option<Reg> {
    reg(text.trim_start_matches('0').strip_prefix('(')?.strip_suffix(')')?)
}
