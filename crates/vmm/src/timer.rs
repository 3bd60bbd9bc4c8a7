//! A virtual hart's timer: one deadline on the host's clock.

/// When the timer interrupt becomes pending.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct VirtualTimer {
    deadline: u64,
}

impl VirtualTimer {
    /// A timer that never fires.
    pub const OFF: Self = Self { deadline: u64::MAX };

    /// Sets the deadline, in ticks; `u64::MAX` is never.
    pub const fn set(&mut self, deadline: u64) {
        self.deadline = deadline;
    }

    /// Whether the deadline has come.
    pub const fn is_due(self, now: u64) -> bool {
        self.deadline != u64::MAX && now >= self.deadline
    }

    /// The deadline, in ticks; `u64::MAX` is never.
    pub const fn deadline(self) -> u64 {
        self.deadline
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_in_the_past_is_due_at_once_and_minus_one_never() {
        let mut timer = VirtualTimer::OFF;
        assert!(!timer.is_due(u64::MAX));
        timer.set(0);
        assert!(timer.is_due(0));
        timer.set(100);
        assert!(!timer.is_due(99));
        timer.set(u64::MAX);
        assert!(!timer.is_due(u64::MAX));
    }
}
