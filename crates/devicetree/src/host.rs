//! What the hypervisor must know of the real machine.
//!
//! `info` has the types that say it. `survey` fills them from the device tree, whose nodes' properties `node` holds.

mod info;
mod node;
mod survey;

pub use info::{
    Console, ConsoleKind, HostHart, HostInfo, MAX_BOOTARGS, MAX_HARTS, MAX_MEMORY, MAX_RESERVED, MAX_SEED,
    MAX_VIRTIO, Plic, VirtioSlot,
};

use crate::blob::Blob;
use crate::error::HostError;
use survey::Survey;

impl HostInfo {
    /// Reads the device tree at the start of `dtb`, which may be longer than the tree. Needs no heap, but some
    /// 24 KiB of stack.
    pub fn parse(dtb: &[u8]) -> Result<Self, HostError> {
        Survey::of(Blob::new(dtb)?)
    }
}
