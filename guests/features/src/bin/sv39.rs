//! The page walk in Sv39. Priv. spec, "Sv39: Page-Based 39-bit Virtual-Memory System".
#![no_std]
#![no_main]

use guest_rt::paging::Mode;

features::feature!(checks);

fn checks(_hart: u64, _device_tree: u64) {
    features::walk::checks(Mode::Sv39);
}
