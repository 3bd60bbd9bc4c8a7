//! Reads the instruction at the guest's pc the way its hardware fetched it: with execute permission, and in two
//! halves, for it may cross a page and another hart may have changed it since.

use isa::instr::length;
use isa::{Exception, TrapInfo};
use memory::{GuestPhysAddr, GuestRam, GuestVirtAddr, PAGE_SIZE};
use mmu::{Access, translate};

use crate::vcpu::Vcpu;

/// An instruction that cannot be fetched: the guest's exception, and its stval.
pub(crate) type Fault = (Exception, u64);

/// The instruction at the vCPU's pc; a compressed one in the low 16 bits, the rest zero.
///
/// # Errors
/// The fault that the guest's hart takes when it fetches there.
pub(crate) fn instruction(vcpu: &Vcpu, ram: &GuestRam) -> Result<u32, Fault> {
    at(vcpu, ram, vcpu.frame.pc)
}

/// As `instruction`, at another pc, which is even.
///
/// # Errors
/// As for `instruction`.
pub(crate) fn at(vcpu: &Vcpu, ram: &GuestRam, pc: u64) -> Result<u32, Fault> {
    let first = locate(vcpu, ram, pc)?;
    let low = parcel(ram, first, pc)?;
    if length(low) == 2 {
        return Ok(u32::from(low));
    }
    let next = pc.wrapping_add(2);
    let second =
        if next.is_multiple_of(PAGE_SIZE) { locate(vcpu, ram, next)? } else { first.wrapping_add(2) };
    let high = parcel(ram, second, next)?;
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

/// Where the instruction parcel at `pc` lies.
pub(crate) fn locate(vcpu: &Vcpu, ram: &GuestRam, pc: u64) -> Result<GuestPhysAddr, Fault> {
    let context = vcpu.context();
    translate(ram, context.satp, GuestVirtAddr(pc), Access::Fetch, context.view.rights())
        .map(|found| found.address)
        .map_err(|exception| (exception, pc))
}

/// The parcel at `address`, which is even, so that it lies in one word.
fn parcel(ram: &GuestRam, address: GuestPhysAddr, pc: u64) -> Result<u16, Fault> {
    let bits = ram.read_word(address.align_down(8)).ok_or((Exception::InstructionAccessFault, pc))?;
    Ok((bits >> (8 * (address.0 & 6))) as u16)
}
