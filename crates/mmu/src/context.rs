//! What a shadow root is keyed by.

use isa::Privilege;
use isa::paging::{Mode, Satp};

use crate::walk::Rights;

#[cfg(test)]
mod tests;

/// How the guest's permissions are seen. All shadow leaves are user pages, so each combination that changes what
/// a leaf allows has tables of its own.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum View {
    /// Translation is off: guest-physical addresses, every access allowed.
    Bare,
    /// User mode.
    User {
        /// sstatus.MXR.
        mxr: bool,
    },
    /// Supervisor mode.
    Supervisor {
        /// sstatus.SUM.
        sum: bool,
        /// sstatus.MXR.
        mxr: bool,
    },
}

impl View {
    /// On whose behalf accesses through this view are made.
    pub const fn rights(self) -> Rights {
        match self {
            Self::Bare => Rights { privilege: Privilege::Supervisor, sum: true, mxr: false },
            Self::User { mxr } => Rights { privilege: Privilege::User, sum: false, mxr },
            Self::Supervisor { sum, mxr } => Rights { privilege: Privilege::Supervisor, sum, mxr },
        }
    }

    /// Whether it is that of user mode, with translation.
    pub const fn is_user(self) -> bool {
        matches!(self, Self::User { .. })
    }
}

/// An address space as seen with certain rights: what a shadow root caches.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub struct ContextKey {
    /// The guest's satp; `Satp::BARE` in the view `Bare`.
    pub satp: Satp,
    /// The view.
    pub view: View,
}

impl ContextKey {
    /// The context in which a hart with this satp and these rights runs.
    pub const fn new(satp: Satp, rights: Rights) -> Self {
        let Rights { privilege, sum, mxr } = rights;
        match (satp.mode, privilege) {
            (Mode::Bare, _) => Self { satp: Satp::BARE, view: View::Bare },
            (_, Privilege::User) => Self { satp, view: View::User { mxr } },
            (_, Privilege::Supervisor) => Self { satp, view: View::Supervisor { sum, mxr } },
        }
    }
}
