//! RFENCE extension. SBI spec, "RFENCE Extension".
//!
//! A fence is done when the call returns: the caller's own at once, and a hart that is not running takes its fence
//! from its letter box before it runs.

use memory::{GuestVirtAddr, PAGE_SIZE};

use super::call::{SbiCall, SbiError, SbiResult};
use super::masks::{bits, select_harts};
use crate::machine::Machine;
use crate::pmu::FirmwareEvent;
use crate::vcpu::Vcpu;

/// Above this many pages a fence of everything is cheaper.
const MAX_PAGES: u64 = 64;

pub(super) fn call<H>(call: SbiCall, machine: &Machine, vcpu: &mut Vcpu, _: &mut H) -> SbiResult {
    let [mask, base, start, size, asid, _] = call.args;
    match call.function {
        0 => fence_i(machine, vcpu, mask, base),
        1 => fence(machine, vcpu, mask, base, start, size, None),
        2 => fence(machine, vcpu, mask, base, start, size, Some(asid as u16)),
        // HFENCE: there is no hypervisor extension to fence.
        _ => Err(SbiError::NotSupported),
    }
}

/// FENCE.I on the selected harts: each hart does one before it runs what others wrote.
pub(super) fn fence_i(machine: &Machine, vcpu: &mut Vcpu, mask: u64, base: u64) -> SbiResult {
    select_harts(machine, mask, base)?;
    vcpu.pmu.count(FirmwareEvent::FenceISent);
    machine.ram.note_code_write();
    Ok(0)
}

/// SFENCE.VMA on the selected harts, for `size` bytes from `start`; everything where both are 0 or `size` is -1.
pub(super) fn fence(
    machine: &Machine,
    vcpu: &mut Vcpu,
    mask: u64,
    base: u64,
    start: u64,
    size: u64,
    asid: Option<u16>,
) -> SbiResult {
    let selected = select_harts(machine, mask, base)?;
    vcpu.pmu.count(if asid.is_some() { FirmwareEvent::SfenceAsidSent } else { FirmwareEvent::SfenceSent });
    for hart in bits(selected) {
        if hart == vcpu.id {
            fence_here(machine, vcpu, start, size, asid);
        } else if let Some(link) = machine.links.get(hart) {
            link.request_fence();
        }
    }
    Ok(0)
}

fn fence_here(machine: &Machine, vcpu: &mut Vcpu, start: u64, size: u64, asid: Option<u16>) {
    let first = start & !(PAGE_SIZE - 1);
    let pages = start.checked_add(size).map(|end| end.saturating_sub(first).div_ceil(PAGE_SIZE));
    match pages {
        Some(pages) if size != 0 && pages <= MAX_PAGES => {
            for page in 0..pages {
                let address = first.wrapping_add(page.wrapping_mul(PAGE_SIZE));
                vcpu.caches.shadow.fence(&machine.ram, Some(GuestVirtAddr(address)), asid);
            }
        }
        _ => vcpu.caches.shadow.fence(&machine.ram, None, asid),
    }
}
