//! System Reset extension: of this virtual machine only. SBI spec, "System Reset Extension".

use super::call::{Reply, SbiCall, SbiError};
use crate::machine::Machine;
use crate::outcome::{Outcome, StopReason};
use crate::vcpu::Vcpu;

/// Reset types.
const SHUTDOWN: u32 = 0;
const COLD_REBOOT: u32 = 1;
const WARM_REBOOT: u32 = 2;
/// Reset reasons: none, and system failure.
const LAST_REASON: u32 = 1;

pub(super) fn call<H>(call: SbiCall, _: &Machine, _: &mut Vcpu, _: &mut H) -> Reply {
    if call.function != 0 {
        return Reply::Return(Err(SbiError::NotSupported));
    }
    let (kind, reason) = (call.args[0] as u32, call.args[1] as u32);
    match kind {
        _ if reason > LAST_REASON => Reply::Return(Err(SbiError::InvalidParam)),
        SHUTDOWN => Reply::Outcome(Outcome::Stop(StopReason::PowerOff)),
        COLD_REBOOT | WARM_REBOOT => Reply::Outcome(Outcome::Stop(StopReason::Reset)),
        _ => Reply::Return(Err(SbiError::InvalidParam)),
    }
}
