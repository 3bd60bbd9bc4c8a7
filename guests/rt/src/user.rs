//! Runs code in user mode until its first trap. Which page tables it runs under is the caller's choice: they
//! must map this kernel for supervisor mode, since the trap vector runs under them.

use crate::csr_read;
use crate::trap::{self, Frame, Trap};
use core::arch::global_asm;
use core::cell::UnsafeCell;
use isa::csr::sstatus;

/// The registers that a C function must keep, of the caller of `enter_user`.
#[expect(dead_code, reason = "only the assembly below uses the field")]
struct Kernel(UnsafeCell<[u64; 16]>);
// SAFETY: there is one hart, and one user run at a time.
unsafe impl Sync for Kernel {}
static KERNEL: Kernel = Kernel(UnsafeCell::new([0; 16]));

// Keeps what must be kept and resumes the frame that a0 points to. The trap vector comes back to
// `user_left`, from where this looks like a function that returns.
global_asm!(r"
    .pushsection .text
    enter_user:
        lla t0, {kernel}
        sd ra, 0(t0)
        sd sp, 8(t0)
        sd gp, 16(t0)
        sd tp, 24(t0)
        .irp n, 0,1,2,3,4,5,6,7,8,9,10,11
            sd s\n, 32 + 8*\n(t0)
        .endr
        j resume_frame
    user_left:
        lla t0, {kernel}
        ld ra, 0(t0)
        ld sp, 8(t0)
        ld gp, 16(t0)
        ld tp, 24(t0)
        .irp n, 0,1,2,3,4,5,6,7,8,9,10,11
            ld s\n, 32 + 8*\n(t0)
        .endr
        ret
    .popsection
    ",
    kernel = sym KERNEL,
);

unsafe extern "C" {
    fn enter_user(frame: *const Frame);
}

/// Runs user code from `frame`'s pc with its registers until it traps, by whatever cause, and gives the trap.
/// The frame then holds its registers and pc. Bits that are set in the frame's sstatus are set in sstatus
/// (SPIE, FS); SPP and SIE are taken care of. Interrupts that sie enables end the run as well.
pub fn run(frame: &mut Frame) -> Trap {
    let now = csr_read!(SSTATUS);
    frame.sstatus = ((now & !sstatus::SPIE) | frame.sstatus) & !(sstatus::SPP | sstatus::SIE);
    let trap = trap::take_user_trap(|| {
        // SAFETY: the frame is whole, and the trap vector brings control back here.
        unsafe { enter_user(frame) }
    });
    *frame = trap::saved();
    trap
}

/// Runs user code at `pc` with a0 and a1 until it traps.
pub fn call(pc: u64, a0: u64, a1: u64) -> Trap {
    let mut frame = Frame { pc, ..Frame::ZERO };
    (frame.x[10], frame.x[11]) = (a0, a1);
    run(&mut frame)
}
