//! Reads the instruction at the guest's pc the way its hardware fetched it: with execute permission, and in two
//! halves, for it may cross a page and another hart may have changed it since.

use isa::instr::length;
use isa::{Exception, TrapInfo};
use memory::{GuestPhysAddr, GuestRam, GuestVirtAddr};
use mmu::{Access, translate};

use crate::vcpu::Vcpu;

/// An instruction that cannot be fetched: the guest's exception, and its stval.
pub(crate) type Fault = (Exception, u64);

/// The instruction at the vCPU's pc; a compressed one in the low 16 bits, the rest zero.
///
/// # Errors
/// The fault that the guest's hart takes when it fetches there.
pub(crate) fn instruction(vcpu: &Vcpu, ram: &GuestRam) -> Result<u32, Fault> {
    let pc = vcpu.frame.pc;
    let low = parcel(vcpu, ram, pc)?;
    if length(low) == 2 {
        return Ok(u32::from(low));
    }
    let high = parcel(vcpu, ram, pc.wrapping_add(2))?;
    Ok(u32::from(high) << 16 | u32::from(low))
}

/// The instruction that raised `trap`, an illegal-instruction exception: the hardware's own copy in stval where it
/// gives one.
///
/// # Errors
/// As for `instruction`.
pub(crate) fn trapped(vcpu: &Vcpu, ram: &GuestRam, trap: TrapInfo) -> Result<u32, Fault> {
    match trap.value as u32 {
        0 => instruction(vcpu, ram),
        bits if length(bits as u16) == 2 => Ok(bits & 0xffff),
        bits => Ok(bits),
    }
}

fn parcel(vcpu: &Vcpu, ram: &GuestRam, pc: u64) -> Result<u16, Fault> {
    let context = vcpu.context();
    let address = GuestVirtAddr(pc);
    let found = translate(ram, context.satp, address, Access::Fetch, context.view.rights())
        .map_err(|exception| (exception, pc))?;
    // pc is even, so the parcel lies in one word.
    let word: GuestPhysAddr = found.address.align_down(8);
    let bits = ram.read_word(word).ok_or((Exception::InstructionAccessFault, pc))?;
    Ok((bits >> (8 * (found.address.0 & 6))) as u16)
}
