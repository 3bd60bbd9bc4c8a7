//! Debug Console extension. SBI spec, "Debug Console Extension".
//!
//! Writes go behind what the serial port has sent; reads take what it has received, as firmware on the real
//! machine does, which drives the same port.

use memory::GuestPhysAddr;

use super::call::{Reply, SbiCall, SbiError, SbiResult};
use crate::host::Host;
use crate::machine::Machine;
use crate::outcome::Outcome;
use crate::vcpu::Vcpu;

/// Bytes that one exit moves at most. A write of more goes on with the next exit, as does one to a console that is full.
const MAX_BYTES: u64 = 1024;
/// Bytes on the way at once.
const CHUNK: usize = 64;

pub(super) fn call(call: SbiCall, machine: &Machine, vcpu: &mut Vcpu, host: &mut impl Host) -> Reply {
    let [first, low, high, ..] = call.args;
    match call.function {
        0 => match shared_memory(machine, first, low, high) {
            Ok(from) => write(machine, vcpu, from, first, host),
            Err(error) => Err(error).into(),
        },
        1 => shared_memory(machine, first, low, high).and_then(|to| read(machine, to, first, host)).into(),
        2 => match machine.console_write(&[first as u8], host) {
            // The call blocks until the console has room: the guest makes it again.
            0 => Reply::Outcome(Outcome::Resume),
            _ => Reply::Return(Ok(0)),
        },
        _ => Reply::Return(Err(SbiError::NotSupported)),
    }
}

fn shared_memory(machine: &Machine, len: u64, low: u64, high: u64) -> Result<GuestPhysAddr, SbiError> {
    let address = GuestPhysAddr(low);
    if high == 0 && machine.ram.contains(address, len) { Ok(address) } else { Err(SbiError::InvalidParam) }
}

/// Writes `len` bytes of RAM, all of them, as firmware does: kernels do not look how many went. What the console has no room
/// for, or is more than one exit may move, is written when the guest makes the call again, which no interrupt delays.
fn write(machine: &Machine, vcpu: &mut Vcpu, from: GuestPhysAddr, len: u64, host: &mut impl Host) -> Reply {
    let end = len.min(vcpu.console_sent.saturating_add(MAX_BYTES));
    while vcpu.console_sent < end {
        let mut chunk = [0; CHUNK];
        let count = (end - vcpu.console_sent).min(CHUNK as u64) as usize;
        let bytes = chunk.get_mut(..count).unwrap_or_default();
        if machine.ram.read(from.wrapping_add(vcpu.console_sent), bytes).is_err() {
            break;
        }
        let taken = machine.console_write(bytes, host) as u64;
        vcpu.console_sent = vcpu.console_sent.wrapping_add(taken);
        if taken < count as u64 {
            break;
        }
    }
    if vcpu.console_sent < len {
        return Reply::Outcome(Outcome::Resume);
    }
    vcpu.console_sent = 0;
    Reply::Return(Ok(len))
}

fn read(machine: &Machine, to: GuestPhysAddr, len: u64, host: &mut impl Host) -> SbiResult {
    let len = len.min(MAX_BYTES);
    let mut count = 0;
    while count < len {
        let Some(byte) = machine.console_read(host) else { break };
        machine.ram.write(to.wrapping_add(count), &[byte]).map_err(|_| SbiError::InvalidParam)?;
        count += 1;
    }
    Ok(count)
}
