//! Hart State Management extension. SBI spec, "Hart State Management Extension".

use super::call::{ECALL, Reply, SbiCall, SbiError, SbiResult};
use crate::link::HartState;
use crate::machine::Machine;
use crate::outcome::{Fatal, Outcome, StopReason};
use crate::vcpu::{RunState, Start, Vcpu};
use isa::Reg;
use memory::GuestPhysAddr;

/// Suspend types, of which there is one of each kind.
const RETENTIVE: u32 = 0;
const NON_RETENTIVE: u32 = 0x8000_0000;

pub(super) fn call<H>(call: SbiCall, machine: &Machine, vcpu: &mut Vcpu, _: &mut H) -> Reply {
    let [first, address, opaque, ..] = call.args;
    match call.function {
        0 => start(machine, first, address).into(),
        1 => stop(machine, vcpu),
        2 => status(machine, first).into(),
        // The upper half of the type's register is ignored.
        3 => suspend(machine, vcpu, first as u32, Start { address, opaque }),
        _ => Reply::Return(Err(SbiError::NotSupported)),
    }
}

fn hart_state(machine: &Machine, hart: u64) -> Result<HartState, SbiError> {
    let link = usize::try_from(hart).ok().and_then(|hart| machine.links.get(hart));
    link.map(|link| link.state()).ok_or(SbiError::InvalidParam)
}

/// A machine has one hart, which runs: it made the call.
fn start(machine: &Machine, hart: u64, address: u64) -> SbiResult {
    hart_state(machine, hart)?;
    check_entry(machine, address)?;
    Err(SbiError::AlreadyAvailable)
}

fn stop(machine: &Machine, vcpu: &mut Vcpu) -> Reply {
    if let Some(link) = machine.links.get(vcpu.id) {
        link.set_state(HartState::Stopped);
    }
    vcpu.state = RunState::Stopped;
    vcpu.steal.stop();
    let anyone = machine.links.iter().any(|link| link.state() != HartState::Stopped);
    Reply::Outcome(if anyone { Outcome::Resume } else { Outcome::Stop(StopReason::Fatal(Fatal::NoHartLeft)) })
}

fn status(machine: &Machine, hart: u64) -> SbiResult {
    Ok(hart_state(machine, hart)? as u64)
}

fn suspend(machine: &Machine, vcpu: &mut Vcpu, kind: u32, start: Start) -> Reply {
    match kind {
        RETENTIVE => {
            // Returns like a WFI, and with success.
            vcpu.frame.set(Reg::A0, 0);
            vcpu.frame.set(Reg::A1, 0);
            Reply::Outcome(Outcome::Wait)
        }
        NON_RETENTIVE => match check_entry(machine, start.address) {
            Ok(()) => {
                vcpu.state = RunState::Suspended(start);
                Reply::Outcome(Outcome::Advance(ECALL))
            }
            Err(error) => Reply::Return(Err(error)),
        },
        _ => Reply::Return(Err(SbiError::InvalidParam)),
    }
}

fn check_entry(machine: &Machine, address: u64) -> Result<(), SbiError> {
    let is_ram = machine.ram.contains(GuestPhysAddr(address), 2);
    if is_ram { Ok(()) } else { Err(SbiError::InvalidAddress) }
}
