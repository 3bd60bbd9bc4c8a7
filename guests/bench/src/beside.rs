//! A bare guest that works all the time and says what a guest beside it costs in a second: what it is told that others had,
//! once they have started. Prints as the other benchmark does.
#![no_std]
#![no_main]

use core::arch::asm;
use guest_rt::{csr_write, println, sbi, steal, time};

guest_rt::entry!(main);

/// Until then the guest beside it starts, on the clock that both see.
const START: u64 = 20 * time::FREQUENCY;
/// For so many seconds.
const SECONDS: u64 = 4;
/// Nanoseconds of a tick.
const TICK: u64 = 1_000_000_000 / time::FREQUENCY;

fn main(_hart: u64, _device_tree: u64) {
    csr_write!(SIE, 1u64 << 5);
    sbi::set_timer(START);
    while time::now() < START {
        // SAFETY: waits.
        unsafe { asm!("wfi", options(nomem, nostack)) };
    }
    csr_write!(SIE, 0u64);
    let told = steal::begin();
    let before = steal::stolen();
    while time::now() < START + SECONDS * time::FREQUENCY {
        core::hint::spin_loop();
    }
    let stolen = steal::stolen() - before;
    if told != 0 {
        println!("nobody says what is stolen: {told}");
    }
    println!("bench idle-linux-second {SECONDS} {}", stolen / TICK);
    println!("measured");
}
