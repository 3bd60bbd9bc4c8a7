//! The `time` counter. Its frequency is the device tree's; on QEMU `virt` 10 MHz.

use core::arch::asm;

/// Ticks of `time` in a second on QEMU `virt`, and under the hypervisor there.
pub const FREQUENCY: u64 = 10_000_000;

/// The `time` counter.
pub fn now() -> u64 {
    let ticks;
    // SAFETY: reading a counter touches no memory.
    unsafe { asm!("rdtime {}", out(reg) ticks, options(nomem, nostack)) };
    ticks
}

/// Spins until `done` holds, at most for `ticks`; says whether it came to hold.
pub fn wait_until(ticks: u64, mut done: impl FnMut() -> bool) -> bool {
    let start = now();
    loop {
        if done() {
            return true;
        }
        if now().wrapping_sub(start) >= ticks {
            return done(); // the host may have been away since the look before
        }
        core::hint::spin_loop();
    }
}

/// Spins for `ticks`.
pub fn spin(ticks: u64) {
    wait_until(ticks, || false);
}
