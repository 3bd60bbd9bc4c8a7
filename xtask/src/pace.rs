//! How much slower this machine is than the one on which the time limits were set: a fixed piece of work, in processor
//! time, so that other work on the machine does not count.

use crate::allowance::schedstat;
use std::fs;
use std::hint::black_box;
use std::time::{Duration, Instant};

/// Rounds of the piece of work.
const ROUNDS: u32 = 4_000_000;
/// What it takes on a machine for which the limits are right.
const REFERENCE: Duration = Duration::from_millis(40);
/// How often it is done: the best counts, since other threads of the same core slow it down.
const TIMES: u32 = 5;
/// No machine is given more.
const MOST: f64 = 8.0;

/// By what to stretch limits on this machine: 1 or more.
pub fn measure() -> f64 {
    let best = (0..TIMES).map(|_| work()).min().unwrap_or(REFERENCE);
    stretch(best)
}

fn stretch(took: Duration) -> f64 {
    (took.as_secs_f64() / REFERENCE.as_secs_f64()).clamp(1.0, MOST)
}

/// Does it once; the processor time that it took, or the time on the clock where the kernel does not tell.
fn work() -> Duration {
    let (before, start) = (processor_time(), Instant::now());
    let mut number = black_box(1_u64);
    for _ in 0..ROUNDS {
        // A round needs the last one's result.
        number ^= number << 13;
        number ^= number >> 7;
        number ^= number << 17;
    }
    black_box(number);
    let clock = start.elapsed();
    before.zip(processor_time()).map_or(clock, |(before, after)| after.saturating_sub(before))
}

/// Of this thread.
fn processor_time() -> Option<Duration> {
    let line = fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    schedstat(&line).map(|(run, _)| run)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fast_machine_gets_the_limits_as_they_are_and_a_slow_one_more() {
        assert_eq!(stretch(REFERENCE / 2), 1.0);
        assert_eq!(stretch(REFERENCE), 1.0);
        assert_eq!(stretch(REFERENCE * 3), 3.0);
        assert_eq!(stretch(REFERENCE * 100), MOST);
    }

    #[test]
    fn the_work_takes_time() {
        assert!(work() > REFERENCE / 100);
        assert!((1.0..=MOST).contains(&measure()));
    }
}
