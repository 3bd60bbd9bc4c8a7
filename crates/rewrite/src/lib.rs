//! Rewritten code pages: copies of guest-kernel pages in which privileged instructions that trapped are replaced by
//! breakpoints, which the firmware delegates straight to us.
//!
//! A page is copied once it has trapped often enough, and a site is replaced once it has trapped on a copied page: what
//! trapped there is sure to be an instruction. Only the first two bytes of a site are replaced (C.EBREAK), so a jump
//! to its middle finds what it found before. One that a page's end tears is replaced, too; `vmm` then finds its second half.
//! Copies are mapped execute-only by `mmu`, which asks `memory::Overlay` what a leaf may be; loads are served from the
//! original, and a store ends the copy. The guest sees nothing of it.
//!
//! | room | what it has |
//! | --- | --- |
//! | `plan` | decides what becomes of a page, for each trap, load and store, and says what has to be done |
//! | `heat` | how often pages trap; `heat::balance`: whether one that is read is better off with its copy |
//! | `copies` | the copies' memory, and the states of a page: plain, closing, closed, copied, ending |
//! | `rounds` | when all vCPUs have dropped what they had of a page |
//! | `scan` | finds, on firmware that complains of some instructions, those before they trap |
//! | `store` | keeps the copies of their pages through stores, until nothing of the kind is left in them |
//!
//! Known limit: an instruction that overlaps a site from in front (starting two bytes before it, in a guest that executes
//! the same bytes both ways) would read the breakpoint as its second half. `vmm` finds such sites, in exact mode wherever it
//! is possible, and they stay as they are, but for those that the firmware complains of.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod copies;
mod heat;
mod plan;
mod rounds;
mod scan;
mod site;
mod store;

use alloc::sync::Arc;

use memory::{GuestRam, HostPhysAddr};

use copies::Copies;
use heat::HeatTable;
pub use plan::{Change, Replaced, Trapped, is_reported};
pub use rounds::{Round, Rounds};
use sync::atomic::AtomicU64;

/// How often pages were copied, and how often a copy ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counts {
    /// Pages copied.
    pub copies: u64,
    /// Sites replaced.
    pub sites: u64,
    /// Copies that ended, by a store or for the loads from their pages.
    pub ended: u64,
}

/// The code pages of one guest.
#[derive(Debug)]
pub struct CodePages {
    copies: Copies,
    heat: HeatTable,
    rounds: Arc<Rounds>,
    counts: Counts,
    exact: bool,
}

impl CodePages {
    /// Room for copies in `words`, whole pages at `base`; with none, nothing is ever rewritten. For a guest of one vCPU.
    pub fn new(words: &'static [AtomicU64], base: HostPhysAddr) -> Self {
        Self {
            copies: Copies::new(words, base),
            heat: HeatTable::new(),
            rounds: Arc::new(Rounds::new(1)),
            counts: Counts::default(),
            exact: false,
        }
    }

    /// Lets so many vCPUs run the guest.
    pub fn set_vcpus(&mut self, vcpus: usize) {
        self.rounds = Arc::new(Rounds::new(vcpus));
    }

    /// Whether a site is to stay as it is where an instruction that overlaps it from in front could tell the difference.
    pub fn set_exact(&mut self, exact: bool) {
        self.exact = exact;
    }

    /// Whether it is.
    pub fn is_exact(&self) -> bool {
        self.exact
    }

    /// How often what happened.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// The rounds that its vCPUs answer, whoever has the code pages.
    pub const fn rounds(&self) -> &Arc<Rounds> {
        &self.rounds
    }

    /// Frees all copies, for a reset. No vCPU may run meanwhile, and none have anything in its shadow afterwards.
    pub fn reset(&mut self, ram: &GuestRam) {
        self.copies.reset(ram);
        self.rounds.answer_all();
    }
}

#[cfg(all(test, loom))]
mod races;
#[cfg(all(test, not(loom)))]
mod tests;
