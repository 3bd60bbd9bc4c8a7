//! The test finisher of QEMU `virt` (`sifive,test1`): ends the machine with a verdict.

/// Physical address of the finisher's one register, on a page of its own.
pub const ADDRESS: u64 = 0x10_0000;

const FINISHER: *mut u32 = ADDRESS as *mut u32;
const PASS: u32 = 0x5555;
const FAIL: u32 = 0x3333;

/// Failure code: a check failed.
pub const CHECKS_FAILED: u16 = 1;
/// Failure code: an unexpected trap.
pub const UNEXPECTED_TRAP: u16 = 2;
/// Failure code: a panic.
pub const PANICKED: u16 = 3;

/// Powers off with success: QEMU's exit status is 0.
pub fn pass() -> ! {
    finish(PASS)
}

/// Powers off with failure: QEMU's exit status is `code`.
pub fn fail(code: u16) -> ! {
    finish(u32::from(code) << 16 | FAIL)
}

fn finish(word: u32) -> ! {
    // SAFETY: the finisher's one register, mapped one to one by all page tables of ours.
    unsafe { FINISHER.write_volatile(word) };
    loop {
        core::hint::spin_loop();
    }
}
