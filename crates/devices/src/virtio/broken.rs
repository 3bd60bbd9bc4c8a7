//! The error for a driver that breaks a rule of its ring.

/// The driver broke a rule of the ring: nothing in it can be relied on any more.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Broken;
