//! Accesses that the shadow tables do not allow although the guest's do: to pages whose code is fetched from a copy, that are
//! guarded because their code was scanned, or that are watched because they hold page tables.

use isa::Instr;
use isa::instr::{Amo, decode};
use memory::{GuestPhysAddr, GuestVirtAddr, PAGE_SIZE};
use mmu::Access;

use crate::host::Host;
use crate::machine::Machine;
use crate::outcome::Outcome;
use crate::vcpu::Vcpu;
use crate::{code, fetch, mmio};

/// Serves an access to a page whose code is fetched from a copy, or that is guarded: a store ends that and is tried again,
/// a load is carried out on RAM. A store is carried out on both, where the copy would soon be made again.
pub(crate) fn access(
    machine: &Machine,
    vcpu: &mut Vcpu,
    faulted: GuestVirtAddr,
    page: GuestPhysAddr,
    access: Access,
    host: &mut impl Host,
) -> Outcome {
    let carries_out = access == Access::Load || code::carries_out(machine, vcpu, page);
    if carries_out
        && let Ok(bits) = fetch::instruction(vcpu, &machine.ram)
        && is_within_page(machine, vcpu, bits, page)
    {
        return mmio::access_by(machine, vcpu, bits, faulted, access, host);
    }
    code::make_way(machine, vcpu, page);
    Outcome::Resume
}

/// Whether the instruction at pc is a plain load or store whose bytes lie in one page, or, where stores to `page` are carried
/// out, an AMO: locks may lie beside code. Some harts, QEMU's among them, make it a load first. Others are rare enough for the
/// copy to go.
fn is_within_page(machine: &Machine, vcpu: &Vcpu, bits: u32, page: GuestPhysAddr) -> bool {
    match decode(bits) {
        Instr::Load { rs1, offset, width, .. }
        | Instr::FpLoad { rs1, offset, width, .. }
        | Instr::Store { rs1, offset, width, .. }
        | Instr::FpStore { rs1, offset, width, .. } => {
            vcpu.effective_address(rs1, offset) % PAGE_SIZE <= PAGE_SIZE - width.bytes()
        }
        Instr::Atomic { .. } if code::carries_out(machine, vcpu, page) => {
            Amo::decode(bits).is_some_and(|amo| vcpu.frame.get(amo.rs1).is_multiple_of(amo.width.bytes()))
        }
        _ => false,
    }
}
