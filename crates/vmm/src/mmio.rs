//! Loads and stores that the hardware cannot finish: finds out what the instruction wants and asks the board, or, for
//! accesses to a page whose code is rewritten, RAM.

use isa::csr::sstatus;
use isa::instr::{Amo, Atomic, decode, length};
use isa::{Exception, FReg, Instr, Width};
use memory::{GuestPhysAddr, GuestVirtAddr, PAGE_SIZE};
use mmu::{Access, translate};

use crate::code;
use crate::fetch;
use crate::host::Host;
use crate::machine::{Machine, Written};
use crate::outcome::Outcome;
use crate::vcpu::Vcpu;

mod again;
pub(crate) mod known;
mod plan;

pub(crate) use again::{again, load_again};
use known::{Known, Place};
use plan::{Plan, Transfer};

/// Carries out the load or store at the vCPU's pc, whose address is a device's.
///
/// The address comes from the decoded instruction: firmware may finish misaligned accesses itself, and stval then
/// lies in the middle.
pub(crate) fn access(
    machine: &Machine,
    vcpu: &mut Vcpu,
    faulted: GuestVirtAddr,
    access: Access,
    host: &mut impl Host,
) -> Outcome {
    match fetch::instruction(vcpu, &machine.ram) {
        Ok(bits) => access_by(machine, vcpu, bits, faulted, access, host),
        Err((exception, value)) => Outcome::Inject(exception, value),
    }
}

/// As `access`; the instruction at pc is `bits`.
pub(crate) fn access_by(
    machine: &Machine,
    vcpu: &mut Vcpu,
    bits: u32,
    faulted: GuestVirtAddr,
    access: Access,
    host: &mut impl Host,
) -> Outcome {
    let refused = Outcome::Inject(access.access_fault(), faulted.0);
    let float_off = vcpu.frame.csr.unit_states() & sstatus::FS == 0;
    let (rs1, offset, width, transfer) = match decode(bits) {
        Instr::FpLoad { .. } | Instr::FpStore { .. } if float_off => return changed(machine),
        Instr::Load { rd, rs1, offset, width, signed } => (rs1, offset, width, Transfer::Load { rd, signed }),
        Instr::FpLoad { rd, rs1, offset, width } => (rs1, offset, width, Transfer::FloatLoad { rd }),
        Instr::Store { rs2, rs1, offset, width } => (rs1, offset, width, Transfer::Store { rs2 }),
        Instr::FpStore { rs2, rs1, offset, width } => (rs1, offset, width, Transfer::FloatStore { rs2 }),
        // Devices do not take part in reservations and atomics.
        Instr::Atomic { kind: Atomic::LoadReserved, .. } => {
            return Outcome::Inject(Exception::LoadAccessFault, faulted.0);
        }
        Instr::Atomic { .. } => {
            return amo_beside_code(machine, vcpu, bits)
                .unwrap_or(Outcome::Inject(Exception::StoreAccessFault, faulted.0));
        }
        // Cache blocks and vectors, which devices do not take either, and what is not decoded.
        _ => return refused,
    };
    let plan = Plan { rs1, offset, width, transfer };
    if access != plan.access() {
        return changed(machine);
    }
    let address = vcpu.effective_address(rs1, offset);
    let context = vcpu.context();
    let target =
        match translate(&machine.ram, context.satp, GuestVirtAddr(address), access, context.view.rights()) {
            Ok(translation) => translation.address,
            Err(exception) => return Outcome::Inject(exception, address),
        };
    let is_beside_code = match access {
        Access::Store => code::carries_out(machine, vcpu, target),
        _ => machine.ram.overlay().copy_of(target).is_some(),
    };
    if machine.ram.contains(target, width.bytes()) && !is_beside_code {
        return changed(machine);
    }
    if address & (width.bytes() - 1) != 0 && !is_beside_code {
        return refused;
    }
    if is_beside_code && plan.access() == Access::Store {
        let value = match plan.transfer {
            Transfer::FloatStore { rs2 } => host.fp_read(rs2),
            Transfer::Store { rs2 } => vcpu.frame.get(rs2),
            Transfer::Load { .. } | Transfer::FloatLoad { .. } => return refused,
        };
        let bytes = value.to_le_bytes();
        code::store(machine, vcpu, target, bytes.get(..width.bytes() as usize).unwrap_or(&bytes));
        return Outcome::Advance(length(bits as u16));
    }
    if !plan.is_float()
        && let Ok(code) = fetch::locate(vcpu, &machine.ram, vcpu.frame.pc)
    {
        let place = Place::of(&vcpu.frame, &vcpu.caches.shadow);
        let (page, target) = (address & !(PAGE_SIZE - 1), target.align_down(PAGE_SIZE));
        vcpu.caches.known.remember(is_beside_code, Known { place, code, bits, plan, page, target });
    }
    if is_beside_code {
        return load_beside_code(machine, vcpu, plan, bits, target, host).unwrap_or(refused);
    }
    perform(machine, vcpu, plan, bits, address, target, host)
}

/// Carries out the load or store `bits` at `address`, which is mapped to `target`, a device's.
#[inline(always)]
fn perform(
    machine: &Machine,
    vcpu: &mut Vcpu,
    plan: Plan,
    bits: u32,
    address: u64,
    target: GuestPhysAddr,
    host: &mut impl Host,
) -> Outcome {
    let width = plan.width;
    let done = match plan.transfer {
        Transfer::Store { rs2 } => machine.write_device(target, width, vcpu.frame.get(rs2), host),
        Transfer::FloatStore { rs2 } => {
            let value = host.fp_read(rs2);
            machine.write_device(target, width, value, host)
        }
        Transfer::Load { rd, signed } => machine.read_device(target, width, host).map(|value| {
            vcpu.frame.set(rd, extended(value, width, signed));
            Written::Done
        }),
        Transfer::FloatLoad { rd } => machine.read_device(target, width, host).map(|value| {
            load_float(vcpu, rd, value, width, host);
            Written::Done
        }),
    };
    match done {
        Ok(Written::Done) => Outcome::Advance(length(bits as u16)),
        Ok(Written::Later) => Outcome::Resume,
        Ok(Written::Ends(reason)) => Outcome::Stop(reason),
        Err(devices::Refused) => Outcome::Inject(plan.access().access_fault(), address),
    }
}

/// Carries out the load `bits` at `target` in RAM, where the code of the page is fetched from a copy, which the guest must not
/// see. `None` where it is no load or not RAM.
#[cold]
#[inline(never)]
fn load_beside_code(
    machine: &Machine,
    vcpu: &mut Vcpu,
    plan: Plan,
    bits: u32,
    target: GuestPhysAddr,
    host: &mut impl Host,
) -> Option<Outcome> {
    let mut bytes = [0; 8];
    machine.ram.read(target, bytes.get_mut(..plan.width.bytes() as usize)?).ok()?;
    let value = u64::from_le_bytes(bytes);
    match plan.transfer {
        Transfer::Load { rd, signed } => vcpu.frame.set(rd, extended(value, plan.width, signed)),
        Transfer::FloatLoad { rd } => load_float(vcpu, rd, value, plan.width, host),
        Transfer::Store { .. } | Transfer::FloatStore { .. } => return None,
    }
    code::loaded(machine, vcpu, target);
    Some(Outcome::Advance(length(bits as u16)))
}

/// Carries out the AMO `bits` on RAM and the copy of the page that it concerns, where stores to that are carried out by hand.
/// Nobody else stores there meanwhile: no shadow lets them. `None` where it is not RAM, or not aligned.
#[cold]
#[inline(never)]
fn amo_beside_code(machine: &Machine, vcpu: &mut Vcpu, bits: u32) -> Option<Outcome> {
    let amo = Amo::decode(bits)?;
    let (address, len) = (vcpu.frame.get(amo.rs1), amo.width.bytes());
    if !address.is_multiple_of(len) {
        return None;
    }
    let context = vcpu.context();
    let found =
        translate(&machine.ram, context.satp, GuestVirtAddr(address), Access::Store, context.view.rights());
    let target = match found {
        Ok(translation) => translation.address,
        Err(exception) => return Some(Outcome::Inject(exception, address)),
    };
    if !machine.ram.contains(target, len) {
        return None;
    }
    if !code::carries_out(machine, vcpu, target) {
        return Some(changed(machine));
    }
    let mut old = [0; 8];
    machine.ram.read(target, old.get_mut(..len as usize)?).ok()?;
    let old = u64::from_le_bytes(old);
    let new = amo.stored(old, vcpu.frame.get(amo.rs2)).to_le_bytes();
    code::store(machine, vcpu, target, new.get(..len as usize)?);
    vcpu.frame.set(amo.rd, amo.loaded(old));
    Some(Outcome::Advance(length(bits as u16)))
}

/// Memory no longer holds the instruction that faulted. The hart, which may still have the old one in its
/// instruction cache, is to fetch it again.
fn changed(machine: &Machine) -> Outcome {
    machine.ram.note_code_write();
    Outcome::Resume
}

/// A loaded value as it comes to an integer register.
#[inline(always)]
const fn extended(value: u64, width: Width, signed: bool) -> u64 {
    let unused = 64 - 8 * width.bytes() as u32;
    let high = value << unused;
    if signed { (high as i64 >> unused) as u64 } else { high >> unused }
}

fn load_float(vcpu: &mut Vcpu, rd: FReg, value: u64, width: Width, host: &mut impl Host) {
    vcpu.frame.csr.mark_float_dirty();
    host.fp_write(rd, nan_boxed(value, width));
}

/// Unpriv. spec, "NaN Boxing of Narrower Values": the bits above a narrower value are ones.
const fn nan_boxed(value: u64, width: Width) -> u64 {
    match width {
        Width::Double => value,
        Width::Word => value | u64::MAX << 32,
        Width::Half | Width::Byte => value | u64::MAX << 16,
    }
}
