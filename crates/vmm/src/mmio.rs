//! Loads and stores that the hardware cannot finish: finds out what the instruction wants and asks the board, or, for
//! loads from a page whose code is rewritten, RAM.

use isa::csr::sstatus;
use isa::instr::{Atomic, decode, length};
use isa::{Exception, FReg, Instr, Reg, Width};
use memory::{GuestPhysAddr, GuestVirtAddr};
use mmu::{Access, translate};

use crate::fetch;
use crate::host::Host;
use crate::machine::{Machine, Written};
use crate::outcome::Outcome;
use crate::vcpu::Vcpu;

enum Transfer {
    Load { rd: Reg, signed: bool },
    FloatLoad { rd: FReg },
    Store { value: u64 },
}

/// Carries out the load or store at the vCPU's pc, whose address is a device's, or the load from a copied page.
///
/// The address comes from the decoded instruction: firmware may finish misaligned accesses itself, and stval then
/// lies in the middle.
pub(crate) fn access(
    machine: &mut Machine,
    vcpu: &mut Vcpu,
    faulted: GuestVirtAddr,
    access: Access,
    host: &mut impl Host,
) -> Outcome {
    let refused = Outcome::Inject(access.access_fault(), faulted.0);
    let bits = match fetch::instruction(vcpu, &machine.ram) {
        Ok(bits) => bits,
        Err((exception, value)) => return Outcome::Inject(exception, value),
    };
    let float_off = vcpu.frame.csr.unit_states() & sstatus::FS == 0;
    let (rs1, offset, width, transfer) = match decode(bits) {
        Instr::FpLoad { .. } | Instr::FpStore { .. } if float_off => return changed(machine),
        Instr::Load { rd, rs1, offset, width, signed } => (rs1, offset, width, Transfer::Load { rd, signed }),
        Instr::FpLoad { rd, rs1, offset, width } => (rs1, offset, width, Transfer::FloatLoad { rd }),
        Instr::Store { rs2, rs1, offset, width } => {
            (rs1, offset, width, Transfer::Store { value: vcpu.frame.get(rs2) })
        }
        Instr::FpStore { rs2, rs1, offset, width } => {
            (rs1, offset, width, Transfer::Store { value: host.fp_read(rs2) })
        }
        // Devices do not take part in reservations and atomics.
        Instr::Atomic { kind: Atomic::LoadReserved, .. } => {
            return Outcome::Inject(Exception::LoadAccessFault, faulted.0);
        }
        Instr::Atomic { .. } => return Outcome::Inject(Exception::StoreAccessFault, faulted.0),
        // Cache blocks and vectors, which devices do not take either, and what is not decoded.
        _ => return refused,
    };
    let wanted = match transfer {
        Transfer::Store { .. } => Access::Store,
        Transfer::Load { .. } | Transfer::FloatLoad { .. } => Access::Load,
    };
    if access != wanted {
        return changed(machine);
    }
    let address = vcpu.effective_address(rs1, offset);
    let context = vcpu.context();
    let target =
        match translate(&machine.ram, context.satp, GuestVirtAddr(address), access, context.view.rights()) {
            Ok(translation) => translation.address,
            Err(exception) => return Outcome::Inject(exception, address),
        };
    let is_copied = machine.ram.overlay().copy_of(target).is_some() && access == Access::Load;
    if machine.ram.contains(target, width.bytes()) && !is_copied {
        return changed(machine);
    }
    if address & (width.bytes() - 1) != 0 && !is_copied {
        return refused;
    }
    let done = match transfer {
        Transfer::Store { value } => machine.write_device(target, width, value, host),
        Transfer::Load { rd, signed } => load(machine, target, width, signed, host).map(|value| {
            vcpu.frame.set(rd, value);
            Written::Done
        }),
        Transfer::FloatLoad { rd } => load(machine, target, width, false, host).map(|value| {
            vcpu.frame.csr.mark_float_dirty();
            host.fp_write(rd, nan_boxed(value, width));
            Written::Done
        }),
    };
    match done {
        Ok(Written::Done) => Outcome::Advance(length(bits as u16)),
        Ok(Written::Later) => Outcome::Resume,
        Ok(Written::Ends(reason)) => Outcome::Stop(reason),
        Err(devices::Refused) => Outcome::Inject(access.access_fault(), address),
    }
}

/// Memory no longer holds the instruction that faulted. The hart, which may still have the old one in its
/// instruction cache, is to fetch it again.
fn changed(machine: &Machine) -> Outcome {
    machine.ram.note_code_write();
    Outcome::Resume
}

fn load(
    machine: &mut Machine,
    address: GuestPhysAddr,
    width: Width,
    signed: bool,
    host: &mut impl Host,
) -> Result<u64, devices::Refused> {
    let value = if machine.ram.contains(address, width.bytes()) {
        let mut bytes = [0; 8];
        let (read, _) = bytes.split_at_mut_checked(width.bytes() as usize).ok_or(devices::Refused)?;
        machine.ram.read(address, read).map_err(|_| devices::Refused)?;
        u64::from_le_bytes(bytes)
    } else {
        machine.read_device(address, width, host)?
    };
    Ok(match (width, signed) {
        (Width::Byte, false) => u64::from(value as u8),
        (Width::Half, false) => u64::from(value as u16),
        (Width::Word, false) => u64::from(value as u32),
        (Width::Byte, true) => value as i8 as u64,
        (Width::Half, true) => value as i16 as u64,
        (Width::Word, true) => value as i32 as u64,
        (Width::Double, _) => value,
    })
}

/// Unpriv. spec, "NaN Boxing of Narrower Values": the bits above a narrower value are ones.
const fn nan_boxed(value: u64, width: Width) -> u64 {
    match width {
        Width::Double => value,
        Width::Word => value | u64::MAX << 32,
        Width::Half | Width::Byte => value | u64::MAX << 16,
    }
}
