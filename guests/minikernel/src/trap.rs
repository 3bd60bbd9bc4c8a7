//! The way into the kernel and out of it: the trap vector, and the function that runs a process until it traps.
//!
//! A process runs like a function call: [`run_user`] loads its registers and drops to user mode; its next trap,
//! of whatever kind, saves them again and *returns* from `run_user`. So the kernel needs one stack only, and
//! what to do about a trap is ordinary code (`kernel.rs`), not part of the vector.
//!
//! In the kernel interrupts are on but for the stretches that say otherwise. An interrupt there runs
//! [`serve_interrupt`] and resumes; an exception there is a bug, and ends the machine with a report.

use crate::{input, timer};
use core::arch::global_asm;
use core::cell::UnsafeCell;
use core::mem::offset_of;
use guest_rt::isa::csr::sstatus;
use guest_rt::isa::{Exception, Interrupt};
use guest_rt::{csr_clear, csr_read, csr_set, csr_write, finisher, println};

/// A process's registers while it does not run.
#[repr(C)]
pub struct TrapFrame {
    /// x0 to x31; x0 is not used.
    pub x: [u64; 32],
    /// Where it goes on.
    pub pc: u64,
    /// The kernel's stack pointer while the process runs.
    kernel_sp: u64,
}

impl TrapFrame {
    /// The registers with which a program starts: at `entry`, with its stack and one argument in a0.
    pub fn new(entry: u64, stack: u64, argument: u64) -> Self {
        let mut frame = Self { x: [0; 32], pc: entry, kernel_sp: 0 };
        frame.x[2] = stack;
        frame.x[10] = argument;
        frame
    }
}

/// Why a process came back to the kernel.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Trap {
    /// An interrupt for the kernel; the process had nothing to do with it.
    Interrupt(Interrupt),
    /// The process did something. With stval: for a fault the address.
    Exception(Exception, u64),
    /// scause holds a code that this kernel does not know.
    Unknown(u64),
}

// While user code runs, sscratch holds the address of its frame; while the kernel runs, 0. That is how the
// vector knows where a trap came from, before it has a single register to work with.
global_asm!(r"
    .pushsection .text
    .balign 4
    kernel_entry:
        csrrw sp, sscratch, sp
        beqz sp, from_kernel

        # From user mode: sp points to the frame, sscratch holds the user's sp.
        .irp n, 1,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31
            sd x\n, 8*\n(sp)
        .endr
        csrrw t0, sscratch, zero
        sd t0, 8*2(sp)
        csrr t0, sepc
        sd t0, {pc}(sp)
        # Now return from leave_kernel. gp and tp stay the user's: the kernel uses neither.
        ld sp, {kernel_sp}(sp)
        ld ra, 8*12(sp)
        .irp n, 0,1,2,3,4,5,6,7,8,9,10,11
            ld s\n, 8*\n(sp)
        .endr
        addi sp, sp, 8*14
        ret

    leave_kernel: # a0 points to the frame
        # A function may be called with anything in t0-t6 and a0-a7, so only the others are kept.
        addi sp, sp, -8*14
        .irp n, 0,1,2,3,4,5,6,7,8,9,10,11
            sd s\n, 8*\n(sp)
        .endr
        sd ra, 8*12(sp)
        sd sp, {kernel_sp}(a0)
        csrw sscratch, a0
        # SRET goes to the mode in SPP (0: user) and turns interrupts on as SPIE says.
        li t0, {spie}
        csrw sstatus, t0
        ld t0, {pc}(a0)
        csrw sepc, t0
        .irp n, 1,2,3,4,5,6,7,8,9,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31
            ld x\n, 8*\n(a0)
        .endr
        ld a0, 8*10(a0)
        sret

    from_kernel: # sp is 0, sscratch holds the kernel's sp
        csrr sp, scause
        bgez sp, kernel_fault # no interrupt bit: an exception
        csrrw sp, sscratch, zero
        # The interrupted code did not expect a call: keep what a call may change. sepc and sstatus stay as
        # they are, since interrupts are off until the sret.
        addi sp, sp, -8*16
        sd ra, 8*15(sp)
        .irp n, 0,1,2,3,4,5,6,7
            sd a\n, 8*\n(sp)
        .endr
        .irp n, 0,1,2,3,4,5,6
            sd t\n, 64 + 8*\n(sp)
        .endr
        call {serve}
        ld ra, 8*15(sp)
        .irp n, 0,1,2,3,4,5,6,7
            ld a\n, 8*\n(sp)
        .endr
        .irp n, 0,1,2,3,4,5,6
            ld t\n, 64 + 8*\n(sp)
        .endr
        addi sp, sp, 8*16
        sret

    kernel_fault: # perhaps of the stack itself, so the report gets another
        csrr a0, sscratch
        mv a1, ra
        lla sp, {emergency}
        li t0, {emergency_size}
        add sp, sp, t0
        j {report}
    .popsection
    ",
    pc = const offset_of!(TrapFrame, pc),
    kernel_sp = const offset_of!(TrapFrame, kernel_sp),
    spie = const sstatus::SPIE,
    serve = sym serve_interrupt,
    report = sym report_kernel_fault,
    emergency = sym EMERGENCY_STACK,
    emergency_size = const EMERGENCY_SIZE,
);

unsafe extern "C" {
    safe fn kernel_entry();
    fn leave_kernel(frame: *mut TrapFrame);
}

const EMERGENCY_SIZE: usize = 0x2000;
#[repr(C, align(16))]
struct Stack(UnsafeCell<[u8; EMERGENCY_SIZE]>);
// SAFETY: used once, by the report that ends the machine.
unsafe impl Sync for Stack {}
static EMERGENCY_STACK: Stack = Stack(UnsafeCell::new([0; EMERGENCY_SIZE]));

/// Points the hart at the vector and enables interrupts; that of the timer is enabled by `timer`.
pub fn install() {
    csr_write!(SSCRATCH, 0);
    csr_write!(STVEC, kernel_entry as *const () as u64);
    csr_write!(SIE, Interrupt::External.mask());
    interrupts_on();
}

/// Lets interrupts through to the kernel.
pub fn interrupts_on() {
    csr_set!(SSTATUS, sstatus::SIE);
}

/// Holds interrupts back, until they are on again or a process runs. User mode always lets them through.
pub fn interrupts_off() {
    csr_clear!(SSTATUS, sstatus::SIE);
}

/// Runs a process until it traps. Interrupts must be off, satp its own; they are off when this returns.
pub fn run_user(frame: &mut TrapFrame) -> Trap {
    // SAFETY: the frame is whole and stays borrowed, and satp maps the kernel as before. The vector returns
    // here with all registers kept that a function keeps.
    unsafe { leave_kernel(frame) };
    let (cause, value) = (csr_read!(SCAUSE), csr_read!(STVAL));
    let interrupt = || Interrupt::BY_PRIORITY.into_iter().find(|kind| kind.cause() == cause);
    match Exception::from_code(cause) {
        Some(exception) => Trap::Exception(exception, value),
        None => interrupt().map_or(Trap::Unknown(cause), Trap::Interrupt),
    }
}

/// Serves every interrupt that waits, wherever it arrived. Interrupts are off.
pub extern "C" fn serve_interrupt() {
    let waiting = csr_read!(SIP) & csr_read!(SIE);
    if waiting & Interrupt::External.mask() != 0 {
        input::serve();
    }
    if waiting & Interrupt::Timer.mask() != 0 {
        // What was due is found out by looking at the clock; here it only has to stop ringing.
        timer::disarm();
    }
}

/// The kernel's last words after an exception of its own.
extern "C" fn report_kernel_fault(sp: u64, ra: u64) -> ! {
    println!("\nThe kernel trapped. This is a bug in the kernel, or in the machine below it.");
    println!("  scause {:#018x}  stval {:#018x}", csr_read!(SCAUSE), csr_read!(STVAL));
    println!("  sepc   {:#018x}  ra    {ra:#018x}", csr_read!(SEPC));
    println!("  sp     {sp:#018x}  satp  {:#018x}", csr_read!(SATP));
    finisher::fail(finisher::UNEXPECTED_TRAP)
}
