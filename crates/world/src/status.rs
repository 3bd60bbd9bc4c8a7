//! How the whole run ends.

/// The status of the whole run, the better ones first: with several guests the worst counts. `hypo run --help` and the
/// README list the same numbers.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Status {
    /// All guests powered themselves off.
    PoweredOff,
    /// A guest asked for a reset, and the bundle says that this ends the run.
    Reset,
    /// A guest reported failure.
    GuestFailed,
    /// A guest was stopped for a reason of ours.
    Stopped,
    /// Set-up or the hypervisor failed.
    Failed,
}

impl Status {
    /// The number that says so.
    pub const fn code(self) -> u8 {
        match self {
            Self::PoweredOff => 0,
            Self::Reset => 32,
            Self::GuestFailed => 34,
            Self::Stopped => 33,
            Self::Failed => 1,
        }
    }
}
