//! What a guest address means: the walk of the guest's page tables, and the shadow page tables that the hardware
//! uses in their place.
//!
//! Pure: tables are slices, guest memory is `memory::GuestRam`, and fences of the real TLB are returned as a
//! `TlbFlush` for somebody else to carry out.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod asids;
pub mod check;
pub mod context;
pub mod pool;
pub mod shadow;
#[cfg(test)]
mod testing;
pub mod walk;

pub use asids::{AsidBlock, AsidSpace, TlbPolicy};
pub use context::{ContextKey, View};
pub use shadow::{DroppedCode, HostPaging, LostRoots, Root, ShadowMmu, TlbFlush, Verdict};
pub use vhart::Window;
pub use walk::{Access, Rights, Translation, translate};
