//! Accesses to devices that were made before from the same place: drivers poll the same registers with the same
//! instructions over and over.
//!
//! What translating and decoding have found is kept as a TLB would keep it, until the guest fences. The instruction itself
//! is compared each time, for a FENCE.I is not seen.

use isa::instr::length;
use memory::{GuestPhysAddr, GuestRam, PAGE_SIZE};
use mmu::Access;

use super::{Plan, perform};
use crate::host::Host;
use crate::machine::Machine;
use crate::outcome::Outcome;
use crate::vcpu::Vcpu;

/// Places of the table.
const PLACES: usize = 64;

/// The accesses of a vCPU, by pc.
#[derive(Debug)]
pub(crate) struct KnownAccesses([Option<Known>; PLACES]);

/// What has to be the same for an access to be the same.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Place {
    pc: u64,
    satp: u64,
    /// The vCPU's privilege, SUM and MXR, and above them how many fences there were before.
    rights: u64,
}

#[derive(Clone, Copy, Debug)]
struct Known {
    place: Place,
    /// Where the instruction is, and what it is. One that crosses a page is not found again.
    code: GuestPhysAddr,
    bits: u32,
    plan: Plan,
    /// The page of addresses, and the page of registers that it maps.
    page: u64,
    device: GuestPhysAddr,
}

impl Default for KnownAccesses {
    fn default() -> Self {
        Self([None; PLACES])
    }
}

const fn index(pc: u64) -> usize {
    // Drivers' loops are near each other, their functions at round distances.
    (pc >> 1 ^ pc >> 7) as usize % PLACES
}

impl Place {
    #[inline]
    fn of(vcpu: &Vcpu) -> Self {
        let csr = &vcpu.frame.csr;
        let rights = vcpu.frame.privilege as u64 | csr.sum_and_mxr();
        // Settled tables do not say what devices are mapped to, so all fences count.
        let fences = vcpu.shadow.fences().wrapping_add(vcpu.frame.fast_fences);
        Self { pc: vcpu.frame.pc, satp: csr.satp_bits(), rights: fences << 20 | rights }
    }
}

/// Remembers the access that the instruction `bits`, at `code` in RAM, has made to `target` by way of `address`.
pub(super) fn remember(
    vcpu: &mut Vcpu,
    code: GuestPhysAddr,
    bits: u32,
    plan: Plan,
    address: u64,
    target: GuestPhysAddr,
) {
    let page = address & !(PAGE_SIZE - 1);
    let known =
        Known { place: Place::of(vcpu), code, bits, plan, page, device: target.align_down(PAGE_SIZE) };
    if let Some(place) = vcpu.known.0.get_mut(index(vcpu.frame.pc)) {
        *place = Some(known);
    }
}

/// Carries out the access at the vCPU's pc, if it is one that was made before.
#[inline]
pub(crate) fn again(
    machine: &mut Machine,
    vcpu: &mut Vcpu,
    access: Access,
    host: &mut impl Host,
) -> Option<Outcome> {
    let known = vcpu.known.0.get(index(vcpu.frame.pc))?.as_ref()?;
    let plan = known.plan;
    if known.place != Place::of(vcpu) || plan.access() != access || !still_there(&machine.ram, known) {
        return None;
    }
    let address = vcpu.effective_address(plan.rs1, plan.offset);
    let offset = address.wrapping_sub(known.page);
    if offset >= PAGE_SIZE || address & (plan.width.bytes() - 1) != 0 {
        return None;
    }
    let (target, bits) = (known.device.wrapping_add(offset), known.bits);
    Some(perform(machine, vcpu, plan, bits, address, target, host))
}

/// Whether RAM still holds the instruction.
#[inline(always)]
fn still_there(ram: &GuestRam, known: &Known) -> bool {
    let mask = if length(known.bits as u16) == 4 { u32::MAX } else { 0xffff };
    ram.read_parcels(known.code).is_some_and(|bits| (bits ^ known.bits) & mask == 0)
}
