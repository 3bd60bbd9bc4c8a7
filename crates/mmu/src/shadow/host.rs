//! How the real hart translates, and where the hypervisor lives in its address spaces.

use isa::paging::Mode;
use vhart::Window;

use crate::asids::AsidBlock;

/// How the real hart translates.
#[derive(Clone, Debug)]
pub struct HostPaging {
    /// Sv39, Sv48 or Sv57.
    pub mode: Mode,
    /// Where the hypervisor lives.
    pub window: Window,
    /// The real ASIDs of this vCPU's roots; `None` where the hart has too few, so that all have ASID 0.
    pub asids: Option<AsidBlock>,
}

impl HostPaging {
    /// The widest mode that a guest may have: narrower than the host's, so that no guest address names the
    /// hypervisor; on a host with Sv39 only, the same.
    pub const fn widest_guest_mode(&self) -> Mode {
        match self.mode {
            Mode::Sv57 => Mode::Sv48,
            _ => Mode::Sv39,
        }
    }
}
