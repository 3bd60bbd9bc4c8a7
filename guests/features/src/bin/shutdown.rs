//! Ends by the SBI's system reset and not by the finisher: the exit status must be that of success.
#![no_std]
#![no_main]

use guest_rt::sbi::{self, SRST};
use guest_rt::{check, finisher};

guest_rt::entry!(main);

fn main(_hart: u64, _device_tree: u64) {
    check!("system_reset_is_there", sbi::probe(SRST));
    if check::summary("features/shutdown") {
        sbi::system_reset(0, 0);
    }
    finisher::fail(finisher::CHECKS_FAILED);
}
