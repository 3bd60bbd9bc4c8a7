//! A small M-mode firmware for QEMU's `virt` machine, on the `rustsbi` crate. It gives all harts an SBI, keeps the
//! first 512 KiB of RAM for itself, and delegates every trap that it can: an illegal instruction in U-mode goes
//! straight to S-mode, which OpenSBI looks at first. So it is the other kind of firmware to test the hypervisor on.
//!
//! `boot` is the way in and `enter` the way out; what comes back arrives by `vector` in `trap`. Each SBI extension is a file in
//! `sbi`. Devices are where QEMU has them (`map`), so it runs on no other machine.
#![no_std]
#![no_main]

mod boot;
mod csr;
mod enter;
mod frame;
mod hart;
mod map;
mod panic;
mod sbi;
mod trap;
mod uart;
mod vector;
