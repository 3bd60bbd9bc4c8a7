//! How long a guest that ends again and again waits before it is started anew: at once the first time, then twice as long
//! each time, up to a longest delay. A long life is forgiven: what ended before it does not count.

/// How long a life has to be for the delays to begin anew, in seconds.
pub const LONG_LIFE: u64 = 60;
/// The first delay that is not 0, in milliseconds.
const FIRST: u64 = 10;

/// Durations that a guest's restarts go by, in ticks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Times {
    /// The first delay that is not 0.
    pub first: u64,
    /// The longest delay; 0 for none at all.
    pub longest: u64,
    /// How long a life has to be for the delays to begin anew.
    pub long_life: u64,
}

impl Times {
    /// Delays of at most so many milliseconds, for a clock of `frequency` ticks a second.
    pub const fn for_frequency(frequency: u64, longest_milliseconds: u64) -> Self {
        const fn ticks(milliseconds: u64, frequency: u64) -> u64 {
            let ticks = milliseconds as u128 * frequency as u128 / 1000;
            if ticks > u64::MAX as u128 { u64::MAX } else { ticks as u64 }
        }
        Self {
            first: ticks(FIRST, frequency),
            longest: ticks(longest_milliseconds, frequency),
            long_life: ticks(1000 * LONG_LIFE, frequency),
        }
    }
}

/// A guest's delays.
#[derive(Clone, Copy, Debug)]
pub struct Backoff {
    times: Times,
    /// The delay after the next end.
    next: u64,
    /// When this life began.
    began: u64,
}

impl Backoff {
    /// The delays of a guest that has not ended yet.
    pub const fn new(times: Times) -> Self {
        Self { times, next: 0, began: 0 }
    }

    /// A life begins.
    pub(crate) fn begin(&mut self, now: u64) {
        self.began = now;
    }

    /// It has ended: the delay before the next one, in ticks.
    pub(crate) fn delay(&mut self, now: u64) -> u64 {
        if now.saturating_sub(self.began) >= self.times.long_life {
            self.next = 0;
        }
        let delay = self.next.min(self.times.longest);
        self.next = match delay {
            0 => self.times.first,
            delay => delay.saturating_mul(2),
        };
        delay
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FREQUENCY: u64 = 10_000_000;
    const MILLISECOND: u64 = FREQUENCY / 1000;

    fn delays(longest: u64, lives: impl Iterator<Item = u64>) -> [u64; 16] {
        let mut backoff = Backoff::new(Times::for_frequency(FREQUENCY, longest));
        let (mut now, mut delays) = (0, [0; 16]);
        for (delay, life) in delays.iter_mut().zip(lives) {
            backoff.begin(now);
            now += life;
            *delay = backoff.delay(now) / MILLISECOND;
            now += *delay * MILLISECOND;
        }
        delays
    }

    #[test]
    fn delays_double_from_none_up_to_the_longest() {
        assert_eq!(
            delays(60_000, core::iter::repeat(MILLISECOND)),
            [0, 10, 20, 40, 80, 160, 320, 640, 1280, 2560, 5120, 10_240, 20_480, 40_960, 60_000, 60_000]
        );
        assert_eq!(delays(25, core::iter::repeat(1))[..5], [0, 10, 20, 25, 25]);
        assert_eq!(delays(0, core::iter::repeat(1)), [0; 16]);
    }

    #[test]
    fn a_long_life_is_forgiven() {
        let life = |n: u64| if n == 4 { LONG_LIFE * FREQUENCY } else { LONG_LIFE * FREQUENCY - 1 };
        assert_eq!(delays(60_000, (0..).map(life))[..8], [0, 10, 20, 40, 0, 10, 20, 40]);
    }

    #[test]
    fn a_fast_clock_overflows_nothing() {
        let times = Times::for_frequency(u64::MAX, u64::MAX);
        assert_eq!((times.longest, times.long_life), (u64::MAX, u64::MAX));
        let mut backoff = Backoff::new(times);
        (0..200).for_each(|_| {
            backoff.delay(0);
        });
        assert_eq!(backoff.delay(0), u64::MAX);
    }
}
