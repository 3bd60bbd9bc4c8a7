//! Bounds how often a guest makes firmware print. Some firmware prints a line on the operator's console for each instruction
//! that it takes for a wrong CSR access, and nobody can keep a guest from executing one: it traps to the firmware.
//! What comes too fast is followed by a pause of the vCPU.
//!
//! An instruction that is carried out, one of the kernel's, is replaced before it traps or once it has trapped, so few kernels
//! ever come near a bound, and it is a wide one. There has to be one: a kernel can write code for ever that nobody has seen.

use sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Lines that come at once, after a time without, of instructions that are a fault of the guest.
const FAULTS_AT_ONCE: u64 = 64;
/// The same of those that are carried out: one for each copy of a page.
const DONE_AT_ONCE: u64 = 1024;
/// Lines in a second.
pub const PER_SECOND: u64 = 20;

/// How often a guest made the firmware print, as far as that matters for its pauses. Times are in ticks of the timebase.
#[derive(Debug)]
pub struct Complaints {
    /// For how long a line counts.
    each: u64,
    /// Until when those that were printed count: of faults, and of what was carried out.
    until: [AtomicU64; 2],
    was_held: AtomicBool,
    was_told: AtomicBool,
}

impl Complaints {
    /// None so far, for a clock of `frequency` ticks a second.
    pub(crate) fn new(frequency: u64) -> Self {
        Self {
            each: frequency / PER_SECOND + 1,
            until: [AtomicU64::new(0), AtomicU64::new(0)],
            was_held: AtomicBool::new(false),
            was_told: AtomicBool::new(false),
        }
    }

    /// Counts a line at `now`, of an instruction that is carried out or a fault; until when the vCPU that caused it has to
    /// pause, if at all.
    pub(crate) fn note(&self, now: u64, is_done: bool) -> Option<u64> {
        let [faults, done] = &self.until;
        let (until, at_once) = if is_done { (done, DONE_AT_ONCE) } else { (faults, FAULTS_AT_ONCE) };
        let counted = |until: u64| until.max(now).saturating_add(self.each);
        let before = until.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |until| Some(counted(until)));
        let (Ok(before) | Err(before)) = before;
        let resume = counted(before).saturating_sub(self.each.saturating_mul(at_once));
        let is_held = resume > now;
        if is_held {
            self.was_held.store(true, Ordering::Relaxed);
        }
        is_held.then_some(resume)
    }

    /// Whether a vCPU had to pause for the first time.
    pub fn take_news(&self) -> bool {
        self.was_held.load(Ordering::Relaxed) && !self.was_told.swap(true, Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_at_once_then_so_many_a_second_whatever_the_guest_does() {
        const SECOND: u64 = 1_000_000;
        for (is_done, at_once) in [(false, FAULTS_AT_ONCE), (true, DONE_AT_ONCE)] {
            let complaints = Complaints::new(SECOND);
            let (mut now, mut lines) = (7 * SECOND, 0);
            while now < 17 * SECOND {
                lines += 1;
                now = complaints.note(now, is_done).unwrap_or(now + 1);
            }
            assert!((at_once + 10 * PER_SECOND).abs_diff(lines) <= 1, "{lines}");
            assert!(complaints.take_news() && !complaints.take_news());
            // After a while without, as many at once, and no more.
            now += 60 * SECOND;
            assert!((0..at_once).all(|_| complaints.note(now, is_done).is_none()));
            let resume = complaints.note(now, is_done).unwrap();
            assert!(resume > now && resume <= now + SECOND / PER_SECOND + 1);
            // Those of the other kind are counted apart.
            assert_eq!(complaints.note(now, !is_done), None);
        }
    }
}
