//! The clock that the board is told the time by.

/// Nanoseconds since a moment that the VMM chooses and keeps; never goes backwards. A virtual machine's
/// uptime will do. Wall-clock time is the RTC's business.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct BoardTime(pub u64);

impl BoardTime {
    /// The moment `nanoseconds` later, or the end of time where that overflows.
    pub const fn after(self, nanoseconds: u64) -> Self {
        Self(self.0.saturating_add(nanoseconds))
    }
}
