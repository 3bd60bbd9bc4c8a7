//! What the real timer is set to, and when it has to be set anew; and how long a guest has to be let run to come to an
//! instruction, where the host is so slow that it matters.

/// What the real timer is set to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Alarm {
    set_to: u64,
    cheap: bool,
    is_slow: bool,
    /// Since when a guest runs that it is to interrupt, in ticks.
    runs_since: u64,
    /// On a slow host, the longest that it has lately taken to bring a guest to an instruction and to interrupt it, in ticks.
    overhead: u64,
    /// The most that is believed of that.
    most: u64,
}

impl Alarm {
    /// An alarm that goes off never, on a clock of `frequency` ticks a second. `cheap` is whether setting the timer costs less
    /// than being interrupted in vain; `call` is how many ticks the firmware takes for a call that does nothing, which tells
    /// whether the host is slow. No guest can make it look so.
    pub const fn new(cheap: bool, frequency: u64, call: u64) -> Self {
        // Firmware takes about 1 µs; a hypervisor that is itself a hypervisor's guest takes a hundred.
        let is_slow = call > frequency / 100_000;
        Self { set_to: u64::MAX, cheap, is_slow, runs_since: 0, overhead: 0, most: frequency / 4 + 1 }
    }

    /// What the timer has to be set to for the next deadline, in ticks, if it has to. Where setting it is dear, a later
    /// deadline waits until the timer has gone off for the earlier one, and none at all for ever.
    #[inline]
    pub const fn want(&mut self, deadline: u64) -> Option<u64> {
        // It stays at nearly all exits, so that is asked first.
        if deadline == self.set_to || !self.cheap && deadline > self.set_to {
            return None;
        }
        Some(self.set(deadline))
    }

    /// The timer is set to `deadline` all the same.
    pub const fn set(&mut self, deadline: u64) -> u64 {
        self.set_to = deadline;
        deadline
    }

    /// A guest's turn begins at `now`, or the timer was set anew for it.
    #[inline]
    pub const fn run_begins(&mut self, now: u64) {
        self.runs_since = now;
    }

    /// Whether a guest's deadlines may have passed before it comes to an instruction.
    pub const fn host_is_slow(&self) -> bool {
        self.is_slow
    }

    /// When a run may end that begins at `now` and in which the guest has to come to an instruction.
    pub const fn end_of_run(&self, now: u64) -> u64 {
        now.saturating_add(self.overhead.saturating_mul(2))
    }

    /// The timer has gone off, and was silenced.
    pub const fn went_off(&mut self) {
        self.set_to = u64::MAX;
    }

    /// The timer has ended a guest's run, at `now`, and was silenced; `has_moved` is whether the guest is elsewhere than when
    /// the run began. Says whether the guest has had its chance: one that is where it was may go round in a circle.
    pub fn ended_run(&mut self, now: u64, has_moved: bool) -> bool {
        // The timer may have been set to a time that had passed.
        let given = self.set_to.saturating_sub(self.runs_since);
        self.went_off();
        if !self.is_slow {
            return true;
        }
        if has_moved {
            self.overhead = self.overhead.saturating_sub(self.overhead / 8);
            return true;
        }
        let spent = now.saturating_sub(self.runs_since);
        let late = spent.saturating_sub(given);
        // The way in takes about as long as the way out, which makes the timer late. A guest that goes round in a circle
        // cannot make a short way look like a long one.
        let seen = late.saturating_mul(4).min(spent).min(self.most);
        let was_long_enough = seen <= self.overhead && given >= self.overhead.saturating_mul(2);
        self.overhead = self.overhead.max(seen);
        was_long_enough
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FREQUENCY: u64 = 10_000_000;
    const SLICE: u64 = 40_000;
    /// Ticks of a call on a slow host.
    const SLOW: u64 = 5_000;

    #[test]
    fn a_dear_timer_is_set_for_an_earlier_deadline_only() {
        let mut alarm = Alarm::new(false, FREQUENCY, 1);
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
        let mut alarm = Alarm::new(true, FREQUENCY, 1);
        assert_eq!(alarm.want(u64::MAX), None);
        assert_eq!(alarm.want(100), Some(100));
        assert_eq!(alarm.want(100), None);
        assert_eq!(alarm.want(200), Some(200));
        assert_eq!(alarm.want(u64::MAX), Some(u64::MAX));
        assert_eq!(alarm.want(200), Some(200));
        alarm.went_off();
        assert_eq!(alarm.want(u64::MAX), None);
    }

    /// Lets a guest run for `given` ticks on a host that needs `way` to bring it to an instruction, and `way` to interrupt it.
    /// Says whether it came to one.
    fn run(alarm: &mut Alarm, now: &mut u64, given: u64, way: u64) -> bool {
        alarm.want(*now + given);
        alarm.run_begins(*now);
        *now += given.max(way) + way;
        alarm.ended_run(*now, given > way);
        given > way
    }

    #[test]
    fn a_guest_comes_to_an_instruction_soon_and_again_and_again_whatever_the_host_needs() {
        for (way, slice) in [1, 30, 501, 7_000, SLICE, 500_000, 1_000_000]
            .into_iter()
            .flat_map(|way| [(way, 0), (way, SLICE)])
        {
            let (mut alarm, mut now) = (Alarm::new(true, FREQUENCY, SLOW), 1_000);
            let mut progressed = 0;
            for round in 1..=200 {
                let given = alarm.end_of_run(now).max(now + slice) - now;
                progressed += u32::from(run(&mut alarm, &mut now, given, way));
                assert!(round < 4 || progressed > 0, "way {way}: nothing in {round} rounds");
            }
            assert!(progressed > 100, "way {way}, slice {slice}: {progressed} of 200");
        }
    }

    #[test]
    fn a_guest_that_goes_round_in_circles_lengthens_its_runs_by_what_the_host_is_late() {
        // It is where it was whenever it is interrupted, and the host is late by a tenth of a slice.
        let (mut alarm, mut now) = (Alarm::new(true, FREQUENCY, SLOW), 1_000);
        for round in 0..10_000_u64 {
            let given = (alarm.end_of_run(now) - now).max([SLICE, 500, 0, 3_000][round as usize % 4]);
            assert!(given <= SLICE, "round {round}: a run of {given} ticks");
            alarm.want(now + given);
            alarm.run_begins(now);
            now += given + SLICE / 10;
            alarm.ended_run(now, false);
        }
    }

    #[test]
    fn a_fast_hosts_deadlines_are_not_put_off_whatever_guests_do() {
        let (mut alarm, mut now) = (Alarm::new(true, FREQUENCY, 10), 1_000);
        for (given, way) in [(0, 20), (10, 20), (400, 50_000), (0, 1_000_000), (SLICE, 20)] {
            run(&mut alarm, &mut now, given, way);
            assert_eq!(alarm.end_of_run(now), now);
            assert!(!alarm.host_is_slow());
        }
    }
}
