//! The last exits of a guest, for the operator and for the epitaph of a panic.

use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// An exit as the hardware reported it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Event {
    /// The guest's pc.
    pub pc: u64,
    /// scause.
    pub cause: u64,
    /// stval.
    pub value: u64,
}

/// Events that the ring remembers; a power of two.
pub const LENGTH: usize = 32;

/// An event's pc, cause and value. Aligned, for places to be found by a shift.
#[derive(Debug)]
#[repr(align(32))]
struct Place([AtomicU64; 3]);

/// A ring of the last `LENGTH` events. One hart records; a panic may read at any time, so the words are atomic.
#[derive(Debug)]
pub struct Ring {
    events: [Place; LENGTH],
    count: AtomicUsize,
}

impl Ring {
    /// A ring that remembers nothing yet.
    pub const fn new() -> Self {
        Self {
            events: [const { Place([const { AtomicU64::new(0) }; 3]) }; LENGTH],
            count: AtomicUsize::new(0),
        }
    }

    /// Records an event.
    #[inline]
    pub fn record(&self, event: Event) {
        let count = self.count.load(Ordering::Relaxed);
        let Place([pc, cause, value]) = &self.events[count % LENGTH];
        pc.store(event.pc, Ordering::Relaxed);
        cause.store(event.cause, Ordering::Relaxed);
        value.store(event.value, Ordering::Relaxed);
        self.count.store(count.wrapping_add(1), Ordering::Relaxed);
    }

    /// What is remembered, the oldest first.
    pub fn iter(&self) -> impl Iterator<Item = Event> + '_ {
        let count = self.count.load(Ordering::Relaxed);
        (count.saturating_sub(LENGTH)..count).map(|n| {
            let Place([pc, cause, value]) = &self.events[n % LENGTH];
            let read = |word: &AtomicU64| word.load(Ordering::Relaxed);
            Event { pc: read(pc), cause: read(cause), value: read(value) }
        })
    }
}

impl Default for Ring {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_events_are_forgotten_first() {
        let ring = Ring::new();
        assert_eq!(ring.iter().count(), 0);
        for pc in 0..LENGTH as u64 + 3 {
            ring.record(Event { pc, ..Event::default() });
        }
        let mut pcs = ring.iter().map(|event| event.pc);
        assert_eq!(pcs.next(), Some(3));
        assert_eq!(pcs.last(), Some(LENGTH as u64 + 2));
    }
}
