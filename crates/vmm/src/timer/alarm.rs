//! What the real timer is set to, and when it has to be set anew; and how long a guest is let run at least, so that it comes
//! to something on a host that takes longer to run it than its deadlines are away.

/// What the real timer is set to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Alarm {
    set_to: u64,
    cheap: bool,
    /// When it was set for the run of a guest.
    set_at: u64,
    /// How long a guest is let run at least where it has to be, in ticks: longer than the host needs to bring it to its next
    /// instruction and to interrupt it.
    shortest_run: u64,
    /// Of that, the least and the most.
    limits: (u64, u64),
    /// The last run came to nothing, and nobody knows why: the next turn is half as long, for a slow host to show.
    in_doubt: bool,
}

impl Alarm {
    /// An alarm that goes off never, on a clock of `frequency` ticks a second. `cheap` is whether setting the timer costs less
    /// than being interrupted in vain.
    pub const fn new(cheap: bool, frequency: u64) -> Self {
        // 50 µs, which is more than a fast host needs; and half a second.
        let least = if frequency < 20_000 { 1 } else { frequency / 20_000 };
        let limits = (least, frequency / 2 + 1);
        Self { set_to: u64::MAX, cheap, set_at: 0, shortest_run: least, limits, in_doubt: false }
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

    /// The timer was set at `now`, for a guest that runs from now on.
    #[inline]
    pub const fn was_set(&mut self, now: u64) {
        self.set_at = now;
    }

    /// Up to when a guest is let run, from `now` on, that has to come to something.
    pub const fn run_from(&self, now: u64) -> u64 {
        now.saturating_add(self.shortest_run)
    }

    /// When the turn of a guest that begins at `now` ends, if it is to end at `until`: where the host is slow, not before the
    /// guest has come to an instruction.
    pub const fn end_of_turn(&self, until: u64, now: u64) -> u64 {
        let (least, _) = self.limits;
        let earliest = self.run_from(now);
        match () {
            () if self.shortest_run > least && until < earliest => earliest,
            () if self.in_doubt && until != u64::MAX => now.saturating_add(until.saturating_sub(now) / 2),
            () => until,
        }
    }

    /// The timer has gone off, and was silenced.
    pub const fn went_off(&mut self) {
        self.set_to = u64::MAX;
    }

    /// The timer has ended a guest's run, at `now`, and was silenced; `has_progressed` is whether the guest is elsewhere than
    /// before. Says whether it has had its chance: one that is not elsewhere may go round in a circle of one instruction.
    pub fn ended_run(&mut self, now: u64, has_progressed: bool) -> bool {
        let (least, most) = self.limits;
        // The timer may have been set to a time that had passed.
        let given = self.set_to.saturating_sub(self.set_at);
        let late = now.saturating_sub(self.set_at).saturating_sub(given);
        let is_slow = late >= given.max(least) / 8;
        self.went_off();
        let was_in_doubt = self.in_doubt;
        self.in_doubt = !has_progressed && given > self.shortest_run && !was_in_doubt;
        if has_progressed {
            let more = self.shortest_run.saturating_sub(least);
            self.shortest_run = least.saturating_add(more.saturating_sub(more / 8));
            return true;
        }
        let needed = match () {
            // It was on the way all the time.
            () if is_slow && (given <= self.shortest_run || was_in_doubt) => {
                given.saturating_add(late).saturating_mul(2)
            }
            () if is_slow => late.saturating_mul(2),
            // It goes round in a circle; or the time was just too short, which shows where there is less.
            () => self.shortest_run / 2,
        };
        if !is_slow || needed > self.shortest_run {
            self.shortest_run = needed.clamp(least / 4 + 1, most);
        }
        !is_slow && given > least / 4 || self.shortest_run == most
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FREQUENCY: u64 = 10_000_000;

    #[test]
    fn a_dear_timer_is_set_for_an_earlier_deadline_only() {
        let mut alarm = Alarm::new(false, FREQUENCY);
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
        let mut alarm = Alarm::new(true, FREQUENCY);
        assert_eq!(alarm.want(u64::MAX), None);
        assert_eq!(alarm.want(100), Some(100));
        assert_eq!(alarm.want(100), None);
        assert_eq!(alarm.want(200), Some(200));
        assert_eq!(alarm.want(u64::MAX), Some(u64::MAX));
        assert_eq!(alarm.want(200), Some(200));
        alarm.went_off();
        assert_eq!(alarm.want(u64::MAX), None);
    }

    /// Lets a guest run for `given` ticks on a host that needs `overhead` to bring it to an instruction and back.
    fn run(alarm: &mut Alarm, now: &mut u64, given: u64, overhead: u64) -> bool {
        alarm.want(*now + given);
        alarm.was_set(*now);
        *now += given.max(overhead);
        alarm.ended_run(*now, given > overhead)
    }

    #[test]
    fn whatever_the_host_needs_a_guest_that_is_held_comes_to_its_next_instruction_soon_and_again_and_again() {
        for overhead in [1, 30, 499, 500, 501, 560, 7_000, 50_000, 999_999, 2_000_000] {
            let (mut alarm, mut now) = (Alarm::new(true, FREQUENCY), 1_000);
            let mut progressed = 0;
            for round in 1..=200 {
                let given = alarm.run_from(now) - now;
                progressed += u32::from(given > overhead);
                run(&mut alarm, &mut now, given, overhead);
                assert!(round < 4 || progressed > 0, "overhead {overhead}: nothing in {round} rounds");
            }
            assert!(progressed > 100, "overhead {overhead}: {progressed} of 200");
        }
    }

    #[test]
    fn a_guest_that_goes_round_in_circles_cannot_lengthen_the_turns_of_a_fast_host() {
        // It is where it was whenever it is interrupted, after a slice of 4 ms or a little, and the host is late by some
        // microseconds, as an emulator is.
        let (mut alarm, mut now) = (Alarm::new(true, FREQUENCY), 1_000);
        for round in 0..10_000_u64 {
            let given = [40_000, 500, 0, 3_000][round as usize % 4];
            alarm.want(now + given);
            alarm.was_set(now);
            now += given + [50, 200, 10][round as usize % 3];
            alarm.ended_run(now, false);
            let turn = alarm.end_of_turn(now, now) - now;
            assert!(turn <= 4_000, "round {round}: a turn of {turn} ticks");
        }
    }

    #[test]
    fn a_fast_hosts_deadlines_are_not_put_off() {
        let (mut alarm, mut now) = (Alarm::new(true, FREQUENCY), 1_000);
        for given in [0, 0, 10, 400, 0, 40_000] {
            run(&mut alarm, &mut now, given, 20);
            assert_eq!(alarm.end_of_turn(now, now), now);
            assert_eq!(alarm.end_of_turn(now + 5, now), now + 5);
        }
    }

    #[test]
    fn guests_that_take_turns_come_to_something_on_a_host_that_needs_longer_than_a_slice() {
        const SLICE: u64 = 40_000;
        for overhead in [10, 30_000, 39_900, 40_000, 41_000, 200_000, 2_000_000] {
            let (mut alarm, mut now) = (Alarm::new(false, FREQUENCY), 1_000);
            let mut progressed = 0;
            for _ in 0..100 {
                let given = alarm.end_of_turn(now + SLICE, now) - now;
                progressed += u32::from(given > overhead);
                run(&mut alarm, &mut now, given, overhead);
            }
            assert!(progressed > 25, "overhead {overhead}: {progressed} of 100");
        }
    }
}
