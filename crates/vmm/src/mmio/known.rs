//! Accesses to devices, and loads from pages whose code is fetched from copies, that were made before from the same place:
//! drivers poll the same registers with the same instructions over and over, and kernels read the same constants.
//!
//! What translating and decoding have found is kept as a TLB would keep it, until the guest fences or a copy ends. The
//! instruction itself is compared each time, for a FENCE.I is not seen.

use isa::instr::length;
use memory::{GuestPhysAddr, GuestRam, PAGE_SIZE};
use mmu::Access;

use super::{Plan, load_beside_code, perform};
use crate::host::Host;
use crate::machine::Machine;
use crate::outcome::Outcome;
use crate::vcpu::Vcpu;

/// Places of the table.
const PLACES: usize = 64;

/// The accesses of a vCPU, by pc.
#[derive(Debug)]
pub(crate) struct KnownAccesses {
    devices: [Option<Known>; PLACES],
    /// Loads from RAM.
    loads: [Option<Known>; PLACES],
    has_loads: bool,
}

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
    /// The page of addresses, and the page of registers or of RAM that it maps.
    page: u64,
    target: GuestPhysAddr,
}

impl Default for KnownAccesses {
    fn default() -> Self {
        Self { devices: [None; PLACES], loads: [None; PLACES], has_loads: false }
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
/// `is_ram` says that it is a load from RAM.
pub(super) fn remember(
    vcpu: &mut Vcpu,
    is_ram: bool,
    code: GuestPhysAddr,
    bits: u32,
    plan: Plan,
    address: u64,
    target: GuestPhysAddr,
) {
    let page = address & !(PAGE_SIZE - 1);
    let known =
        Known { place: Place::of(vcpu), code, bits, plan, page, target: target.align_down(PAGE_SIZE) };
    vcpu.known.has_loads |= is_ram;
    let table = if is_ram { &mut vcpu.known.loads } else { &mut vcpu.known.devices };
    if let Some(place) = table.get_mut(index(vcpu.frame.pc)) {
        *place = Some(known);
    }
}

/// Carries out the access to a device at the vCPU's pc, if it is one that was made before.
#[inline]
pub(crate) fn again(
    machine: &mut Machine,
    vcpu: &mut Vcpu,
    access: Access,
    host: &mut impl Host,
) -> Option<Outcome> {
    let known = vcpu.known.devices.get(index(vcpu.frame.pc))?.as_ref()?;
    let Again { plan, bits, address, target } = again_at(&machine.ram, vcpu, known, access)?;
    Some(perform(machine, vcpu, plan, bits, address, target, host))
}

/// The same for a load from a page whose code is fetched from a copy.
#[inline]
pub(crate) fn load_again(machine: &mut Machine, vcpu: &mut Vcpu, host: &mut impl Host) -> Option<Outcome> {
    if vcpu.known.has_loads { known_load(machine, vcpu, host) } else { None }
}

#[cold]
#[inline(never)]
fn known_load(machine: &mut Machine, vcpu: &mut Vcpu, host: &mut impl Host) -> Option<Outcome> {
    let known = vcpu.known.loads.get(index(vcpu.frame.pc))?.as_ref()?;
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
    if known.place != Place::of(vcpu) || plan.access() != access || !still_there(ram, known) {
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
