//! Privileged instructions, which the hardware refuses to a guest that runs in user mode.

use isa::csr::CsrAddr;
use isa::instr::{CsrOp, CsrSource, decode, length};
use isa::{Exception, Instr, Privilege, Reg, TrapInfo};
use memory::{GuestRam, GuestVirtAddr};
use trace::ExitKind;
use vhart::csr::{Counter, Illegal, Read};

use crate::code;
use crate::fetch;
use crate::host::Host;
use crate::machine::Machine;
use crate::outcome::Outcome;
use crate::pmu::{CYCLE, INSTRET};
use crate::vcpu::{RunState, Vcpu};

/// Handles an illegal-instruction exception, and lets a kernel's privileged instruction be rewritten, and what the firmware
/// prints a line for. Too many of those hold the vCPU back.
pub(crate) fn illegal_instruction(
    machine: &Machine,
    vcpu: &mut Vcpu,
    trap: TrapInfo,
    host: &impl Host,
) -> Outcome {
    let bits = match fetch::trapped(vcpu, &machine.ram, trap) {
        Ok(bits) => bits,
        Err((exception, value)) => return Outcome::Inject(exception, value),
    };
    let (pc, context, privilege) = (vcpu.frame.pc, vcpu.context(), vcpu.frame.privilege);
    let outcome = instruction(vcpu, &machine.ram, bits, host);
    let is_done = !matches!(outcome, Outcome::Inject(..));
    let is_reported = machine.ram.overlay().wants_scan() && rewrite::is_reported(bits);
    if is_reported || is_done && privilege == Privilege::Supervisor {
        code::trapped(machine, vcpu, context, pc, bits);
    }
    if is_reported && let Some(until) = machine.complaints.note(host.now(), is_done) {
        vcpu.state = RunState::Held(until);
    }
    outcome
}

/// Carries an instruction out where the guest's mode allows it, and else gives the guest an illegal-instruction
/// exception, with the instruction's bits in stval.
pub(crate) fn instruction(vcpu: &mut Vcpu, ram: &GuestRam, bits: u32, host: &impl Host) -> Outcome {
    match privileged(vcpu, ram, decode(bits), host) {
        Ok((kind, outcome)) => {
            vcpu.exits.count(kind);
            match kind {
                ExitKind::Satp | ExitKind::CsrWrite if !vcpu.caches.shadow.trusts_switches() => {
                    follow(vcpu, ram, bits, outcome)
                }
                ExitKind::Fence if vcpu.caches.fast.fences_twice && bits & RS1 == 0 => go_on(vcpu, ram, bits),
                _ => outcome,
            }
        }
        Err(Illegal) => {
            vcpu.exits.count(ExitKind::GuestException);
            Outcome::Inject(Exception::IllegalInstruction, u64::from(bits))
        }
    }
}

/// After a write of a CSR by a kernel to which a change of satp, SUM or MXR is a fence. Where the assembly has changed one of
/// them since the guest began to run, there was nothing to fence.
#[cold]
fn follow(vcpu: &mut Vcpu, ram: &GuestRam, bits: u32, outcome: Outcome) -> Outcome {
    let translation = vcpu.frame.csr.translation();
    let before = core::mem::replace(&mut vcpu.caches.fast.followed, translation);
    if translation.0 != before.0 {
        vcpu.caches.shadow.satp_changed(ram, vcpu.frame.csr.satp());
    } else if translation.1 != before.1 {
        vcpu.caches.shadow.rights_changed(ram);
    }
    vcpu.caches.fast.fences_twice = !vcpu.caches.shadow.trusts_switches() && vcpu.frame.csr.satp().asid == 0;
    if vcpu.caches.fast.fences_twice { go_on(vcpu, ram, bits) } else { outcome }
}

/// After the instruction `bits`, if that is a fence of all addresses or a write of satp: carries out what stands right behind
/// it, if that is the other, or the same again. Kernels fence before and after they write satp, and between two such
/// instructions nothing changes, so the tables are compared once.
#[cold]
fn go_on(vcpu: &mut Vcpu, ram: &GuestRam, bits: u32) -> Outcome {
    let mut done = LENGTH;
    if !is_fence_or_switch(decode(bits)) {
        return Outcome::Advance(done);
    }
    while done < LONGEST_RUN * LENGTH
        && let Ok(bits) = fetch::at(vcpu, ram, vcpu.frame.pc.wrapping_add(done))
        && let instr = decode(bits)
        && is_fence_or_switch(instr)
    {
        let kind = match instr {
            Instr::Csr { src: CsrSource::Reg(reg), .. } => {
                let value = vcpu.frame.get(reg);
                if vcpu.frame.csr.write(CsrAddr::SATP, value, vcpu.frame.privilege).is_err() {
                    break;
                }
                vcpu.caches.fast.followed = vcpu.frame.csr.translation();
                vcpu.caches.shadow.satp_changed(ram, vcpu.frame.csr.satp());
                ExitKind::Satp
            }
            Instr::SfenceVma { rs2, .. } => {
                let asid = (rs2 != Reg::ZERO).then(|| vcpu.frame.get(rs2) as u16);
                vcpu.caches.shadow.fence(ram, None, asid);
                ExitKind::Fence
            }
            _ => break,
        };
        vcpu.exits.count(kind);
        done = done.wrapping_add(LENGTH);
    }
    Outcome::Advance(done)
}

/// The field of a fence's bits that names its address: 0 for all.
const RS1: u32 = 0x1f << 15;

/// Instructions that are carried out in one go: a fence, a write of satp and a fence, and one more.
const LONGEST_RUN: u64 = 4;

const fn is_fence_or_switch(instr: Instr) -> bool {
    matches!(
        instr,
        Instr::SfenceVma { rs1: Reg::ZERO, .. }
            | Instr::Csr { op: CsrOp::Write, csr: CsrAddr::SATP, rd: Reg::ZERO, src: CsrSource::Reg(_) }
    )
}

/// All privileged instructions are four bytes long.
const LENGTH: u64 = length(3);

fn privileged(
    vcpu: &mut Vcpu,
    ram: &GuestRam,
    instr: Instr,
    host: &impl Host,
) -> Result<(ExitKind, Outcome), Illegal> {
    if let Instr::Csr { op, csr, rd, src } = instr {
        return Ok((access_csr(vcpu, op, csr, rd, src, host)?, Outcome::Advance(LENGTH)));
    }
    if vcpu.frame.privilege != Privilege::Supervisor {
        return Err(Illegal);
    }
    let svinval = vcpu.frame.csr.features().svinval;
    Ok(match instr {
        Instr::Sret => {
            vcpu.return_from_trap();
            (ExitKind::Sret, Outcome::Resume)
        }
        Instr::Wfi => (ExitKind::Wfi, Outcome::Wait),
        Instr::SfenceVma { rs1, rs2 } => (ExitKind::Fence, fence(vcpu, ram, rs1, rs2)),
        Instr::SinvalVma { rs1, rs2 } if svinval => (ExitKind::Fence, fence(vcpu, ram, rs1, rs2)),
        // SINVAL.VMA does all the work, so there is nothing left to order.
        Instr::SfenceWInval | Instr::SfenceInvalIr if svinval => (ExitKind::Fence, Outcome::Advance(LENGTH)),
        _ => return Err(Illegal),
    })
}

/// Zicsr: CSRRS and CSRRC with a zero source field do not write, CSRRW to x0 does not read.
fn access_csr(
    vcpu: &mut Vcpu,
    op: CsrOp,
    csr: CsrAddr,
    rd: Reg,
    src: CsrSource,
    host: &impl Host,
) -> Result<ExitKind, Illegal> {
    let (operand, is_zero_field) = match src {
        CsrSource::Reg(reg) => (vcpu.frame.get(reg), reg == Reg::ZERO),
        CsrSource::Imm(value) => (u64::from(value), value == 0),
    };
    let writes = op == CsrOp::Write || !is_zero_field;
    let reads = op != CsrOp::Write || rd != Reg::ZERO;
    let old = if reads { read_csr(vcpu, csr, host)? } else { 0 };
    if writes {
        let new = match op {
            CsrOp::Write => operand,
            CsrOp::Set => old | operand,
            CsrOp::Clear => old & !operand,
        };
        vcpu.frame.csr.write(csr, new, vcpu.frame.privilege)?;
    }
    vcpu.frame.set(rd, old);
    Ok(match (writes, csr) {
        (true, CsrAddr::SATP) => ExitKind::Satp,
        (true, _) => ExitKind::CsrWrite,
        (false, _) => ExitKind::CsrRead,
    })
}

fn read_csr(vcpu: &Vcpu, csr: CsrAddr, host: &impl Host) -> Result<u64, Illegal> {
    Ok(match vcpu.frame.csr.read(csr, vcpu.frame.privilege)? {
        Read::Value(value) => value,
        Read::Counter(counter) => read_counter(vcpu, counter, host),
    })
}

#[inline(never)]
fn read_counter(vcpu: &Vcpu, counter: Counter, host: &impl Host) -> u64 {
    let programmed = |counter| vcpu.pmu.value(counter, &vcpu.exits);
    match counter {
        Counter::Cycle => programmed(CYCLE).unwrap_or_else(|| host.cycle()),
        Counter::Time => host.now(),
        Counter::Instret => programmed(INSTRET).unwrap_or_else(|| host.instret()),
    }
}

/// SFENCE.VMA: all addresses for rs1 = x0, all address spaces for rs2 = x0; ASID bits beyond 16 are ignored.
fn fence(vcpu: &mut Vcpu, ram: &GuestRam, rs1: Reg, rs2: Reg) -> Outcome {
    let address = (rs1 != Reg::ZERO).then(|| GuestVirtAddr(vcpu.frame.get(rs1)));
    let asid = (rs2 != Reg::ZERO).then(|| vcpu.frame.get(rs2) as u16);
    let is_done = match (address, asid) {
        (Some(address), None) => vcpu.caches.shadow.fence_shared(ram, address),
        _ => false,
    };
    if !is_done {
        vcpu.caches.shadow.fence(ram, address, asid);
    }
    Outcome::Advance(LENGTH)
}
