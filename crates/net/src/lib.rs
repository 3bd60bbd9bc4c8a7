//! Layer-2 switches between guests' network interfaces, and out to a network interface of the host's.
//!
//! A guest's port has one address for ever, and what comes from it under another one is dropped: so a switch knows where
//! each guest is without learning, and no guest can take another's traffic away. All other addresses are outside, behind
//! the uplink. Nothing goes from one switch to another.
//!
//! Frames are whole Ethernet frames without their checksum. Each port has a bounded queue for what its guest has no room
//! for yet.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod frame;
mod limiter;
mod queue;
mod switch;

pub use frame::Frame;
pub use limiter::Limiter;
pub use queue::{Queue, WAITING};
pub use switch::{Counters, Out, Port, PortKind, Switch};

/// An Ethernet address.
pub type Mac = [u8; 6];

/// Bytes of the longest frame: an MTU of 1,500, Ethernet's header and a VLAN tag.
pub const MAX_FRAME: usize = 1518;
/// Bytes of the shortest: Ethernet's header.
pub const MIN_FRAME: usize = 14;
