//! Carries out accesses that `known` has: those that were made before from the same place.

use isa::instr::length;
use memory::{GuestPhysAddr, GuestRam, PAGE_SIZE};
use mmu::Access;

use super::known::{Known, Place};
use super::plan::Plan;
use super::{load_beside_code, perform};
use crate::host::Host;
use crate::machine::Machine;
use crate::outcome::Outcome;
use crate::vcpu::Vcpu;

/// Carries out the access to a device at the vCPU's pc, if it is one that was made before.
#[inline]
pub(crate) fn again(
    machine: &Machine,
    vcpu: &mut Vcpu,
    access: Access,
    host: &mut impl Host,
) -> Option<Outcome> {
    let known = vcpu.caches.known.device(vcpu.frame.pc)?;
    let Again { plan, bits, address, target } = again_at(&machine.ram, vcpu, known, access)?;
    Some(perform(machine, vcpu, plan, bits, address, target, host))
}

/// The same for a load from a page whose code is fetched from a copy.
#[inline]
pub(crate) fn load_again(machine: &Machine, vcpu: &mut Vcpu, host: &mut impl Host) -> Option<Outcome> {
    if vcpu.caches.known.has_loads { known_load(machine, vcpu, host) } else { None }
}

#[cold]
#[inline(never)]
fn known_load(machine: &Machine, vcpu: &mut Vcpu, host: &mut impl Host) -> Option<Outcome> {
    let known = vcpu.caches.known.load(vcpu.frame.pc)?;
    let Again { plan, bits, target, .. } = again_at(&machine.ram, vcpu, known, Access::Load)?;
    load_beside_code(machine, vcpu, plan, bits, target, host)
}

/// A known access, made once more.
struct Again {
    plan: Plan,
    bits: u32,
    address: u64,
    /// What the address is mapped to.
    target: GuestPhysAddr,
}

/// The access at the vCPU's pc, if it is the known one.
#[inline(always)]
fn again_at(ram: &GuestRam, vcpu: &Vcpu, known: &Known, access: Access) -> Option<Again> {
    let plan = known.plan;
    if known.place != Place::of(&vcpu.frame, &vcpu.caches.shadow)
        || plan.access() != access
        || !still_there(ram, known)
    {
        return None;
    }
    let address = vcpu.effective_address(plan.rs1, plan.offset);
    let offset = address.wrapping_sub(known.page);
    if offset >= PAGE_SIZE || address & (plan.width.bytes() - 1) != 0 {
        return None;
    }
    Some(Again { plan, bits: known.bits, address, target: known.target.wrapping_add(offset) })
}

/// Whether RAM still holds the instruction.
#[inline(always)]
fn still_there(ram: &GuestRam, known: &Known) -> bool {
    let mask = if length(known.bits as u16) == 4 { u32::MAX } else { 0xffff };
    ram.read_parcels(known.code).is_some_and(|bits| (bits ^ known.bits) & mask == 0)
}
