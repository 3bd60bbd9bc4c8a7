//! What all of set-up goes by.

use devicetree::HostInfo;
use hart::{HostSpace, Image};

/// What the first stage hands to the second: plain numbers, no pointers (*no-pointer-crosses*).
pub struct Stage {
    /// The hart that this boots on, by the device tree's number.
    pub hart_id: u64,
    /// What the device tree says of the host.
    pub machine: HostInfo,
    /// Where the hypervisor's image lies.
    pub image: Image,
    /// The hypervisor's address space.
    pub space: HostSpace,
}

/// What is said where there is not even memory for small things.
pub const NO_MEMORY: &str = "the host has too little memory; give QEMU more with --host-memory";
