//! Takes a trap with stvec where there is no memory, without translation: every fetch of the handler is an
//! access fault. A hart would spin for ever; the hypervisor stops the machine with a reason (exit status 33).
//! Not run natively.
#![no_std]
#![no_main]

use core::arch::asm;
use guest_rt::mmio::HOLE;
use guest_rt::{csr_write, finisher, println};

guest_rt::entry!(main);

fn main(_hart: u64, _device_tree: u64) {
    println!("features/stop_vector_in_a_hole: stops here");
    csr_write!(STVEC, HOLE);
    // SAFETY: never comes back.
    unsafe { asm!("ebreak") };
    finisher::fail(finisher::CHECKS_FAILED);
}
