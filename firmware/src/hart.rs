//! This hart: its number, and what M-mode sets up on it before S-mode runs.

use crate::csr::{self, interrupt, menvcfg, misa, mstatus, number};
use crate::map;
use core::arch::asm;
use core::sync::atomic::{AtomicBool, Ordering};

/// Exceptions that stay here: calls from S-mode, which are ours, and calls from M-mode. Everything else is the
/// business of S-mode, illegal instructions and misaligned accesses (QEMU's harts make none in RAM) among them.
const KEPT: u64 = 1 << 9 | 1 << 11;

/// Physical memory protection: an entry's mode NAPOT (a power of two, aligned), and all rights.
const NAPOT: u64 = 3 << 3;
const ALL_RIGHTS: u64 = 0b111;

/// Whether harts have Sstc; they are all of one kind.
static SSTC: AtomicBool = AtomicBool::new(false);

/// The number of this hart.
pub fn id() -> usize {
    csr::read!("mhartid") as usize
}

/// Whether S-mode's timer is its own register, and the timer interrupt with it.
pub fn has_sstc() -> bool {
    SSTC.load(Ordering::Relaxed)
}

/// Sets up delegation, counters and memory protection.
pub fn init() {
    csr::write!("mie", 0);
    csr::clear!("mip", interrupt::SUPERVISOR);
    csr::clear!("mstatus", mstatus::MIE | mstatus::MPRV | mstatus::TVM | mstatus::TW | mstatus::TSR);
    // Bits that the hart does not have stay 0.
    csr::write!("medeleg", !KEPT);
    csr::write!("mideleg", interrupt::SUPERVISOR);
    // Cycles, time, instructions, and what else there is to count, for S-mode to pass on.
    csr::write!("mcounteren", u32::MAX.into());
    open_environment();
    protect();
}

/// Lets S-mode use what later extensions have added.
fn open_environment() {
    let wanted = menvcfg::CACHE_BLOCKS | menvcfg::PBMTE | menvcfg::STCE;
    // QEMU 7.2 takes STCE without Sstc, so the register itself is asked. The highest deadline is never.
    let granted = csr::set_if_present!(number::MENVCFG, wanted).is_some();
    let sstc = granted && csr::set_if_present!(number::STIMECMP, u64::MAX).is_some();
    SSTC.store(sstc, Ordering::Relaxed);
    // State that lower modes might have added (Smstateen).
    let _ = csr::set_if_present!(number::MSTATEEN0, u64::MAX);
    let _ = csr::set_if_present!(number::MSECCFG, csr::SSEED);
}

/// Sets S-mode's own timer. For harts with Sstc.
pub fn set_stimecmp(deadline: u64) {
    // SAFETY: the hart has the register, by the caller; it only makes a timer interrupt of S-mode.
    unsafe { asm!("csrw {}, {}", const number::STIMECMP, in(reg) deadline, options(nostack)) };
}

/// Closes our own memory to S-mode and U-mode, and opens the rest.
fn protect() {
    let size = map::OWN.end - map::OWN.start;
    // Some of QEMU's CPUs have no such protection, and all memory is open.
    if csr::set_if_present!(number::PMPADDR0, 0).is_none() {
        return;
    }
    csr::write!("pmpaddr0", (map::OWN.start | (size / 2 - 1)) >> 2);
    csr::write!("pmpaddr1", u64::MAX);
    csr::write!("pmpcfg0", (NAPOT | ALL_RIGHTS) << 8 | NAPOT);
    fence_memory();
}

/// Masks all interrupts of this hart's contexts at the interrupt controller, for S-mode to open.
pub fn mask_interrupts() {
    for context in [2 * id(), 2 * id() + 1] {
        map::plic_threshold(context).write(map::HIGHEST_PRIORITY);
    }
}

/// Puts 0 into the floating-point registers and fcsr. Gives the bits of mstatus that turn on the units that the hart has;
/// QEMU 7.2 keeps VS without V, so that misa is asked.
pub fn reset_units() -> u64 {
    let extensions = csr::read!("misa");
    let vector = if extensions & misa::V != 0 { mstatus::VS } else { 0 };
    if extensions & misa::F == 0 {
        return vector;
    }
    csr::set!("mstatus", mstatus::FS);
    // SAFETY: the hart has F, which is on, and this program is built without it.
    unsafe {
        asm!(
            ".option push",
            ".option arch, +f",
            ".irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31",
            "fmv.w.x f\\n, zero",
            ".endr",
            "csrw fcsr, zero",
            ".option pop",
            options(nomem, nostack),
        )
    };
    vector | mstatus::FS
}

/// Forgets all translations of this hart.
pub fn fence_memory() {
    // SAFETY: costs time, no more.
    unsafe { asm!("sfence.vma", options(nostack)) };
}

/// Lets this hart fetch what it has written.
pub fn fence_instructions() {
    // SAFETY: costs time, no more.
    unsafe { asm!("fence.i", options(nostack)) };
}

/// Waits for an interrupt of those in mie, which is not taken, or for nothing.
pub fn wait() {
    // SAFETY: M-mode's interrupts are off, so the hart goes on behind the instruction.
    unsafe { asm!("wfi", options(nostack)) };
}

/// Stops for ever.
pub fn halt() -> ! {
    loop {
        wait();
    }
}
