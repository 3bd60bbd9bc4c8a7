//! A virtual hart's timer: one deadline on the host's clock. What the real timer is set to, which serves all of them, is
//! `alarm`'s.
//!
//! On hardware a program goes on between two timer interrupts, if only for an instruction. Here the clock goes on while the
//! hypervisor works, and on a slow host, itself a guest, the next deadline may have passed whenever a handler returns. So
//! there a guest that has taken a timer interrupt has to go on first: the next one is held back for a short run.

mod alarm;

use serde::{Deserialize, Serialize};

pub use alarm::Alarm;

/// When the timer interrupt becomes pending, and whether it may be taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct VirtualTimer {
    deadline: u64,
    /// Until when an interrupt is held back, in ticks: 0 where that is not known yet, `u64::MAX` where none is.
    held_until: u64,
    /// A timer interrupt was taken, and the guest has to go on before the next one.
    has_to_go_on: bool,
    /// The host's, not the guest's.
    #[serde(skip)]
    host_is_slow: bool,
}

impl VirtualTimer {
    /// A timer that never fires.
    pub const OFF: Self =
        Self { deadline: u64::MAX, held_until: u64::MAX, has_to_go_on: false, host_is_slow: false };

    /// What of it is the same on all hosts.
    pub(crate) const fn on_any_host(self) -> Self {
        Self { host_is_slow: false, ..self }
    }

    /// Goes on as one that was somewhere else.
    pub(crate) const fn go_on_from(&mut self, other: Self) {
        *self = Self { host_is_slow: self.host_is_slow, ..other };
    }

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

    /// Until when an interrupt is held back that is pending, in ticks; `u64::MAX` where none is held back.
    pub const fn held_until(self) -> u64 {
        self.held_until
    }

    /// Whether an interrupt that the guest would take is held back.
    pub const fn is_held(self) -> bool {
        self.held_until != u64::MAX
    }

    /// The guest would take a timer interrupt: says whether it is held back.
    pub(crate) const fn holds_back(&mut self) -> bool {
        match () {
            () if self.is_held() => {}
            () if self.has_to_go_on => self.held_until = 0,
            () => self.has_to_go_on = self.host_is_slow,
        }
        self.is_held()
    }

    /// What is held back is held until `until`.
    pub(crate) const fn hold(&mut self, until: u64) {
        self.held_until = until;
    }

    /// Something has come in between, or the time was too short: what is held back is held anew.
    pub(crate) const fn hold_anew(&mut self) {
        self.held_until = u64::MAX;
    }

    /// The guest has gone on.
    pub(crate) const fn went_on(&mut self) {
        self.held_until = u64::MAX;
        self.has_to_go_on = false;
    }

    /// Whether the host is so slow that guests have to be helped on.
    pub(crate) const fn set_host_is_slow(&mut self, is_slow: bool) {
        self.host_is_slow = is_slow;
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
