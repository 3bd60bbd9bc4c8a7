//! The last exits of a vCPU, for the epitaph of a panic.

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

/// A ring of the last `LENGTH` events.
#[derive(Clone, Debug)]
pub struct Ring {
    events: [Event; LENGTH],
    count: usize,
}

impl Ring {
    /// A ring that remembers nothing yet.
    pub const fn new() -> Self {
        Self { events: [Event { pc: 0, cause: 0, value: 0 }; LENGTH], count: 0 }
    }

    /// Records an event.
    #[inline]
    pub fn record(&mut self, event: Event) {
        self.events[self.count % LENGTH] = event;
        self.count = self.count.wrapping_add(1);
    }

    /// What is remembered, the oldest first.
    pub fn iter(&self) -> impl Iterator<Item = Event> + '_ {
        let known = self.count.min(LENGTH);
        (self.count - known..self.count).map(|n| self.events[n % LENGTH])
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
        let mut ring = Ring::new();
        assert_eq!(ring.iter().count(), 0);
        for pc in 0..LENGTH as u64 + 3 {
            ring.record(Event { pc, ..Event::default() });
        }
        let mut pcs = ring.iter().map(|event| event.pc);
        assert_eq!(pcs.next(), Some(3));
        assert_eq!(pcs.last(), Some(LENGTH as u64 + 2));
    }
}
