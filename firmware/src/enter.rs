//! The way out to S-mode, which is the same for a trap that was served and for a hart that starts.
//!
//! Each hart has a stack; its frame lies at the top, and mscratch points there while S-mode or U-mode runs. In
//! M-mode mscratch is 0, so a trap of our own is told from one of theirs. M-mode's interrupts are always off.

use crate::csr::{self, interrupt, mstatus};
use crate::frame::Frame;
use crate::hart;
use core::arch::{asm, naked_asm};
use core::mem::offset_of;

/// Bytes of a hart's stack; `image.ld` has room for as many as `MAX_HARTS`.
pub const STACK: usize = 8 << 10;

/// scounteren: cycle, time, instret.
const ALL_COUNTERS: u64 = 0b111;

/// Leaves for S-mode at `pc` with a0, a1 as a hart starts: no translation, no interrupts. SBI spec, "Hart Start". The rest
/// is as OpenSBI leaves it: floating point and vectors are on, U-mode may read the counters, a trap before stvec is set
/// goes to `pc`. What is pending stays.
pub fn supervisor(pc: u64, opaque: u64) -> ! {
    csr::write!("satp", 0);
    csr::write!("stvec", pc);
    csr::write!("sscratch", 0);
    csr::write!("scounteren", ALL_COUNTERS);
    csr::write!("mie", interrupt::MACHINE_SOFTWARE);
    hart::mask_interrupts();
    let units = hart::reset_units();
    hart::fence_memory();
    hart::fence_instructions();
    let mut frame = Frame { x: [0; 32], pc, mstatus: csr::read!("mstatus") };
    frame.mstatus &= !(mstatus::MPP | mstatus::MPIE | mstatus::SIE | mstatus::SPIE | mstatus::SPP);
    frame.mstatus &= !(mstatus::SUM | mstatus::MXR | mstatus::MPV | mstatus::GVA);
    frame.mstatus &= !(mstatus::FS | mstatus::VS);
    frame.mstatus |= mstatus::MPP_SUPERVISOR | units;
    frame.x[10] = hart::id() as u64;
    frame.x[11] = opaque;
    // SAFETY: `stack_top` is the end of this hart's stack, and the frame is copied there from further down the stack,
    // of which nothing is needed any more.
    unsafe {
        let home = (stack_top() as *mut Frame).sub(1);
        home.write(frame);
        asm!("mv sp, {}", "j {}", in(reg) home, sym resume, options(noreturn))
    }
}

/// The end of this hart's stack.
fn stack_top() -> usize {
    unsafe extern "C" {
        static __stacks: u8;
    }
    &raw const __stacks as usize + (hart::id() + 1) * STACK
}

/// Loads the frame at sp and leaves.
#[unsafe(naked)]
pub unsafe extern "C" fn resume() {
    naked_asm!(
        "ld t0, {pc}(sp)",
        "ld t1, {mstatus}(sp)",
        "csrw mepc, t0",
        "csrw mstatus, t1",
        "csrw mscratch, sp",
        "ld x1, 8(sp)",
        ".irp n, 3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31",
        "ld x\\n, 8*\\n(sp)",
        ".endr",
        "ld sp, 8*2(sp)",
        "mret",
        pc = const offset_of!(Frame, pc),
        mstatus = const offset_of!(Frame, mstatus),
    )
}
