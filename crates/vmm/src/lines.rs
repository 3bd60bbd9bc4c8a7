//! The board's interrupt lines to the harts, as vCPUs read them without the board's lock. Whoever has that pushes them when it
//! gives it back (`Machine::with_board`); a vCPU whose line has changed finds mail, and takes the line's level over then.

use sync::atomic::{AtomicU32, Ordering};

use crate::link::Link;

/// The level of each hart's S-mode external interrupt (SEIP), bit `n` for hart `n`.
#[derive(Debug, Default)]
pub(crate) struct Lines(AtomicU32);

impl Lines {
    /// Notes the levels, and lets harts know whose line has changed. Only for who has the board's lock: two that push at one
    /// time could leave the older levels.
    #[inline]
    pub(crate) fn push(&self, levels: u32, links: &[Link]) {
        let changed = self.0.load(Ordering::Relaxed) ^ levels;
        if changed != 0 {
            self.change(levels, changed, links);
        }
    }

    #[inline(never)]
    fn change(&self, levels: u32, changed: u32, links: &[Link]) {
        self.0.store(levels, Ordering::Relaxed);
        // Who takes the mail sees the levels, for the one releases and the other acquires it.
        let is_changed = |hart: usize| changed >> hart & 1 != 0;
        links
            .iter()
            .take(u32::BITS as usize)
            .enumerate()
            .filter(|(hart, _)| is_changed(*hart))
            .for_each(|(_, link)| link.post());
    }

    /// The level of a hart's line.
    pub(crate) fn level(&self, hart: usize) -> bool {
        let level = 1_u32.checked_shl(hart as u32).unwrap_or(0);
        self.0.load(Ordering::Relaxed) & level != 0
    }
}

#[cfg(all(test, loom))]
mod races;
