//! Time limits that a busy machine does not use up. What a program and its children wait for a processor while they could
//! run does not count (`/proc/PID/task/TID/schedstat`), as far as the kernel tells; what they run, and what they wait for
//! anything else, does. So a limit means the same beside other work, and a program that hangs still meets it: one that
//! spins, when it has run for so long, however little of a processor it gets.
//!
//! A slow machine is another matter: see `pace`.

use std::fs;
use std::time::{Duration, Instant};

/// How many times its limit a program may take on the clock, whatever it waits for. Where many sessions share a processor,
/// and many programs one session, one gets a fiftieth of it.
const HARD: u32 = 64;

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
    /// The most that was found: a thread that has ended is seen no more.
    found: Times,
}

impl Allowance {
    /// `limit` for the process with this number and all that it starts, from now on.
    pub fn new(process: u32, limit: Duration) -> Self {
        Self { process, limit, start: Instant::now(), asked: None, found: Times::default() }
    }

    /// What it has used.
    pub fn used(&mut self) -> Duration {
        if self.asked.is_none_or(|asked| asked.elapsed() >= ASK) {
            self.found = self.found.max(Times::of(self.process));
            self.asked = Some(Instant::now());
        }
        self.found.used(self.start.elapsed())
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

/// What the kernel tells of a process and its children.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Times {
    /// What the thread that has run most has run.
    run: Duration,
    /// How long all threads have waited for a processor, together.
    waited: Duration,
}

impl Times {
    fn of(process: u32) -> Self {
        let mut times = Self::default();
        let mut processes = vec![process];
        while let Some(process) = processes.pop() {
            // One that has ended meanwhile has no entries.
            let Ok(threads) = fs::read_dir(format!("/proc/{process}/task")) else { continue };
            for thread in threads.flatten() {
                let read = |name: &str| fs::read_to_string(thread.path().join(name)).unwrap_or_default();
                if let Some((run, waited)) = schedstat(&read("schedstat")) {
                    times = Self { run: times.run.max(run), waited: times.waited + waited };
                }
                processes.extend(
                    read("children").split_whitespace().filter_map(|child| child.parse::<u32>().ok()),
                );
            }
        }
        times
    }

    fn max(self, other: Self) -> Self {
        Self { run: self.run.max(other.run), waited: self.waited.max(other.waited) }
    }

    /// What counts of the time that has passed. Threads that have waited at once have waited for longer than there was time.
    fn used(self, passed: Duration) -> Duration {
        passed.saturating_sub(self.waited).max(self.run).max(passed / HARD)
    }
}

/// What a thread has run, and what it has waited for a processor: the line has both in nanoseconds.
pub fn schedstat(line: &str) -> Option<(Duration, Duration)> {
    let mut numbers = line.split_whitespace().map(|word| word.parse().map(Duration::from_nanos));
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn waiting_for_a_processor_does_not_count_up_to_the_hard_limit() {
        let used = |passed: u32, run: u32, waited: u32| {
            Times { run: run * SECOND, waited: waited * SECOND }.used(passed * SECOND)
        };
        assert_eq!(used(10, 0, 0), 10 * SECOND, "it waits for something else");
        assert_eq!(used(10, 10, 0), 10 * SECOND, "it has a processor of its own");
        assert_eq!(used(100, 20, 70), 30 * SECOND);
        // A fiftieth of a processor.
        assert_eq!(used(5000, 100, 4900), 100 * SECOND);
        // Several threads have waited at once.
        assert_eq!(used(80, 10, 300), 10 * SECOND);
        assert_eq!(used(64, 0, 300), SECOND);
        assert_eq!(hard(SECOND), 64 * SECOND);
    }

    #[test]
    fn the_kernels_numbers_are_read() {
        let both = (Duration::from_nanos(350_363_716), Duration::from_nanos(1_183_615_580));
        assert_eq!(schedstat("350363716 1183615580 130\n"), Some(both));
        assert_eq!(schedstat(""), None);
    }

    #[test]
    fn others_at_work_do_not_use_a_programs_allowance_up() {
        let shell = |script: &str| Command::new("sh").args(["-c", script]).spawn().unwrap();
        let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        // They end by themselves, should this test not live to see it.
        let mut others: Vec<_> =
            (0..4 * processors).map(|_| shell("exec timeout 60 sh -c 'while :; do :; done'")).collect();
        let mut child = shell("i=0; while [ $i -lt 100000 ]; do i=$((i + 1)); done");
        let (mut allowance, start) = (Allowance::new(child.id(), 60 * SECOND), Instant::now());
        while child.try_wait().unwrap().is_none() && !allowance.is_over() {
            std::thread::sleep(Duration::from_millis(5));
        }
        let (used, clock) = (allowance.used(), start.elapsed());
        others.iter_mut().for_each(|other| {
            let _ = Command::new("kill").arg(other.id().to_string()).status();
            let _ = other.wait();
        });
        assert!(used < clock / 2, "{used:?} of {clock:?} count, though five or more share each processor");
    }

    #[test]
    fn a_program_that_sleeps_uses_its_allowance_and_its_children_are_seen() {
        let mut child = Command::new("sh").args(["-c", "sleep 20 & wait"]).spawn().unwrap();
        let mut allowance = Allowance::new(child.id(), SECOND / 10);
        let start = Instant::now();
        while !allowance.is_over() && start.elapsed() < 20 * SECOND {
            std::thread::sleep(Duration::from_millis(5));
        }
        assert!(start.elapsed() < 20 * SECOND);
        let children = fs::read_to_string(format!("/proc/{0}/task/{0}/children", child.id())).unwrap();
        let sleep: u32 = children.trim().parse().unwrap();
        let alone = Times::of(sleep).waited;
        assert!(Times::of(child.id()).waited >= alone && fs::read_dir(format!("/proc/{sleep}")).is_ok());
        let _ = Command::new("kill").arg(sleep.to_string()).status();
        let _ = child.wait();
    }
}
