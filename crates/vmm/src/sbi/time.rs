//! Timer extension. SBI spec, "Timer Extension".

use isa::Interrupt;

use super::call::{SbiCall, SbiError, SbiResult};
use crate::host::Host;
use crate::machine::Machine;
use crate::pmu::FirmwareEvent;
use crate::vcpu::Vcpu;

pub(super) fn call(call: SbiCall, _: &Machine, vcpu: &mut Vcpu, host: &mut impl Host) -> SbiResult {
    match call.function {
        0 => {
            set_timer(vcpu, call.args[0], host);
            Ok(0)
        }
        _ => Err(SbiError::NotSupported),
    }
}

/// Sets the deadline: STIP is pending at once where it has passed, and clear where it has not, even when masked.
pub(super) fn set_timer(vcpu: &mut Vcpu, deadline: u64, host: &impl Host) {
    vcpu.pmu.count(FirmwareEvent::SetTimer);
    vcpu.timer.set(deadline);
    vcpu.set_line(Interrupt::Timer, vcpu.timer.is_due(host.now()));
}
