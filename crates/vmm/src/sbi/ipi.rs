//! IPI extension. SBI spec, "IPI Extension".

use super::call::{SbiCall, SbiError, SbiResult};
use super::masks::{bits, select_harts};
use crate::machine::Machine;
use crate::pmu::FirmwareEvent;
use crate::vcpu::Vcpu;

pub(super) fn call<H>(call: SbiCall, machine: &Machine, vcpu: &mut Vcpu, _: &mut H) -> SbiResult {
    match call.function {
        0 => send(machine, vcpu, call.args[0], call.args[1]),
        _ => Err(SbiError::NotSupported),
    }
}

/// Makes a supervisor software interrupt pending on the selected harts.
pub(super) fn send(machine: &Machine, vcpu: &mut Vcpu, mask: u64, base: u64) -> SbiResult {
    let selected = select_harts(machine, mask, base)?;
    vcpu.pmu.count(FirmwareEvent::IpiSent);
    for link in bits(selected).filter_map(|hart| machine.links.get(hart)) {
        link.send_software_interrupt();
    }
    Ok(0)
}
