//! The real hart: boot, the world switch, CSRs, the hypervisor's own address space, firmware calls, and memory that
//! is handed out as safe slices.
//!
//! All of the hypervisor's unsafe code and assembly is here, and no policy. Empty on other machines than RV64.
#![no_std]
#![cfg(target_arch = "riscv64")]

extern crate alloc;

pub mod boot;
pub mod console;
mod csr;
mod errata;
pub mod fast;
pub mod fault;
pub mod firmware;
pub mod float;
mod hart;
pub mod heap;
mod image;
pub mod memory;
pub mod mmio;
pub mod random;
pub mod space;
mod switch;
pub mod time;
pub mod virtio;

pub use hart::{Hart, HartFeatures, last_frame};
pub use image::Image;
pub use mmio::Mmio;
pub use space::{HostSpace, Plan};
