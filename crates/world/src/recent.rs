//! The guests' last exits.

use core::fmt::Write;
use core::sync::atomic::{AtomicUsize, Ordering};

use trace::{Event, Ring};

/// The guests' last exits, where the epitaph of a panic finds them.
#[derive(Debug)]
pub struct Recent {
    pub(crate) guests: [Ring; bundle::MAX_VMS],
    /// The guest that ran last.
    pub(crate) last: AtomicUsize,
}

impl Recent {
    /// Nothing has happened yet.
    pub const fn new() -> Self {
        Self { guests: [const { Ring::new() }; bundle::MAX_VMS], last: AtomicUsize::new(0) }
    }

    /// A guest's last exits, the oldest first.
    pub fn of(&self, guest: usize) -> impl Iterator<Item = Event> {
        self.guests.get(guest).into_iter().flat_map(Ring::iter)
    }

    /// What a panic says of the guest that ran last.
    pub fn epitaph(&self, to: &mut impl Write) {
        let last = self.last.load(Ordering::Relaxed);
        let _ = writeln!(to, "hypocaust: the last exits of guest {}, the latest last:", last + 1);
        for Event { pc, cause, value } in self.of(last) {
            let _ = writeln!(to, "  pc {pc:#018x} scause {cause:#018x} stval {value:#018x}");
        }
    }
}

impl Default for Recent {
    fn default() -> Self {
        Self::new()
    }
}
