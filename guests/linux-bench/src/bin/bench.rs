//! The first process of a Linux guest: measures each item and powers off.
#![no_std]
#![no_main]

use linux_bench::{entry, items, report, system};

entry!(main);

fn main() {
    let start = system::time();
    system::open_console();
    // Ticks since the machine was switched on, firmware and hypervisor included.
    report::result("boot-to-init", 1, start);
    // The kernel still has boot-time work in the background.
    system::sleep(4);
    for (name, item) in items::ITEMS {
        item();
        let (iterations, ticks) = item();
        report::result(name, iterations, ticks);
    }
    system::power_off();
}
