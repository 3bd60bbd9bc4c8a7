//! A Linux program for riscv64 without a C library: static, freestanding, built for the bare-metal target,
//! so that it needs no other toolchain than the hypervisor. The linker's own layout (from 0x10000, pages of
//! 4 KiB) is one that Linux executes.
//!
//! `system` is the only room that calls the kernel; `report` prints; `items` is what is measured.
#![no_std]
#![cfg(target_arch = "riscv64")]

pub mod items;
mod panic;
pub mod report;
pub mod system;
