//! What a vCPU remembers to be fast. None of it is state: all of it can be dropped at any instruction boundary, and the vCPU
//! goes on, *droppable-caches*. What it can see, or what decides what it does next, is in `state`.
//!
//! The hardware may forget a translation at any time, so the guest cannot tell. What has left the caches stays: A and D bits are
//! in the guest's own tables, and copies of code, pages that are watched, and reservations belong to the machine or to the hart.

use mmu::ShadowMmu;
use vhart::VcpuFrame;

use crate::fast::state::FastPath;
use crate::mmio::known::KnownAccesses;

/// All caches of a vCPU but those that the assembly reads, which are `FastState` in its frame.
#[derive(Debug)]
pub struct Caches {
    /// The shadow page tables, and what is known of the kernel's fences.
    pub shadow: ShadowMmu,
    /// Accesses to devices that may come again.
    pub(crate) known: KnownAccesses,
    /// What keeps the assembly's part of the frame in step.
    pub(crate) fast: FastPath,
}

impl Caches {
    /// Nothing is remembered yet; `shadow` is empty, too.
    pub(crate) fn new(shadow: ShadowMmu) -> Self {
        Self { shadow, known: KnownAccesses::default(), fast: FastPath::default() }
    }

    /// Drops everything, with what the assembly goes by in this vCPU's frame.
    pub(crate) fn drop_all(&mut self, frame: &mut VcpuFrame) {
        // Without `..`: a new cache is to be dropped, too.
        let Self { shadow, known, fast } = self;
        shadow.drop_all();
        known.drop_all();
        fast.drop_all(frame.csr.translation());
        frame.fast.drop_all();
    }
}
