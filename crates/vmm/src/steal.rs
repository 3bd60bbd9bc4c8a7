//! What is known of the time that others had while a vCPU would have run. The SBI's calls about it are in `sbi::sta`.

use memory::GuestPhysAddr;

/// What a vCPU is told of the time that others had.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct StealTime {
    /// Ticks that it has waited so far.
    pub(crate) waited: u64,
    pub(crate) shared: Option<Shared>,
}

/// The memory that the guest has named.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Shared {
    pub(crate) address: GuestPhysAddr,
    /// What it had waited when it named it.
    pub(crate) before: u64,
    pub(crate) sequence: u32,
}

impl StealTime {
    /// The guest hears no more of it; what it has waited stays.
    pub(crate) fn stop(&mut self) {
        self.shared = None;
    }
}
