//! A virtual hart as data: its registers, its supervisor CSRs with their rules, and what the assembly that serves its
//! hottest exits goes by.
//!
//! Stands between the virtual machine (`vmm`), which knows what exits mean, and the world switch (`hart`), which knows
//! the hardware: both work on a `VcpuFrame`, and `layout` says where in it the assembly finds what. Plain data and
//! rules, no hardware, nothing of the guest's memory.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod csr;
mod frame;
pub mod hint;
pub mod layout;
pub mod site;
pub mod space;
pub mod units;

pub use csr::{CsrFeatures, CsrFile};
pub use frame::{GuestMemory, VcpuFrame};
pub use hint::{FillHint, HintTable, Pointer};
pub use site::{Handlers, Op, Site, SiteTable};
pub use space::{Roots, Space, SpaceTable};
pub use units::Units;
