//! The trap's entry, at mtvec: saves the registers in the frame, and leaves by `enter` when the trap was served.

use crate::enter::resume;
use crate::frame::Frame;
use crate::trap;
use core::arch::naked_asm;
use core::mem::offset_of;

/// Where traps arrive: mtvec.
#[unsafe(naked)]
pub unsafe extern "C" fn entry() {
    naked_asm!(
        ".balign 4",
        "csrrw sp, mscratch, sp",
        "beqz sp, 1f",
        "sd x1, 8(sp)",
        ".irp n, 3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31",
        "sd x\\n, 8*\\n(sp)",
        ".endr",
        "csrrw t0, mscratch, zero",
        "csrr t1, mepc",
        "csrr t2, mstatus",
        "sd t0, 8*2(sp)",
        "sd t1, {pc}(sp)",
        "sd t2, {mstatus}(sp)",
        "mv a0, sp",
        "call {serve}",
        "j {resume}",
        // A trap of M-mode's own: its sp is in mscratch.
        "1: csrrw sp, mscratch, zero",
        "call {own}",
        serve = sym trap::serve,
        own = sym trap::own,
        resume = sym resume,
        pc = const offset_of!(Frame, pc),
        mstatus = const offset_of!(Frame, mstatus),
    )
}
