//! A virtual hart as data: its registers, its supervisor CSRs with their rules, and what the assembly that serves its
//! hottest exits goes by.
//!
//! Stands between the virtual machine (`vmm`), which knows what exits mean, and the world switch (`hart`), which knows
//! the hardware: both work on a `VcpuFrame`, and `layout` says where in it the assembly finds what. Plain data and
//! rules, no hardware.
//!
//! The assembly asks nothing before it goes by what is here, so this crate keeps what it goes by from being made up: see
//! `sealed`.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod csr;
mod frame;
pub mod hint;
pub mod layout;
pub mod sealed;
pub mod site;
pub mod space;
pub mod state;
pub mod tables;
pub mod units;

pub use csr::{CsrFeatures, CsrFile};
pub use frame::{FastState, VcpuFrame};
pub use hint::{FillHint, HintTable, Pointer, Ready};
pub use site::{HandlerTables, Handlers, Op, Site, SiteTable};
pub use space::{Roots, Space, SpaceTable};
pub use state::{FrameState, Unfit};
pub use tables::{HostTables, RootSatp, ShadowTables, SharedTable, Window};
pub use units::Units;
