//! What fork+exec executes: a static program that ends at once.
#![no_std]
#![no_main]

linux_bench::entry!(main);

fn main() {}
