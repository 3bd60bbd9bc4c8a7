//! How an operation is measured, and the line that says what it takes.

use core::arch::asm;
use guest_rt::{println, time};

/// Ticks that the operation takes `iterations` times.
#[inline(always)]
pub fn ticks(iterations: u64, mut operation: impl FnMut()) -> u64 {
    let start = time::now();
    for _ in 0..iterations {
        operation();
    }
    time::now() - start
}

/// The same, less what the loop alone takes.
#[inline(always)]
pub fn net_ticks(iterations: u64, operation: impl FnMut()) -> u64 {
    // SAFETY: no instruction at all; an empty block that the compiler cannot drop.
    let alone = ticks(iterations, || unsafe { asm!("", options(nomem, nostack)) });
    ticks(iterations, operation).saturating_sub(alone)
}

/// Measures and reports an operation.
#[inline(always)]
pub fn item(name: &str, iterations: u64, operation: impl FnMut()) {
    report(name, iterations, net_ticks(iterations, operation));
}

/// Prints what `iterations` of an operation took.
pub fn report(name: &str, iterations: u64, ticks: u64) {
    println!("bench {name} {iterations} {ticks}");
}
