//! The scheduler's queue: which process runs next, round robin.
//!
//! Holds slot numbers of the process table and knows nothing of processes. A runnable process is in the queue
//! exactly once, and one that is running, sleeping or gone is not in it.

/// A first-in, first-out queue of at most `N` slot numbers, without repetition.
pub struct RunQueue<const N: usize> {
    slots: [usize; N],
    len: usize,
}

impl<const N: usize> RunQueue<N> {
    /// An empty queue.
    pub const fn new() -> Self {
        Self { slots: [0; N], len: 0 }
    }

    /// Puts `slot` at the end. Does nothing where it waits already, so the queue, with one place for each slot
    /// of the table, is never too small.
    pub fn push(&mut self, slot: usize) {
        if !self.contains(slot)
            && let Some(place) = self.slots.get_mut(self.len)
        {
            *place = slot;
            self.len += 1;
        }
    }

    /// Takes the slot that waited longest.
    pub fn pop(&mut self) -> Option<usize> {
        let first = *self.waiting().first()?;
        self.remove(first);
        Some(first)
    }

    /// Takes `slot` out, wherever it is; the others keep their order.
    pub fn remove(&mut self, slot: usize) {
        if let Some(at) = self.waiting().iter().position(|&other| other == slot) {
            self.slots.copy_within(at + 1..self.len, at);
            self.len -= 1;
        }
    }

    /// Whether `slot` waits.
    pub fn contains(&self, slot: usize) -> bool {
        self.waiting().contains(&slot)
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    fn waiting(&self) -> &[usize] {
        &self.slots[..self.len]
    }
}

impl<const N: usize> Default for RunQueue<N> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_take_turns() {
        let mut queue = RunQueue::<4>::new();
        for slot in [2, 0, 3] {
            queue.push(slot);
        }
        for expected in [2, 0, 3, 2, 0, 3] {
            let slot = queue.pop().unwrap();
            assert_eq!(slot, expected);
            queue.push(slot);
        }
    }

    #[test]
    fn a_slot_waits_only_once() {
        let mut queue = RunQueue::<2>::new();
        queue.push(1);
        queue.push(1);
        assert_eq!((queue.pop(), queue.pop()), (Some(1), None));
    }

    #[test]
    fn removing_keeps_the_order_of_the_others() {
        let mut queue = RunQueue::<4>::new();
        (0..4).for_each(|slot| queue.push(slot));
        queue.remove(1);
        queue.remove(1);
        assert!(!queue.contains(1));
        assert_eq!([queue.pop(), queue.pop(), queue.pop(), queue.pop()], [Some(0), Some(2), Some(3), None]);
        assert!(queue.is_empty());
    }
}
