//! Device trees: the host's, read, and the guest's, written.
//!
//! `host` finds out what the real machine is, `extensions` says which of its ISA a guest is shown, and
//! `guest` builds the tree that a virtual machine boots with. Pure: neither maps memory nor touches a device.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod blob;
mod bus;
mod error;
pub mod extensions;
pub mod guest;
pub mod host;

pub use error::HostError;
pub use extensions::{Extension, Extensions, HartIsa};
pub use guest::{GuestDevice, GuestDeviceKind, GuestTree, rng_seed_mut, to_dts};
pub use host::{Console, ConsoleKind, HostHart, HostInfo, Plic, VirtioSlot};
