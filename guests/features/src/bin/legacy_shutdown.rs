//! Ends by the SBI's legacy shutdown: the exit status must be that of success.
#![no_std]
#![no_main]

use guest_rt::sbi;
use guest_rt::{check, finisher};

guest_rt::entry!(main);

fn main(_hart: u64, _device_tree: u64) {
    check!("legacy_shutdown_is_there", sbi::probe(sbi::LEGACY_SHUTDOWN));
    if check::summary("features/legacy_shutdown") {
        sbi::call2(sbi::LEGACY_SHUTDOWN, 0, 0, 0);
    }
    finisher::fail(finisher::CHECKS_FAILED);
}
