//! What changes of the shadow ask of others: of the hardware's TLB, of whoever was told a root, of the keeper of copied
//! code. Collected here until somebody takes it; nothing is carried out.

use arrayvec::ArrayVec;
use memory::{GuestVirtAddr, PAGE_SIZE};

/// What the hardware's TLB must forget before the guest runs on.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum TlbFlush {
    /// Nothing.
    #[default]
    Nothing,
    /// What it holds of one address, in all address spaces.
    Address(GuestVirtAddr),
    /// Everything.
    All,
}

impl TlbFlush {
    pub(super) fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Nothing, flush) | (flush, Self::Nothing) => flush,
            (a, b) if a == b => a,
            _ => Self::All,
        }
    }
}

/// Whose roots are not what they were.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum LostRoots {
    /// Nobody's.
    #[default]
    None,
    /// Those of the address spaces with this ASID, but not one that others have as well.
    Asid(u16),
    /// All.
    All,
}

impl LostRoots {
    pub(super) fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::None, lost) | (lost, Self::None) => lost,
            (a, b) if a == b => a,
            _ => Self::All,
        }
    }
}

/// Addresses whose code may be fetched from elsewhere than before, because a leaf that allowed nothing but fetching is
/// gone.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct DroppedCode {
    /// Pages.
    pub pages: ArrayVec<GuestVirtAddr, 8>,
    /// All addresses.
    pub all: bool,
}

impl DroppedCode {
    pub(super) fn is_some(&self) -> bool {
        self.all || !self.pages.is_empty()
    }

    pub(super) fn note(&mut self, address: GuestVirtAddr) {
        self.all |= self.pages.try_push(GuestVirtAddr(address.0 & !(PAGE_SIZE - 1))).is_err();
    }
}
