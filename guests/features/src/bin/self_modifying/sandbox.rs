//! Runs code until its first trap of any kind, in either mode, with all registers given and taken.

use core::arch::{asm, global_asm};
use core::cell::UnsafeCell;
use core::mem::offset_of;
use guest_rt::isa::csr::sstatus;
use guest_rt::{csr_read, csr_write};

/// What a run begins with, and what it ends with.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct State {
    /// x0 to x31.
    pub x: [u64; 32],
    pub pc: u64,
    pub sstatus: u64,
    pub satp: u64,
    pub cause: u64,
    pub tval: u64,
}

impl State {
    pub const ZERO: Self = Self { x: [0; 32], pc: 0, sstatus: 0, satp: 0, cause: 0, tval: 0 };
}

#[repr(C)]
struct Cell<T>(UnsafeCell<T>);
// SAFETY: there is one hart, and one run at a time.
unsafe impl<T> Sync for Cell<T> {}

static STATE: Cell<State> = Cell(UnsafeCell::new(State::ZERO));
/// The registers that a C function must keep, of the caller of `sandbox_enter`.
static KEPT: Cell<[u64; 16]> = Cell(UnsafeCell::new([0; 16]));

// The vector takes no register for granted: the code may have changed all, sscratch among them. It clobbers sscratch.
global_asm!(r"
    .pushsection .text
    .balign 4
    sandbox_left:
        csrw sscratch, t0
        lla t0, {state}
        .irp n, 1,2,3,4,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31
            sd x\n, 8*\n(t0)
        .endr
        csrr t1, sscratch
        sd t1, 8*5(t0)
        csrr t1, sepc
        sd t1, {pc}(t0)
        csrr t1, sstatus
        sd t1, {sstatus}(t0)
        csrr t1, satp
        sd t1, {satp}(t0)
        csrr t1, scause
        sd t1, {cause}(t0)
        csrr t1, stval
        sd t1, {tval}(t0)
        lla t0, {kept}
        ld ra, 0(t0)
        ld sp, 8(t0)
        ld gp, 16(t0)
        ld tp, 24(t0)
        .irp n, 0,1,2,3,4,5,6,7,8,9,10,11
            ld s\n, 32 + 8*\n(t0)
        .endr
        ret
    sandbox_enter:
        lla t0, {kept}
        sd ra, 0(t0)
        sd sp, 8(t0)
        sd gp, 16(t0)
        sd tp, 24(t0)
        .irp n, 0,1,2,3,4,5,6,7,8,9,10,11
            sd s\n, 32 + 8*\n(t0)
        .endr
        lla a0, {state}
        ld t0, {pc}(a0)
        csrw sepc, t0
        ld t0, {satp}(a0)
        csrw satp, t0
        sfence.vma
        ld t0, {sstatus}(a0)
        csrw sstatus, t0
        .irp n, 1,2,3,4,5,6,7,8,9,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31
            ld x\n, 8*\n(a0)
        .endr
        ld a0, 8*10(a0)
        fence.i
        sret
    .popsection
    ",
    state = sym STATE,
    kept = sym KEPT,
    pc = const offset_of!(State, pc),
    sstatus = const offset_of!(State, sstatus),
    satp = const offset_of!(State, satp),
    cause = const offset_of!(State, cause),
    tval = const offset_of!(State, tval),
);

unsafe extern "C" {
    safe fn sandbox_left();
    fn sandbox_enter();
}

/// Runs from `state` until a trap. The kernel is mapped one to one in each address space that the code can get to.
pub fn run(state: &mut State) {
    let (vector, status, satp) = (csr_read!(STVEC), csr_read!(SSTATUS), csr_read!(SATP));
    // SAFETY: nothing runs that looks at it.
    unsafe { *STATE.0.get() = *state };
    csr_write!(STVEC, sandbox_left as *const () as u64);
    // SAFETY: the vector comes back here with the registers that a C function keeps.
    unsafe { asm!("call {}", sym sandbox_enter, clobber_abi("C")) };
    csr_write!(STVEC, vector);
    csr_write!(SATP, satp);
    guest_rt::paging::fence_all();
    csr_write!(SSTATUS, status & !sstatus::SIE);
    // SAFETY: the vector has written it and is left.
    *state = unsafe { *STATE.0.get() };
}
