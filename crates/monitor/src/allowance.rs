//! How much the hypervisor says about a guest: what a guest causes again and again must not fill the operator's terminal.
//! What is left out is counted, and told.

/// Lines that may be said at once: some reports with registers.
const MOST: u64 = 64;
/// Seconds for which one more may be said.
const SECONDS_EACH: u64 = 1;
/// Seconds after which what was left out is told, also if nothing else is said.
const TELL_AFTER: u64 = 10;

/// The lines that may still be said about one guest. Times are ticks, which do not go backwards.
#[derive(Clone, Copy, Debug)]
pub struct Allowance {
    /// Ticks for which one more line may be said.
    each: u64,
    /// Ticks that lines can be said for: what is left of `MOST` times `each`.
    saved: u64,
    /// When it was reckoned.
    at: u64,
    left_out: u64,
    /// When what was left out has to be told.
    tell_at: u64,
}

impl Allowance {
    /// All lines that may be said at once, for a clock of `frequency` ticks a second.
    pub const fn new(frequency: u64) -> Self {
        let each = if frequency == 0 { 1 } else { frequency.saturating_mul(SECONDS_EACH) };
        Self { each, saved: each.saturating_mul(MOST), at: 0, left_out: 0, tell_at: u64::MAX }
    }

    /// Takes so many lines out of it, if there are as many; else they are left out, and counted.
    pub fn take(&mut self, lines: u64, now: u64) -> bool {
        let most = self.each.saturating_mul(MOST);
        self.saved = self.saved.saturating_add(now.saturating_sub(self.at)).min(most);
        self.at = now;
        let wanted = self.each.saturating_mul(lines);
        let is_there = wanted <= self.saved;
        if is_there {
            self.saved -= wanted;
        } else {
            self.leave_out(lines, now);
        }
        is_there
    }

    /// Counts lines that were left out.
    pub fn leave_out(&mut self, lines: u64, now: u64) {
        if self.left_out == 0 {
            self.postpone(now);
        }
        self.left_out = self.left_out.saturating_add(lines);
    }

    /// When what was left out has to be told, in ticks; `u64::MAX` is never.
    pub const fn deadline(&self) -> u64 {
        self.tell_at
    }

    /// What was left out could not be told: again later.
    pub const fn postpone(&mut self, now: u64) {
        self.tell_at = now.saturating_add(self.each.saturating_mul(TELL_AFTER));
    }

    /// How many lines were left out since the last time; it is told now.
    pub const fn take_left_out(&mut self) -> u64 {
        self.tell_at = u64::MAX;
        core::mem::replace(&mut self.left_out, 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1000;

    #[test]
    fn so_many_lines_at_once_then_one_a_second() {
        let mut allowance = Allowance::new(SECOND);
        assert!(allowance.take(MOST - 1, 0));
        assert!(!allowance.take(2, 0), "all of it or nothing");
        assert!(allowance.take(1, 0));
        assert!(!allowance.take(1, SECOND - 1));
        assert!(allowance.take(1, SECOND));
        let said = (SECOND..101 * SECOND).filter(|now| allowance.take(1, *now)).count();
        assert_eq!(said, 99);
        // It saves up no more than what may be said at once.
        assert!(!allowance.take(MOST + 1, 1000 * SECOND));
        assert!(allowance.take(MOST, 1000 * SECOND));
    }

    #[test]
    fn what_is_left_out_is_told_once_and_in_time() {
        let mut allowance = Allowance::new(SECOND);
        assert_eq!((allowance.deadline(), allowance.take_left_out()), (u64::MAX, 0));
        assert!(!allowance.take(MOST + 20, 5));
        assert!(!allowance.take(MOST + 20, 500));
        allowance.leave_out(1, 600);
        assert_eq!(allowance.deadline(), 5 + TELL_AFTER * SECOND);
        assert_eq!(allowance.take_left_out(), 2 * (MOST + 20) + 1);
        assert_eq!((allowance.deadline(), allowance.take_left_out()), (u64::MAX, 0));
    }
}
