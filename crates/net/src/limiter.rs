//! How much a port may send: a bucket of bytes that time fills.

/// A limit of bytes per second. Up to a tenth of a second's worth, or four frames, may come at once.
#[derive(Clone, Copy, Debug)]
pub struct Limiter {
    /// Bytes per second.
    rate: u64,
    /// Ticks per second.
    frequency: u64,
    /// What may be sent now, in bytes times `frequency`: no tick is lost by rounding.
    credit: u128,
    last: u64,
}

impl Limiter {
    /// A limit of `rate` bytes per second, on a clock of `frequency` ticks per second that stands at `now`.
    pub fn new(rate: u64, frequency: u64, now: u64) -> Self {
        let mut limiter = Self { rate, frequency: frequency.max(1), credit: 0, last: now };
        limiter.credit = limiter.most();
        limiter
    }

    /// Whether `bytes` may go at `now`; they are then spent.
    pub fn take(&mut self, bytes: usize, now: u64) -> bool {
        let passed = now.saturating_sub(self.last);
        self.last = self.last.max(now);
        let earned = u128::from(passed) * u128::from(self.rate);
        self.credit = self.credit.saturating_add(earned).min(self.most());
        let price = bytes as u128 * u128::from(self.frequency);
        match self.credit.checked_sub(price) {
            Some(left) => {
                self.credit = left;
                true
            }
            None => false,
        }
    }

    fn most(&self) -> u128 {
        let bytes = (self.rate / 10).max(4 * crate::MAX_FRAME as u64);
        u128::from(bytes) * u128::from(self.frequency)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_burst_goes_and_then_what_time_allows() {
        let mut limiter = Limiter::new(1_000_000, 10_000_000, 0);
        let burst = (0..1000).filter(|_| limiter.take(1000, 0)).count();
        assert_eq!(burst, 100);
        // 1,000 bytes are 1 ms.
        assert!(!limiter.take(1000, 9_999));
        assert!(limiter.take(1000, 10_000));
        assert!(!limiter.take(1000, 10_000));
    }

    #[test]
    fn a_clock_that_goes_back_earns_nothing() {
        let mut limiter = Limiter::new(1000, 1000, 500);
        while limiter.take(100, 500) {}
        assert!(!limiter.take(100, 0));
        assert!(!limiter.take(100, 500));
        assert!(limiter.take(100, 600));
    }

    proptest! {
        #[test]
        fn no_more_goes_than_rate_and_burst(
            rate in 1u64..10_000_000,
            sends in prop::collection::vec((0u64..100_000, 14usize..1518), 1..300),
        ) {
            const FREQUENCY: u64 = 1_000_000;
            let mut limiter = Limiter::new(rate, FREQUENCY, 0);
            let (mut now, mut sent) = (0, 0u64);
            for (step, bytes) in sends {
                now += step;
                if limiter.take(bytes, now) {
                    sent += bytes as u64;
                }
            }
            let burst = (rate / 10).max(4 * crate::MAX_FRAME as u64);
            prop_assert!(sent <= burst + rate * now / FREQUENCY + 1);
        }
    }
}
