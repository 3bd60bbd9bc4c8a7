//! Takes a trap with stvec at an address that its page tables do not map: every fetch of the handler faults
//! anew. A hart would spin for ever; the hypervisor stops the machine with a reason (exit status 33). Not run
//! natively.
#![no_std]
#![no_main]

use core::arch::asm;
use features::arena::{Arena, DATA};
use guest_rt::paging::Mode;
use guest_rt::{csr_write, finisher, println};

guest_rt::entry!(main);

fn main(_hart: u64, _device_tree: u64) {
    println!("features/stop_vector_unmapped: stops here");
    Arena::new(Mode::Sv39);
    csr_write!(STVEC, DATA);
    // SAFETY: never comes back.
    unsafe { asm!("ebreak") };
    finisher::fail(finisher::CHECKS_FAILED);
}
