//! How it is known that no vCPU has anything more of a page that is mapped otherwise from now on.
//!
//! Who takes something away begins a *round* after it can no longer be found, drops what its own vCPU has of it, and tells the
//! others. Each vCPU answers once it has dropped what it had. Until all have, the memory of a copy is nobody else's, and no
//! page is copied that one of them may still write to. Nobody waits: who finds a round under way comes back later. With one
//! vCPU a round is over when it has answered.

use alloc::boxed::Box;

use sync::atomic::{AtomicU64, Ordering};

/// A round that has begun.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Round(u64);

/// The rounds of one guest.
#[derive(Debug)]
pub struct Rounds {
    begun: AtomicU64,
    /// The last round that each vCPU has answered, and with it all before.
    answered: Box<[AtomicU64]>,
}

impl Rounds {
    pub(crate) fn new(vcpus: usize) -> Self {
        Self { begun: AtomicU64::new(0), answered: (0..vcpus).map(|_| AtomicU64::new(0)).collect() }
    }

    /// Begins a round: what it is about can no longer be found.
    pub(crate) fn begin(&self) -> Round {
        Round(self.begun.fetch_add(1, Ordering::AcqRel).wrapping_add(1))
    }

    /// The last round that has begun. A vCPU looks at it before it drops everything that it has, and answers it then.
    pub fn last(&self) -> Round {
        Round(self.begun.load(Ordering::Acquire))
    }

    /// Notes that a vCPU has dropped what all rounds up to this one are about.
    pub fn answer(&self, vcpu: usize, round: Round) {
        if let Some(answered) = self.answered.get(vcpu) {
            answered.fetch_max(round.0, Ordering::AcqRel);
        }
    }

    /// Notes that no vCPU has anything.
    pub(crate) fn answer_all(&self) {
        (0..self.answered.len()).for_each(|vcpu| self.answer(vcpu, self.last()));
    }

    /// Notes that a vCPU has dropped what this round is about; says whether it has dropped what all before are about, too.
    pub(crate) fn answer_one(&self, vcpu: usize, Round(round): Round) -> bool {
        let Some(answered) = self.answered.get(vcpu) else { return true };
        let before = round.wrapping_sub(1);
        let new = answered.compare_exchange(before, round, Ordering::AcqRel, Ordering::Acquire);
        new.unwrap_or_else(|found| if found > before { before } else { found }) == before
    }

    /// Whether all vCPUs have answered, but for one that runs nothing until it has done as it is told.
    pub(crate) fn is_over(&self, Round(round): Round, but: Option<usize>) -> bool {
        (0..)
            .zip(&self.answered)
            .all(|(vcpu, answered)| Some(vcpu) == but || answered.load(Ordering::Acquire) >= round)
    }
}
