//! Debug Console extension. SBI spec, "Debug Console Extension".
//!
//! Writes go behind what the serial port has sent; reads take what it has received, as firmware on the real
//! machine does, which drives the same port.

use memory::GuestPhysAddr;

use super::{Reply, SbiCall, SbiError, SbiResult};
use crate::host::Host;
use crate::machine::Machine;
use crate::outcome::Outcome;
use crate::vcpu::Vcpu;

/// Bytes that one call moves at most; the guest sees a partial transfer and calls again.
const MAX_BYTES: u64 = 4096;
/// Bytes on the way at once.
const CHUNK: usize = 64;

pub(super) fn call(call: SbiCall, machine: &mut Machine, _: &mut Vcpu, host: &mut impl Host) -> Reply {
    let [first, low, high, ..] = call.args;
    match call.function {
        0 => shared_memory(machine, first, low, high).and_then(|to| write(machine, to, first, host)).into(),
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

fn write(machine: &mut Machine, from: GuestPhysAddr, len: u64, host: &mut impl Host) -> SbiResult {
    let len = len.min(MAX_BYTES);
    let mut written = 0;
    while written < len {
        let mut chunk = [0; CHUNK];
        let count = (len - written).min(CHUNK as u64) as usize;
        let bytes = chunk.get_mut(..count).ok_or(SbiError::InvalidParam)?;
        machine.ram.read(from.wrapping_add(written), bytes).map_err(|_| SbiError::InvalidParam)?;
        let taken = machine.console_write(bytes, host) as u64;
        written += taken;
        if taken < count as u64 {
            break;
        }
    }
    Ok(written)
}

fn read(machine: &mut Machine, to: GuestPhysAddr, len: u64, host: &mut impl Host) -> SbiResult {
    let len = len.min(MAX_BYTES);
    let mut count = 0;
    while count < len {
        let Some(byte) = machine.console_read(host) else { break };
        machine.ram.write(to.wrapping_add(count), &[byte]).map_err(|_| SbiError::InvalidParam)?;
        count += 1;
    }
    Ok(count)
}
