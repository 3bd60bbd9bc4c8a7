//! The page walk in Sv48. Priv. spec, "Sv48: Page-Based 48-bit Virtual-Memory System".
#![no_std]
#![no_main]

use guest_rt::paging::Mode;

features::feature!(checks);

fn checks(_hart: u64, _device_tree: u64) {
    features::walk::checks(Mode::Sv48);
}
