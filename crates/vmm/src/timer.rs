//! A virtual hart's timer: one deadline on the host's clock. And what the real timer is set to, which serves all of them.

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

/// What the real timer is set to, and when it has to be set anew.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Alarm {
    set_to: u64,
    cheap: bool,
}

impl Alarm {
    /// An alarm that goes off never. `cheap` is whether setting the timer costs less than being interrupted in vain.
    pub const fn new(cheap: bool) -> Self {
        Self { set_to: u64::MAX, cheap }
    }

    /// What the timer has to be set to for the next deadline, in ticks, if it has to. Where setting it is dear, a later
    /// deadline waits until the timer has gone off for the earlier one, and none at all for ever.
    #[inline]
    pub const fn want(&mut self, deadline: u64) -> Option<u64> {
        let is_new = if self.cheap { deadline != self.set_to } else { deadline < self.set_to };
        if !is_new {
            return None;
        }
        self.set_to = deadline;
        Some(deadline)
    }

    /// The timer has gone off, and was silenced.
    pub const fn went_off(&mut self) {
        self.set_to = u64::MAX;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dear_timer_is_set_for_an_earlier_deadline_only() {
        let mut alarm = Alarm::new(false);
        assert_eq!(alarm.want(u64::MAX), None);
        assert_eq!(alarm.want(100), Some(100));
        assert_eq!(alarm.want(100), None);
        assert_eq!(alarm.want(200), None);
        assert_eq!(alarm.want(u64::MAX), None);
        assert_eq!(alarm.want(50), Some(50));
        // It went off too early for 200, which is set now.
        alarm.went_off();
        assert_eq!(alarm.want(200), Some(200));
        alarm.went_off();
        assert_eq!(alarm.want(u64::MAX), None);
    }

    #[test]
    fn a_cheap_timer_follows_each_deadline() {
        let mut alarm = Alarm::new(true);
        assert_eq!(alarm.want(u64::MAX), None);
        assert_eq!(alarm.want(100), Some(100));
        assert_eq!(alarm.want(100), None);
        assert_eq!(alarm.want(200), Some(200));
        assert_eq!(alarm.want(u64::MAX), Some(u64::MAX));
        assert_eq!(alarm.want(200), Some(200));
        alarm.went_off();
        assert_eq!(alarm.want(u64::MAX), None);
    }

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
