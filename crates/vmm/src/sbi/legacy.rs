//! The legacy extensions, one function each, with the result in a0 alone. SBI spec, "Legacy Extensions".

use isa::{Exception, Interrupt};
use memory::{GuestRam, GuestVirtAddr};
use mmu::{Access, translate};

use super::call::{Reply, SbiCall, SbiResult};
use super::{ipi, rfence, time};
use crate::host::Host;
use crate::link::Link;
use crate::machine::Machine;
use crate::outcome::{Outcome, StopReason};
use crate::vcpu::Vcpu;

pub(super) fn set_timer(call: SbiCall, _: &Machine, vcpu: &mut Vcpu, host: &mut impl Host) -> Reply {
    time::set_timer(vcpu, call.args[0], host);
    Reply::Legacy(0)
}

pub(super) fn console_putchar(call: SbiCall, machine: &Machine, _: &mut Vcpu, host: &mut impl Host) -> Reply {
    match machine.console_write(&[call.args[0] as u8], host) {
        // The call blocks until the console has room: the guest makes it again, and can be interrupted between.
        0 => Reply::Outcome(Outcome::Resume),
        _ => Reply::Legacy(0),
    }
}

pub(super) fn console_getchar(_: SbiCall, machine: &Machine, _: &mut Vcpu, host: &mut impl Host) -> Reply {
    Reply::Legacy(machine.console_read(host).map_or(-1, i64::from))
}

/// The result says whether there was one to clear.
pub(super) fn clear_ipi<H>(_: SbiCall, machine: &Machine, vcpu: &mut Vcpu, _: &mut H) -> Reply {
    let sent = machine.links.get(vcpu.id).is_some_and(Link::take_software_interrupt);
    let pending = vcpu.frame.csr.is_pending(Interrupt::Software);
    vcpu.set_line(Interrupt::Software, false);
    Reply::Legacy(i64::from(sent || pending))
}

pub(super) fn send_ipi<H>(call: SbiCall, machine: &Machine, vcpu: &mut Vcpu, _: &mut H) -> Reply {
    with_mask(machine, vcpu, call.args[0], ipi::send)
}

pub(super) fn remote_fence_i<H>(call: SbiCall, machine: &Machine, vcpu: &mut Vcpu, _: &mut H) -> Reply {
    with_mask(machine, vcpu, call.args[0], |machine, vcpu, mask, base| {
        rfence::fence_i(machine, vcpu, mask, base)
    })
}

pub(super) fn remote_sfence_vma<H>(call: SbiCall, machine: &Machine, vcpu: &mut Vcpu, _: &mut H) -> Reply {
    let [pointer, start, size, ..] = call.args;
    with_mask(machine, vcpu, pointer, |machine, vcpu, mask, base| {
        rfence::fence(machine, vcpu, mask, base, start, size, None)
    })
}

pub(super) fn remote_sfence_vma_asid<H>(
    call: SbiCall,
    machine: &Machine,
    vcpu: &mut Vcpu,
    _: &mut H,
) -> Reply {
    let [pointer, start, size, asid, ..] = call.args;
    with_mask(machine, vcpu, pointer, |machine, vcpu, mask, base| {
        rfence::fence(machine, vcpu, mask, base, start, size, Some(asid as u16))
    })
}

pub(super) fn shutdown<H>(_: SbiCall, _: &Machine, _: &mut Vcpu, _: &mut H) -> Reply {
    Reply::Outcome(Outcome::Stop(StopReason::PowerOff))
}

/// Runs a call whose hart mask lies at the guest-virtual address `pointer`; a null pointer selects all harts. The
/// mask is read with the caller's rights, and a fault in that is the guest's.
fn with_mask(
    machine: &Machine,
    vcpu: &mut Vcpu,
    pointer: u64,
    run: impl FnOnce(&Machine, &mut Vcpu, u64, u64) -> SbiResult,
) -> Reply {
    let (mask, base) = match pointer {
        0 => (0, u64::MAX),
        _ => match read_word(vcpu, &machine.ram, pointer) {
            Ok(mask) => (mask, 0),
            Err((exception, address)) => return Reply::Outcome(Outcome::Inject(exception, address.0)),
        },
    };
    match run(machine, vcpu, mask, base) {
        Ok(_) => Reply::Legacy(0),
        Err(error) => Reply::Legacy(error as i64),
    }
}

/// The word at `pointer`, aligned or not; where it cannot be read, the fault and the byte that faulted.
fn read_word(vcpu: &Vcpu, ram: &GuestRam, pointer: u64) -> Result<u64, (Exception, GuestVirtAddr)> {
    let context = vcpu.context();
    let mut bytes = [0; 8];
    for (byte, offset) in bytes.iter_mut().zip(0..) {
        let address = GuestVirtAddr(pointer.wrapping_add(offset));
        translate(ram, context.satp, address, Access::Load, context.view.rights())
            .and_then(|found| {
                let read = ram.read(found.address, core::slice::from_mut(byte));
                read.map_err(|_| Exception::LoadAccessFault)
            })
            .map_err(|exception| (exception, address))?;
    }
    Ok(u64::from_le_bytes(bytes))
}
