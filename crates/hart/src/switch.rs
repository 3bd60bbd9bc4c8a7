//! The world switch: runs a guest until it traps, and holds the hart state that goes with a vCPU.

use core::mem::offset_of;
use core::sync::atomic::{AtomicPtr, Ordering};

use isa::csr::sstatus;
use isa::{TrapFrame, TrapInfo};
use memory::HostPhysAddr;

use crate::csr;
use crate::fault;

/// What this hart has, as far as it differs between harts.
#[derive(Clone, Copy, Debug)]
pub struct HartFeatures {
    /// satp holds at least this many ASID bits.
    pub asid_bits: u32,
    /// There is a senvcfg.
    pub senvcfg: bool,
    /// cycle and instret can be read.
    pub counters: bool,
}

/// The state of the real hart that is kept from one run to the next.
#[derive(Debug)]
pub struct Hart {
    features: HartFeatures,
    satp: u64,
    senvcfg: u64,
    scounteren: u64,
}

/// What the hart runs a guest with, beside the registers.
#[derive(Clone, Copy, Debug)]
pub struct Environment {
    /// The shadow root, with its mode.
    pub mode: isa::paging::Mode,
    /// The shadow root's address.
    pub root: HostPhysAddr,
    /// The ASID to run it under; used where the hart has enough bits.
    pub asid: u16,
    /// sstatus.FS and VS, in their places.
    pub unit_states: u64,
    /// senvcfg.
    pub senvcfg: u64,
    /// scounteren.
    pub scounteren: u64,
}

/// The frame of the guest that ran last, for a panic's epitaph.
static RUNNING: AtomicPtr<TrapFrame> = AtomicPtr::new(core::ptr::null_mut());

/// The registers of the guest that ran last, if any did. For a panic's epitaph only.
pub fn last_frame() -> Option<TrapFrame> {
    let frame = RUNNING.load(Ordering::Relaxed);
    // SAFETY: frames belong to vCPUs, which live as long as the hypervisor; after a panic nobody writes one.
    unsafe { frame.as_ref() }.cloned()
}

/// Bits of sie that the hypervisor wants: software, timer and external.
const SIE: u64 = 1 << 1 | 1 << 5 | 1 << 9;

impl Hart {
    /// Takes over the hart that this runs on: finds its features and lets its interrupts end a guest's run.
    ///
    /// Interrupts stay off while the hypervisor runs: sstatus.SIE is never set.
    pub fn take_over() -> Self {
        let counters = csr::probe!("cycle").is_some() && csr::probe!("instret").is_some();
        let senvcfg = csr::probe!("senvcfg").is_some();
        let satp = csr::read!("satp");
        const ASID: u64 = 0xffff << 44;
        csr::write!("satp", satp | ASID);
        let asid_bits = (csr::read!("satp") & ASID).count_ones();
        csr::write!("satp", satp);
        csr::write!("sie", SIE);
        let hart = Self {
            features: HartFeatures { asid_bits, senvcfg, counters },
            satp,
            // Not what a guest is given, so the first run sets both.
            senvcfg: u64::MAX,
            scounteren: u64::MAX,
        };
        hart.flush_all();
        hart
    }

    /// What the hart has.
    pub fn features(&self) -> HartFeatures {
        self.features
    }

    /// Runs a guest in user mode until it traps. Returns what the trap was and the real sstatus after it.
    #[inline]
    pub fn run(&mut self, frame: &mut TrapFrame, environment: &Environment) -> (TrapInfo, u64) {
        let asids = self.features.asid_bits >= 8;
        let asid = if asids { u64::from(environment.asid) } else { 0 };
        let satp = (environment.mode as u64) << 60 | asid << 44 | environment.root.0 >> 12;
        if satp != self.satp {
            self.satp = satp;
            // The shadow root carries the hypervisor's window, so this code stays mapped.
            csr::write!("satp", satp);
            if !asids {
                self.flush_all();
            }
        }
        if environment.senvcfg != self.senvcfg && self.features.senvcfg {
            self.senvcfg = environment.senvcfg;
            csr::write!("senvcfg", environment.senvcfg);
        }
        if environment.scounteren != self.scounteren {
            self.scounteren = environment.scounteren;
            csr::write!("scounteren", environment.scounteren);
        }
        RUNNING.store(frame, Ordering::Relaxed);
        // SPP, SUM and MXR are clear, and user mode does not ask SIE.
        csr::write!("sstatus", sstatus::UXL_64 | sstatus::SPIE | environment.unit_states);
        // SAFETY: `switch` restores every register that the calling convention wants kept; the guest runs in user
        // mode under a root in which nothing of the hypervisor's is accessible to it.
        let trap = unsafe { switch(frame) };
        let after = csr::read!("sstatus");
        csr::write!("sstatus", sstatus::UXL_64);
        (TrapInfo { cause: trap.cause, value: trap.value }, after)
    }

    /// Forgets all address translations.
    pub fn flush_all(&self) {
        // SAFETY: a fence.
        unsafe { core::arch::asm!("sfence.vma", options(nostack)) };
    }

    /// Forgets the translation of one address, in all address spaces.
    pub fn flush_address(&self, address: u64) {
        // SAFETY: a fence.
        unsafe { core::arch::asm!("sfence.vma {}, zero", in(reg) address, options(nostack)) };
    }

    /// Makes fetches see what was stored.
    pub fn fence_i(&self) {
        // SAFETY: a fence.
        unsafe { core::arch::asm!("fence.i", options(nostack)) };
    }

    /// Breaks a reservation that the vCPU before may have left.
    pub fn break_reservation(&self) {
        let mut word = 0_u64;
        // SAFETY: stores to a local variable, or not.
        unsafe {
            core::arch::asm!("sc.d zero, zero, ({})", in(reg) &raw mut word, options(nostack));
        }
    }

    /// Waits until an interrupt is pending.
    pub fn wait_for_interrupt(&self) {
        // SAFETY: interrupts are enabled in sie but not in sstatus, so the hart wakes and goes on.
        unsafe { core::arch::asm!("wfi", options(nomem, nostack)) };
    }

    /// The interrupts that are pending and enabled, as bits of sip.
    pub fn pending_interrupts(&self) -> u64 {
        csr::read!("sip") & csr::read!("sie")
    }

    /// Lets the timer interrupt this hart, or not. Masking a timer that has fired is cheaper than a firmware call.
    pub fn mask_timer(&self, masked: bool) {
        const STIE: u64 = 1 << 5;
        // SAFETY: changes STIE only.
        unsafe {
            if masked {
                core::arch::asm!("csrc sie, {}", in(reg) STIE, options(nomem, nostack));
            } else {
                core::arch::asm!("csrs sie, {}", in(reg) STIE, options(nomem, nostack));
            }
        }
    }

    /// Takes a software interrupt as served.
    pub fn clear_software_interrupt(&self) {
        // SAFETY: clears SSIP only.
        unsafe { core::arch::asm!("csrci sip, 2", options(nomem, nostack)) };
    }
}

#[repr(C)]
struct RawTrap {
    cause: u64,
    value: u64,
}

/// Loads the guest's registers, runs it, and returns when it traps.
///
/// Owns, while the guest runs: sscratch (the frame), sepc, stvec. Keeps ra, sp, s0-s11 on the stack; gp and tp are
/// not used by the hypervisor.
#[unsafe(naked)]
unsafe extern "C" fn switch(frame: &mut TrapFrame) -> RawTrap {
    core::arch::naked_asm!(
        // The hypervisor's callee-saved registers.
        "addi sp, sp, -112",
        "sd ra, 0(sp)", "sd s0, 8(sp)", "sd s1, 16(sp)", "sd s2, 24(sp)", "sd s3, 32(sp)", "sd s4, 40(sp)",
        "sd s5, 48(sp)", "sd s6, 56(sp)", "sd s7, 64(sp)", "sd s8, 72(sp)", "sd s9, 80(sp)", "sd s10, 88(sp)",
        "sd s11, 96(sp)",
        "sd sp, {HOST_SP}(a0)",
        "csrw sscratch, a0",
        "lla t0, 2f",
        "csrw stvec, t0",
        "ld t0, {PC}(a0)",
        "csrw sepc, t0",
        // The guest's registers, a0 last.
        "ld ra, 8(a0)", "ld sp, 16(a0)", "ld gp, 24(a0)", "ld tp, 32(a0)", "ld t0, 40(a0)", "ld t1, 48(a0)",
        "ld t2, 56(a0)", "ld s0, 64(a0)", "ld s1, 72(a0)", "ld a1, 88(a0)", "ld a2, 96(a0)", "ld a3, 104(a0)",
        "ld a4, 112(a0)", "ld a5, 120(a0)", "ld a6, 128(a0)", "ld a7, 136(a0)", "ld s2, 144(a0)",
        "ld s3, 152(a0)", "ld s4, 160(a0)", "ld s5, 168(a0)", "ld s6, 176(a0)", "ld s7, 184(a0)",
        "ld s8, 192(a0)", "ld s9, 200(a0)", "ld s10, 208(a0)", "ld s11, 216(a0)", "ld t3, 224(a0)",
        "ld t4, 232(a0)", "ld t5, 240(a0)", "ld t6, 248(a0)",
        "ld a0, 80(a0)",
        "sret",
        // A trap from the guest lands here.
        ".balign 4",
        "2:",
        "csrrw a0, sscratch, a0",
        "sd ra, 8(a0)", "sd sp, 16(a0)", "sd gp, 24(a0)", "sd tp, 32(a0)", "sd t0, 40(a0)", "sd t1, 48(a0)",
        "sd t2, 56(a0)", "sd s0, 64(a0)", "sd s1, 72(a0)", "sd a1, 88(a0)", "sd a2, 96(a0)", "sd a3, 104(a0)",
        "sd a4, 112(a0)", "sd a5, 120(a0)", "sd a6, 128(a0)", "sd a7, 136(a0)", "sd s2, 144(a0)",
        "sd s3, 152(a0)", "sd s4, 160(a0)", "sd s5, 168(a0)", "sd s6, 176(a0)", "sd s7, 184(a0)",
        "sd s8, 192(a0)", "sd s9, 200(a0)", "sd s10, 208(a0)", "sd s11, 216(a0)", "sd t3, 224(a0)",
        "sd t4, 232(a0)", "sd t5, 240(a0)", "sd t6, 248(a0)",
        "csrr t0, sscratch",
        "sd t0, 80(a0)",
        "csrr t0, sepc",
        "sd t0, {PC}(a0)",
        // From here on a trap is the hypervisor's own.
        "lla t0, {host_trap}",
        "csrw stvec, t0",
        "ld sp, {HOST_SP}(a0)",
        "ld ra, 0(sp)", "ld s0, 8(sp)", "ld s1, 16(sp)", "ld s2, 24(sp)", "ld s3, 32(sp)", "ld s4, 40(sp)",
        "ld s5, 48(sp)", "ld s6, 56(sp)", "ld s7, 64(sp)", "ld s8, 72(sp)", "ld s9, 80(sp)", "ld s10, 88(sp)",
        "ld s11, 96(sp)",
        "addi sp, sp, 112",
        "csrr a0, scause",
        "csrr a1, stval",
        "ret",
        PC = const offset_of!(TrapFrame, pc),
        HOST_SP = const offset_of!(TrapFrame, host_sp),
        host_trap = sym fault::host_trap,
    )
}

// The offsets of the registers above: x0 to x31 come first in the frame.
const _: () = assert!(TrapFrame::REGISTERS_OFFSET == 0);
