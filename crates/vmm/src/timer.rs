//! A virtual hart's timer: one deadline on the host's clock. What the real timer is set to, which serves all of them, is
//! `alarm`'s.
//!
//! On hardware a program goes on between two timer interrupts, if only for an instruction. Here the clock goes on while the
//! hypervisor works, and on a slow host, itself a guest, the next deadline may have passed whenever a handler returns. So a
//! guest that has taken a timer interrupt *owes* its program a run: until it has done something with the interrupt let in, the
//! next one is held back.

mod alarm;

pub use alarm::Alarm;

/// When the timer interrupt becomes pending, and whether it may be taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct VirtualTimer {
    deadline: u64,
    owed: Owed,
}

/// Whether the guest owes its program a run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Owed {
    Nothing,
    /// It has taken a timer interrupt.
    Run,
    /// It would take the next one, which is held back until then, in ticks; 0 where nobody has said yet.
    Held(u64),
}

impl VirtualTimer {
    /// A timer that never fires.
    pub const OFF: Self = Self { deadline: u64::MAX, owed: Owed::Nothing };

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

    /// Whether an interrupt that the guest would take is held back.
    #[inline]
    pub const fn is_held(self) -> bool {
        matches!(self.owed, Owed::Held(_))
    }

    /// Up to when it is held back; `until` where that is not said yet.
    pub(crate) const fn held_until(&mut self, until: u64) -> u64 {
        match self.owed {
            Owed::Held(known) if known != 0 => known,
            _ => {
                self.owed = Owed::Held(until);
                until
            }
        }
    }

    /// The guest would take a timer interrupt. `has_moved` is whether it is elsewhere than when it was let run last. Says
    /// whether the interrupt is held back.
    pub(crate) const fn holds_back(&mut self, has_moved: bool) -> bool {
        let holds = match self.owed {
            Owed::Nothing => false,
            Owed::Run => true,
            Owed::Held(_) => !has_moved,
        };
        match self.owed {
            Owed::Held(_) if holds => {}
            _ if holds => self.owed = Owed::Held(0),
            _ => self.owed = Owed::Run,
        }
        holds
    }

    /// Something has come in between, or the time was too short: what is held back is held anew.
    pub(crate) const fn hold_anew(&mut self) {
        if self.is_held() {
            self.owed = Owed::Run;
        }
    }

    /// The guest has done something with timer interrupts let in.
    pub(crate) const fn has_run(&mut self) {
        self.owed = Owed::Nothing;
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
