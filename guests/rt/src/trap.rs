//! The trap vector, and traps that a guest expects.
//!
//! [`catch`] runs a piece of code and gives the first trap that it took. What trapped is skipped; where the
//! fetch itself failed there is nothing to skip, and the code goes on at `ra`, as if the jump had been a call
//! of an empty function. An interrupt is caught once: interrupts stay off when it returns. A trap that nobody
//! expects ends the machine with a report. Traps from user mode end [`crate::user::run`].
//!
//! One hart, one frame: a trap inside the handler would be a bug of this module. The vector uses sscratch.

use crate::{csr_clear, csr_read, csr_set, csr_write, finisher, println};
use core::arch::global_asm;
use core::cell::UnsafeCell;
use core::mem::offset_of;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use isa::csr::sstatus;
use isa::trap::{Exception, Interrupt};

/// What a trap reported.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Trap {
    /// scause.
    pub cause: u64,
    /// stval.
    pub tval: u64,
    /// sepc.
    pub epc: u64,
    /// sstatus as the handler found it.
    pub sstatus: u64,
}

impl Trap {
    /// Whether it was this exception.
    pub fn is(&self, exception: Exception) -> bool {
        self.cause == exception.code()
    }

    /// Whether the instruction could not be fetched, so that there is none to look at.
    fn is_fetch(&self) -> bool {
        use Exception::*;
        [InstructionAddressMisaligned, InstructionAccessFault, InstructionPageFault]
            .iter()
            .any(|&fetch| self.is(fetch))
    }
}

/// The integer registers with the pc and sstatus to resume with.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Frame {
    /// x0 to x31; the first is not used.
    pub x: [u64; 32],
    /// The pc.
    pub pc: u64,
    /// sstatus.
    pub sstatus: u64,
}

impl Frame {
    /// All zero.
    pub const ZERO: Self = Self { x: [0; 32], pc: 0, sstatus: 0 };
}

/// The registers of what trapped last, written by the vector.
struct Saved(UnsafeCell<Frame>);
// SAFETY: there is one hart, and the vector runs with interrupts off.
unsafe impl Sync for Saved {}
static SAVED: Saved = Saved(UnsafeCell::new(Frame::ZERO));

#[repr(C, align(16))]
struct Stack(UnsafeCell<[u8; STACK_SIZE]>);
// SAFETY: only the vector uses it, on one hart.
unsafe impl Sync for Stack {}
const STACK_SIZE: usize = 0x4000;
static STACK: Stack = Stack(UnsafeCell::new([0; STACK_SIZE]));

/// Whether a trap from supervisor mode is expected.
static EXPECTED: AtomicBool = AtomicBool::new(false);
/// Whether `CAUGHT` holds a trap.
static CAME: AtomicBool = AtomicBool::new(false);
static CAUGHT: [AtomicU64; 4] = [const { AtomicU64::new(0) }; 4];

// Saves all registers in SAVED, calls `handle` on a stack of its own, and either resumes what trapped or, on
// a true result, leaves for the caller of `user::run`.
global_asm!(r"
    .pushsection .text
    .balign 4
    trap_vector:
        csrw sscratch, t0
        lla t0, {saved}
        .irp n, 1,2,3,4,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31
            sd x\n, 8*\n(t0)
        .endr
        csrr t1, sscratch
        sd t1, 8*5(t0)
        csrr t1, sepc
        sd t1, {pc}(t0)
        csrr t1, sstatus
        sd t1, {sstatus}(t0)
        lla sp, {stack}
        li t1, {stack_size}
        add sp, sp, t1
        call {handle}
        bnez a0, user_left
        lla a0, {saved}
    resume_frame: # a0 points to the frame
        ld t0, {pc}(a0)
        csrw sepc, t0
        ld t0, {sstatus}(a0)
        csrw sstatus, t0
        .irp n, 1,2,3,4,5,6,7,8,9,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31
            ld x\n, 8*\n(a0)
        .endr
        ld a0, 8*10(a0)
        sret
    .popsection
    ",
    saved = sym SAVED,
    stack = sym STACK,
    stack_size = const STACK_SIZE,
    handle = sym handle,
    pc = const offset_of!(Frame, pc),
    sstatus = const offset_of!(Frame, sstatus),
);

unsafe extern "C" {
    safe fn trap_vector();
}

/// Points stvec to the vector of this module, direct mode.
pub fn install() {
    csr_write!(STVEC, trap_vector as *const () as u64);
}

/// Runs `body` and gives the first trap that it took in supervisor mode. Later ones are skipped as well.
///
/// What may trap should be assembly: a skipped instruction leaves its destination as it was.
pub fn catch(body: impl FnOnce()) -> Option<Trap> {
    CAME.store(false, Relaxed);
    EXPECTED.store(true, Relaxed);
    body();
    EXPECTED.store(false, Relaxed);
    CAME.load(Relaxed).then(|| {
        let [cause, tval, epc, sstatus] = CAUGHT.each_ref().map(|part| part.load(Relaxed));
        Trap { cause, tval, epc, sstatus }
    })
}

/// The registers as the last trap found them.
pub(crate) fn saved() -> Frame {
    // SAFETY: the vector is not running, so nothing writes them.
    unsafe { *SAVED.0.get() }
}

/// Decides what a trap means; true leaves user mode. Called by the vector only.
extern "C" fn handle() -> bool {
    // SAFETY: the vector has filled it and waits for this function; nobody else looks.
    let frame = unsafe { &mut *SAVED.0.get() };
    let trap =
        Trap { cause: csr_read!(SCAUSE), tval: csr_read!(STVAL), epc: frame.pc, sstatus: frame.sstatus };
    if trap.sstatus & sstatus::SPP == 0 {
        record(trap);
        return true;
    }
    if !EXPECTED.load(Relaxed) {
        report(&trap, frame);
    }
    record(trap);
    if trap.cause & Interrupt::CAUSE_BIT != 0 {
        frame.sstatus &= !sstatus::SPIE;
    } else if trap.is_fetch() {
        frame.pc = frame.x[1];
    } else {
        frame.pc = trap.epc.wrapping_add(instruction_length(trap.epc));
    }
    false
}

/// Keeps the first trap of a `catch`.
fn record(trap: Trap) {
    if !CAME.swap(true, Relaxed) {
        for (part, value) in CAUGHT.iter().zip([trap.cause, trap.tval, trap.epc, trap.sstatus]) {
            part.store(value, Relaxed);
        }
    }
}

/// The trap that ended user mode.
pub(crate) fn take_user_trap(enter: impl FnOnce()) -> Trap {
    CAME.store(false, Relaxed);
    enter();
    let [cause, tval, epc, sstatus] = CAUGHT.each_ref().map(|part| part.load(Relaxed));
    Trap { cause, tval, epc, sstatus }
}

/// Bytes of the instruction at `pc`, whatever the page's permissions.
fn instruction_length(pc: u64) -> u64 {
    let before = csr_set!(SSTATUS, sstatus::MXR | sstatus::SUM);
    // SAFETY: the hart fetched this instruction just now, so with MXR and SUM it can be read.
    let low = unsafe { (pc as *const u16).read_volatile() };
    csr_clear!(SSTATUS, !before & (sstatus::MXR | sstatus::SUM));
    isa::instr::length(low)
}

/// Ends the machine on a trap that nobody expected.
fn report(trap: &Trap, frame: &Frame) -> ! {
    println!(
        "FAILED unexpected trap: cause {:#x} stval {:#x} sepc {:#x} sstatus {:#x}",
        trap.cause, trap.tval, trap.epc, trap.sstatus
    );
    for (name, values) in
        ["x0 ", "x4 ", "x8 ", "x12", "x16", "x20", "x24", "x28"].iter().zip(frame.x.chunks_exact(4))
    {
        println!("  {name} {:016x} {:016x} {:016x} {:016x}", values[0], values[1], values[2], values[3]);
    }
    finisher::fail(finisher::UNEXPECTED_TRAP)
}
