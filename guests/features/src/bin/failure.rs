//! Fails on purpose: a failed verdict must reach whoever started the machine.
#![no_std]
#![no_main]

use guest_rt::check;

features::feature!(checks);

fn checks(_hart: u64, _device_tree: u64) {
    check!("this_check_fails_on_purpose", 1, 2);
}
