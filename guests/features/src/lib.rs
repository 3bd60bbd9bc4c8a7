//! What the feature guests share.
#![no_std]
#![cfg(target_arch = "riscv64")]

/// Makes a bin a feature guest: runs `checks`, a `fn(hart: u64, device_tree: u64)`, and powers off with the verdict.
#[macro_export]
macro_rules! feature {
    ($checks:path) => {
        fn main(hart: u64, device_tree: u64) {
            let checks: fn(u64, u64) = $checks;
            checks(hart, device_tree);
            guest_rt::check::finish(concat!(env!("CARGO_PKG_NAME"), "/", env!("CARGO_BIN_NAME")))
        }
        guest_rt::entry!(main);
    };
}
