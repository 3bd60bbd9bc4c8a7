//! Loads satp with a root table outside RAM: the next fetch faults, and so does the handler's, for ever. The
//! hypervisor stops the machine with a reason (exit status 33). Not run natively.
#![no_std]
#![no_main]

use guest_rt::mmio::BEYOND_RAM;
use guest_rt::paging::{self, Mode, PAGE, Satp};
use guest_rt::{csr_write, finisher, println};

guest_rt::entry!(main);

fn main(_hart: u64, _device_tree: u64) {
    println!("features/stop_root_outside_ram: stops here");
    csr_write!(SATP, Satp { mode: Mode::Sv39, asid: 0, ppn: BEYOND_RAM / PAGE }.bits());
    paging::fence_all();
    finisher::fail(finisher::CHECKS_FAILED);
}
