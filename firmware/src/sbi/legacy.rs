//! The legacy extensions, which the `rustsbi` crate leaves out. They name harts by a pointer to a mask in S-mode's
//! own address space. SBI spec, "Legacy Extensions".

use super::machine::harts;
use super::mailbox::{self, Kind};
use super::{fence, reset, timer};
use crate::csr::{self, interrupt, mstatus};
use crate::frame::Fault;
use crate::uart;
use core::arch::asm;
use core::ops::RangeInclusive;
use firmware::harts::HartSet;
use rustsbi::Timer as _;
use sbi_spec::legacy::{
    LEGACY_CLEAR_IPI, LEGACY_CONSOLE_GETCHAR, LEGACY_CONSOLE_PUTCHAR, LEGACY_REMOTE_FENCE_I,
    LEGACY_REMOTE_SFENCE_VMA, LEGACY_REMOTE_SFENCE_VMA_ASID, LEGACY_SEND_IPI, LEGACY_SET_TIMER,
    LEGACY_SHUTDOWN,
};

/// The extensions' ids.
pub const IDS: RangeInclusive<usize> = LEGACY_SET_TIMER..=LEGACY_SHUTDOWN;

/// Serves a call: what a0 gets, or an exception for the caller.
pub fn serve(extension: usize, parameters: [usize; 6]) -> Result<isize, Fault> {
    match extension {
        LEGACY_SET_TIMER => timer::Timer.set_timer(parameters[0] as u64),
        LEGACY_CONSOLE_PUTCHAR => uart::send(parameters[0] as u8),
        LEGACY_CONSOLE_GETCHAR => return Ok(uart::receive().map_or(-1, isize::from)),
        LEGACY_CLEAR_IPI => csr::clear!("mip", interrupt::SUPERVISOR_SOFTWARE),
        LEGACY_SEND_IPI => targets(parameters[0])?.iter().for_each(mailbox::interrupt),
        LEGACY_REMOTE_FENCE_I => fence::run(targets(parameters[0])?, Kind::Instructions),
        LEGACY_REMOTE_SFENCE_VMA | LEGACY_REMOTE_SFENCE_VMA_ASID => {
            fence::run(targets(parameters[0])?, Kind::Memory);
        }
        _ => reset::power_off(),
    }
    Ok(0)
}

/// The harts in the mask at `pointer`; a null pointer is all. Absent ones are passed over.
fn targets(pointer: usize) -> Result<HartSet, Fault> {
    if pointer == 0 {
        return Ok(harts());
    }
    let mask = load_as_caller(pointer)?;
    Ok(HartSet(harts().0 & mask))
}

/// Loads a word as the caller would: by its translation and with its rights.
fn load_as_caller(pointer: usize) -> Result<u64, Fault> {
    let value: u64;
    let failed: u64;
    // SAFETY: mstatus.MPP is still the caller's mode, so the load has the caller's rights and reads nothing of ours.
    // A trap of it goes to `2`; what that changes beside mcause and mtval, read below, is in the caller's frame
    // already (mepc, mstatus), but for MPP, which nothing looks at before mstatus comes from the frame. MPRV is off
    // and the trap vector as before afterwards.
    unsafe {
        asm!(
            "lla {old}, 2f",
            "csrrw {old}, mtvec, {old}",
            "li {failed}, 1",
            "csrs mstatus, {mprv}",
            "ld {value}, 0({pointer})",
            "li {failed}, 0",
            ".balign 4",
            "2: csrc mstatus, {mprv}",
            "csrw mtvec, {old}",
            pointer = in(reg) pointer,
            mprv = in(reg) mstatus::MPRV,
            old = out(reg) _,
            failed = out(reg) failed,
            value = out(reg) value,
            options(nostack),
        );
    }
    if failed == 0 {
        return Ok(value);
    }
    Err(Fault { cause: csr::read!("mcause"), tval: csr::read!("mtval") })
}
