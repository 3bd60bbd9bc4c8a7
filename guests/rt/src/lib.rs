//! The small runtime that our own guest kernels share: entry, console, finisher, SBI calls, CSRs, traps that
//! are expected, user mode, page tables, time, and checks with a verdict.
//!
//! It serves one hart of QEMU's `virt` machine and assumes nothing about what lies below: the same guest
//! runs on QEMU with any SBI firmware and under the hypervisor. It is no kernel: no scheduler, no heap.
//!
//! A guest is a `no_std`, `no_main` binary that says [`entry!`] and whose build script passes the linker
//! script on:
//!
//! ```ignore
//! println!("cargo::rustc-link-arg-bins=-T{}", std::env::var("DEP_GUEST_RT_LINKER_SCRIPT").unwrap());
//! ```
#![no_std]
#![cfg(target_arch = "riscv64")]

pub mod access;
mod boot;
pub mod check;
pub mod console;
pub mod csr;
pub mod finisher;
pub mod image;
pub mod mmio;
pub mod paging;
pub mod sbi;
pub mod steal;
pub mod time;
pub mod trap;
pub mod user;
pub mod virtio;

pub use isa;
