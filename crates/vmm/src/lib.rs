//! The virtual machine: what each exit of a guest means and what becomes of it.
//!
//! All of it but the world switch: this crate knows no hardware, reaches the real hart only through `Host`, and
//! runs in tests on the developer's machine. Every handler gets the machine, the vCPU and the host, and returns an
//! `Outcome`; only `vcpu` moves the pc.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod caches;
mod code;
pub mod complaints;
mod emulate;
pub mod exit;
mod fast;
mod fetch;
pub mod footprint;
pub mod host;
mod lines;
pub mod link;
pub mod machine;
mod mmio;
pub mod outcome;
pub mod pmu;
mod protected;
pub mod sbi;
pub mod state;
pub mod steal;
pub mod timer;
pub mod tree;
pub mod vcpu;
pub mod vm;

pub use host::Host;
pub use machine::Machine;
pub use outcome::{Outcome, StopReason};
pub use state::{StateError, VcpuState};
pub use vcpu::Vcpu;
pub use vhart::{CsrFeatures, CsrFile};
pub use vm::{Entry, Next, Vm};
