//! Steal-time Accounting extension: how long a vCPU would have run and did not get a hart. SBI spec, "Steal-time
//! Accounting Extension".

use memory::GuestPhysAddr;

use super::call::{SbiCall, SbiError, SbiResult};
use crate::machine::Machine;
use crate::steal::{SIZE, Shared};
use crate::vcpu::Vcpu;

/// Where the stolen time is in it, in nanoseconds. The sequence is in the first four bytes, the flags, always 0, in the
/// next.
const STEAL: u64 = 8;

/// Notes that the vCPU, which does not run now, has waited for `waited` ticks since the beginning, and tells the guest if it
/// wants to know.
pub fn report(machine: &Machine, vcpu: &mut Vcpu, waited: u64) {
    let steal = &mut vcpu.steal;
    if core::mem::replace(&mut steal.waited, waited) == waited {
        return;
    }
    if let Some(shared) = &mut steal.shared {
        // What is being written has an odd sequence. The memory was RAM when it was named, and still is.
        let nanoseconds = machine.nanoseconds(waited.wrapping_sub(shared.before));
        for (offset, value) in [
            (0, u64::from(shared.sequence.wrapping_add(1))),
            (STEAL, nanoseconds),
            (0, u64::from(shared.sequence.wrapping_add(2))),
        ] {
            let _ = machine.ram.write_word(shared.address.wrapping_add(offset), value);
        }
        shared.sequence = shared.sequence.wrapping_add(2);
    }
}

pub(super) fn call<H>(call: SbiCall, machine: &Machine, vcpu: &mut Vcpu, _: &mut H) -> SbiResult {
    match call.function {
        0 => set_shared_memory(machine, vcpu, call.args),
        _ => Err(SbiError::NotSupported),
    }
}

fn set_shared_memory(machine: &Machine, vcpu: &mut Vcpu, args: [u64; 6]) -> SbiResult {
    let [low, high, flags, ..] = args;
    if flags != 0 {
        return Err(SbiError::InvalidParam);
    }
    if (low, high) == (u64::MAX, u64::MAX) {
        vcpu.steal.stop();
        return Ok(0);
    }
    let address = GuestPhysAddr(low);
    if !address.is_aligned(SIZE) {
        return Err(SbiError::InvalidParam);
    }
    if high != 0 {
        return Err(SbiError::InvalidAddress);
    }
    machine.ram.write(address, &[0; SIZE as usize]).map_err(|_| SbiError::InvalidAddress)?;
    vcpu.steal.shared = Some(Shared { address, before: vcpu.steal.waited, sequence: 0 });
    Ok(0)
}
