//! What a hart's registers hold when it is handed to a kernel: recorded before anything of the kernel's has touched them.
//!
//! Also the suspension of this hart that comes back at an address of the caller's, with what it found there.

use core::arch::global_asm;
use core::cell::UnsafeCell;
use core::mem::offset_of;
use guest_rt::isa::csr::{CsrAddr, sstatus};
use guest_rt::sbi::HSM;

/// What firmware puts into each floating-point register before it hands a hart over: 0 in single precision, boxed.
pub const SINGLE_ZERO: u64 = 0xffff_ffff_0000_0000;

/// Registers as they were found. t0 and t1 are not recorded.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
#[allow(missing_docs)] // The names are the specification's.
pub struct State {
    /// x0 to x31; those of x0, t0 and t1 are 0.
    pub x: [u64; 32],
    pub sstatus: u64,
    pub sie: u64,
    pub sip: u64,
    pub stvec: u64,
    pub scounteren: u64,
    pub sscratch: u64,
    pub sepc: u64,
    pub scause: u64,
    pub stval: u64,
    pub satp: u64,
    /// 0 where FS was Off.
    pub fcsr: u64,
    /// f0 to f31; all 0 where FS was Off.
    pub f: [u64; 32],
}

impl State {
    /// Nothing recorded.
    pub const EMPTY: Self = Self {
        x: [0; 32],
        sstatus: 0,
        sie: 0,
        sip: 0,
        stvec: 0,
        scounteren: 0,
        sscratch: 0,
        sepc: 0,
        scause: 0,
        stval: 0,
        satp: 0,
        fcsr: 0,
        f: [0; 32],
    };
}

// Records the registers at t0 and returns to t1. Changes no register but t0 and t1, and no CSR.
global_asm!(
    r"
    .pushsection .text
    .globl record_state
    .option push
    .option arch, +d
    record_state:
        .irp n, 1,2,3,4,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31
            sd x\n, 8*\n(t0)
        .endr
        sd t1, 8*6(t0)
        csrr t1, {SSTATUS}
        sd t1, {sstatus}(t0)
        csrr t1, {SIE}
        sd t1, {sie}(t0)
        csrr t1, {SIP}
        sd t1, {sip}(t0)
        csrr t1, {STVEC}
        sd t1, {stvec}(t0)
        csrr t1, {SCOUNTEREN}
        sd t1, {scounteren}(t0)
        csrr t1, {SSCRATCH}
        sd t1, {sscratch}(t0)
        csrr t1, {SEPC}
        sd t1, {sepc}(t0)
        csrr t1, {SCAUSE}
        sd t1, {scause}(t0)
        csrr t1, {STVAL}
        sd t1, {stval}(t0)
        csrr t1, {SATP}
        sd t1, {satp}(t0)
        # An instruction of a unit that is off would trap.
        ld t1, {sstatus}(t0)
        srli t1, t1, 13
        andi t1, t1, 3
        beqz t1, 1f
        csrr t1, {FCSR}
        sd t1, {fcsr}(t0)
        .irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31
            fsd f\n, {f} + 8*\n(t0)
        .endr
    1:  ld t1, 8*6(t0)
        sd zero, 8*6(t0)
        jr t1
    .option pop
    .popsection
    ",
    SSTATUS = const CsrAddr::SSTATUS.as_u16(),
    SIE = const CsrAddr::SIE.as_u16(),
    SIP = const CsrAddr::SIP.as_u16(),
    STVEC = const CsrAddr::STVEC.as_u16(),
    SCOUNTEREN = const CsrAddr::SCOUNTEREN.as_u16(),
    SSCRATCH = const CsrAddr::SSCRATCH.as_u16(),
    SEPC = const CsrAddr::SEPC.as_u16(),
    SCAUSE = const CsrAddr::SCAUSE.as_u16(),
    STVAL = const CsrAddr::STVAL.as_u16(),
    SATP = const CsrAddr::SATP.as_u16(),
    FCSR = const CsrAddr::FCSR.as_u16(),
    sstatus = const offset_of!(State, sstatus),
    sie = const offset_of!(State, sie),
    sip = const offset_of!(State, sip),
    stvec = const offset_of!(State, stvec),
    scounteren = const offset_of!(State, scounteren),
    sscratch = const offset_of!(State, sscratch),
    sepc = const offset_of!(State, sepc),
    scause = const offset_of!(State, scause),
    stval = const offset_of!(State, stval),
    satp = const offset_of!(State, satp),
    fcsr = const offset_of!(State, fcsr),
    f = const offset_of!(State, f),
);
const _: () = assert!(sstatus::FS == 3 << 13);

/// A place that assembly records to.
#[repr(transparent)]
pub struct Record(UnsafeCell<State>);
// SAFETY: whoever records does so before anybody reads.
unsafe impl Sync for Record {}

impl Record {
    /// Holds nothing yet.
    pub const fn new() -> Self {
        Self(UnsafeCell::new(State::EMPTY))
    }

    /// What was recorded.
    pub fn get(&self) -> State {
        // SAFETY: the recording is over.
        unsafe { self.0.get().read_volatile() }
    }

    /// Where to record.
    pub fn address(&self) -> u64 {
        self.0.get() as u64
    }
}

impl Default for Record {
    fn default() -> Self {
        Self::new()
    }
}

/// What `suspend_hart` keeps of its caller: ra, sp, gp, tp, s0 to s11, stvec; and what it found on resuming.
#[repr(C)]
struct Context {
    kept: [u64; 17],
    found: State,
}

struct Shared(UnsafeCell<Context>);
// SAFETY: there is one hart.
unsafe impl Sync for Shared {}
static CONTEXT: Shared = Shared(UnsafeCell::new(Context { kept: [0; 17], found: State::EMPTY }));

// Suspends with type a0 and the context at a1 as the opaque value. Gives the error, or 1 after a resume at
// the address that was given.
global_asm!(
    r"
    .pushsection .text
    suspend_hart:
        sd ra, 0(a1)
        sd sp, 8(a1)
        sd gp, 16(a1)
        sd tp, 24(a1)
        .irp n, 0,1,2,3,4,5,6,7,8,9,10,11
            sd s\n, 32 + 8*\n(a1)
        .endr
        csrr t0, stvec
        sd t0, 128(a1)
        mv a2, a1
        lla a1, hart_resumes
        li a6, 3
        li a7, {hsm}
        ecall
        ret
        .balign 4
    hart_resumes:
        addi t0, a1, {found}
        jal t1, record_state
        ld ra, 0(a1)
        ld sp, 8(a1)
        ld gp, 16(a1)
        ld tp, 24(a1)
        .irp n, 0,1,2,3,4,5,6,7,8,9,10,11
            ld s\n, 32 + 8*\n(a1)
        .endr
        ld t0, 128(a1)
        csrw stvec, t0
        li a0, 1
        ret
    .popsection
    ",
    hsm = const HSM,
    found = const offset_of!(Context, found),
);

unsafe extern "C" {
    fn suspend_hart(kind: u64, context: *mut Context) -> i64;
    safe fn hart_resumes();
}

/// Suspends this hart with an HSM type and an address to resume at; a retentive type returns instead.
///
/// # Errors
/// What the call returned, if it did.
pub fn suspend(kind: u64) -> Result<State, i64> {
    // SAFETY: keeps to the C convention whichever way it comes back; the kernel is mapped one to one, so it
    // can go on without translation.
    let result = unsafe { suspend_hart(kind, CONTEXT.0.get()) };
    if result != 1 {
        return Err(result);
    }
    // SAFETY: written by `suspend_hart`, which has returned.
    Ok(unsafe { &*CONTEXT.0.get() }.found)
}

/// Where [`suspend`] resumes.
pub fn resume_address() -> u64 {
    hart_resumes as *const () as u64
}

/// The opaque value that [`suspend`] gives.
pub fn opaque() -> u64 {
    CONTEXT.0.get() as u64
}
