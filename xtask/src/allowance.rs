//! Time limits that a busy machine does not use up. What a program and its children wait for a processor while they could
//! run does not count (`/proc/PID/task/TID/schedstat`), as far as the kernel tells; what they run, and what they wait for
//! anything else, does. So a limit means the same beside other work, and a program that hangs still meets it.
//!
//! A slow machine is another matter: see `pace`.

use std::fs;
use std::time::{Duration, Instant};

/// How many times its limit a program may take on the clock, whatever it waits for.
const HARD: u32 = 8;

/// How often the kernel is asked at most.
const ASK: Duration = Duration::from_millis(50);

/// How long a program may still run.
#[derive(Debug)]
pub struct Allowance {
    process: u32,
    limit: Duration,
    start: Instant,
    /// When the kernel was last asked.
    asked: Option<Instant>,
    /// The longest that it was found to have waited: a thread that has ended is seen no more.
    waited: Duration,
}

impl Allowance {
    /// `limit` for the process with this number and all that it starts, from now on.
    pub fn new(process: u32, limit: Duration) -> Self {
        Self { process, limit, start: Instant::now(), asked: None, waited: Duration::ZERO }
    }

    /// What it has used.
    pub fn used(&mut self) -> Duration {
        if self.asked.is_none_or(|asked| asked.elapsed() >= ASK) {
            self.waited = self.waited.max(waited(self.process));
            self.asked = Some(Instant::now());
        }
        used(self.start.elapsed(), self.waited)
    }

    /// Whether all of it is used.
    pub fn is_over(&mut self) -> bool {
        self.used() >= self.limit
    }

    /// Nothing is left from now on.
    pub fn end(&mut self) {
        self.limit = Duration::ZERO;
    }
}

/// The most that a limit can last on the clock.
pub fn hard(limit: Duration) -> Duration {
    limit * HARD
}

/// What counts of the time that has passed.
fn used(passed: Duration, waited: Duration) -> Duration {
    passed.saturating_sub(waited).max(passed / HARD)
}

/// How long the threads of a process and of its children have waited for a processor, together.
fn waited(process: u32) -> Duration {
    let mut sum = Duration::ZERO;
    let mut processes = vec![process];
    while let Some(process) = processes.pop() {
        // One that has ended meanwhile has no entries.
        let Ok(threads) = fs::read_dir(format!("/proc/{process}/task")) else { continue };
        for thread in threads.flatten() {
            let read = |name: &str| fs::read_to_string(thread.path().join(name)).unwrap_or_default();
            sum += schedstat(&read("schedstat")).map_or(Duration::ZERO, |(_, waited)| waited);
            processes
                .extend(read("children").split_whitespace().filter_map(|child| child.parse::<u32>().ok()));
        }
    }
    sum
}

/// What a thread has run, and what it has waited for a processor: the line has both in nanoseconds.
pub fn schedstat(line: &str) -> Option<(Duration, Duration)> {
    let mut numbers = line.split_whitespace().map(|word| word.parse().map(Duration::from_nanos));
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn waiting_for_a_processor_does_not_count_up_to_the_hard_limit() {
        assert_eq!(used(10 * SECOND, Duration::ZERO), 10 * SECOND, "idle or at work");
        assert_eq!(used(100 * SECOND, 70 * SECOND), 30 * SECOND);
        // Several threads have waited at once.
        assert_eq!(used(80 * SECOND, 300 * SECOND), 10 * SECOND);
        assert_eq!(used(hard(SECOND), 300 * SECOND), SECOND);
    }

    #[test]
    fn the_kernels_numbers_are_read() {
        let both = (Duration::from_nanos(350_363_716), Duration::from_nanos(1_183_615_580));
        assert_eq!(schedstat("350363716 1183615580 130\n"), Some(both));
        assert_eq!(schedstat(""), None);
    }

    #[test]
    fn a_program_that_sleeps_uses_its_allowance_and_its_children_are_seen() {
        let mut child = std::process::Command::new("sh").args(["-c", "sleep 20 & wait"]).spawn().unwrap();
        let mut allowance = Allowance::new(child.id(), SECOND / 10);
        let start = Instant::now();
        while !allowance.is_over() && start.elapsed() < 20 * SECOND {
            std::thread::sleep(Duration::from_millis(5));
        }
        assert!(start.elapsed() < 20 * SECOND);
        let children = fs::read_to_string(format!("/proc/{0}/task/{0}/children", child.id())).unwrap();
        let sleep: u32 = children.trim().parse().unwrap();
        let alone = waited(sleep);
        assert!(waited(child.id()) >= alone && fs::read_dir(format!("/proc/{sleep}")).is_ok());
        let _ = std::process::Command::new("kill").arg(sleep.to_string()).status();
        let _ = child.wait();
    }
}
