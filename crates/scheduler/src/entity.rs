//! One entity: its virtual time, its cap, and its accounts. Does not know the others.
//!
//! Virtual time only ever goes forwards. An entity that wakes up is put at most one slice of its own behind the others:
//! what it did not use while it slept is lost but for that. So it can be chosen at once and for a slice, and over any
//! length of time gets no more than if it had been awake all the time, and a slice.

/// What an entity gets.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Share {
    /// Its weight beside those of the others; 0 counts as 1.
    pub weight: u32,
    /// The most that it gets, in percent of the hart, 1 to 100; `None` and 100 are no cap, 0 counts as 1.
    pub cap: Option<u32>,
}

/// What an entity has had, in ticks.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Accounts {
    /// It ran, or work was done for it.
    pub ran: u64,
    /// It would have run, and did not get the hart: others had it, or its cap was reached.
    pub waited: u64,
}

/// A tick of an entity of weight 1 in virtual time: finer than a tick at the greatest weight.
const SCALE: u64 = 1 << 20;
/// Ticks that are charged at once at most: weeks on any clock.
const MOST: u64 = u64::MAX / SCALE;

/// Where an entity is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Asleep,
    /// Since then.
    Waiting(u64),
    Running,
}

#[derive(Clone, Debug)]
pub(crate) struct Entity {
    pub share: Share,
    pub virtual_time: u128,
    /// It has woken up, and has not run since.
    pub has_woken: bool,
    pub accounts: Accounts,
    state: State,
    /// The period, counted from 0, that `used` is about.
    period: u64,
    /// Ticks of the cap's allowance that are used up in it. What an entity had too much is carried over.
    used: u64,
}

impl Entity {
    pub fn new(share: Share, virtual_time: u128) -> Self {
        Self {
            share,
            virtual_time,
            has_woken: false,
            accounts: Accounts::default(),
            state: State::Asleep,
            period: 0,
            used: 0,
        }
    }

    pub fn is_ready(&self) -> bool {
        self.state != State::Asleep
    }

    pub fn wake(&mut self, now: u64, floor: u128, slice: u64) {
        if self.state == State::Asleep {
            self.state = State::Waiting(now);
            self.has_woken = true;
            self.virtual_time = self.virtual_time.max(floor.saturating_sub(self.virtual_ticks(slice)));
        }
    }

    pub fn sleep(&mut self, now: u64) {
        self.note_wait(now);
        self.state = State::Asleep;
    }

    /// It gets the hart. That alone costs a tick of virtual time: one that never stays for a whole tick is not free.
    pub fn start(&mut self, now: u64) {
        self.note_wait(now);
        self.state = State::Running;
        self.has_woken = false;
        self.virtual_time = self.virtual_time.saturating_add(self.virtual_ticks(1));
    }

    /// It ran, and could go on.
    pub fn put_back(&mut self, now: u64) {
        if self.state == State::Running {
            self.state = State::Waiting(now);
        }
    }

    pub fn charge(&mut self, ticks: u64, now: u64, period: u64) {
        self.accounts.ran = self.accounts.ran.saturating_add(ticks);
        self.virtual_time = self.virtual_time.saturating_add(self.virtual_ticks(ticks));
        let number = now / period;
        if number > self.period {
            self.turn_to(number, now.saturating_sub(ticks), period);
            // The rest is of the new period.
            self.used = self.used.saturating_add(ticks.min(now % period));
        } else {
            self.used = self.used.saturating_add(ticks);
        }
    }

    /// Goes on to a later period, when it has been running since `since`: what it ran in the periods before counts there.
    fn turn_to(&mut self, number: u64, since: u64, period: u64) {
        let Some(budget) = self.budget(period) else {
            (self.period, self.used) = (number, 0);
            return;
        };
        let began = since / period;
        if began < number {
            // It stood still up to then, and ran all through the periods in between.
            self.used = self.used_in(since, period).saturating_add(period - since % period);
            let whole = (number - began).wrapping_sub(1);
            self.used =
                self.used.saturating_sub(budget).saturating_add(whole.saturating_mul(period - budget));
        } else {
            self.used = self.used_in(since, period);
        }
        self.period = number;
    }

    /// Whether its cap holds it up.
    pub fn is_capped(&self, now: u64, period: u64) -> bool {
        self.allowance(now, period) == 0
    }

    /// How long it may run before its cap is reached.
    pub fn allowance(&self, now: u64, period: u64) -> u64 {
        self.budget(period).map_or(u64::MAX, |budget| budget.saturating_sub(self.used_in(now, period)))
    }

    /// The beginning of the first period in which its cap allows something again.
    pub fn refilled_at(&self, now: u64, period: u64) -> u64 {
        let Some(budget) = self.budget(period) else { return now };
        let periods = (self.used_in(now, period) / budget).max(1);
        (now / period).saturating_add(periods).saturating_mul(period)
    }

    /// Ticks in a period, where there is a cap.
    fn budget(&self, period: u64) -> Option<u64> {
        let cap = self.share.cap.filter(|cap| *cap < 100)?;
        Some((period.saturating_mul(u64::from(cap.max(1))) / 100).max(1))
    }

    fn used_in(&self, now: u64, period: u64) -> u64 {
        let passed = (now / period).saturating_sub(self.period);
        let budget = self.budget(period).unwrap_or(u64::MAX);
        self.used.saturating_sub(passed.saturating_mul(budget))
    }

    fn note_wait(&mut self, now: u64) {
        if let State::Waiting(since) = self.state {
            self.accounts.waited = self.accounts.waited.saturating_add(now.saturating_sub(since));
        }
    }

    fn virtual_ticks(&self, ticks: u64) -> u128 {
        u128::from(ticks.min(MOST) * SCALE / u64::from(self.share.weight.max(1)))
    }
}
