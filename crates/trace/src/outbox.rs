//! Bytes on their way out, where a panic can still find those that have not gone.

use core::sync::atomic::{AtomicU8, AtomicUsize, Ordering};

/// A bounded queue of `LENGTH` bytes, a power of two. One hart puts in and takes out; a panic may read at any time, so
/// all of it is atomic.
#[derive(Debug)]
pub struct Outbox<const LENGTH: usize> {
    bytes: [AtomicU8; LENGTH],
    put: AtomicUsize,
    taken: AtomicUsize,
}

impl<const LENGTH: usize> Outbox<LENGTH> {
    /// An empty one.
    pub const fn new() -> Self {
        assert!(LENGTH.is_power_of_two());
        let bytes = [const { AtomicU8::new(0) }; LENGTH];
        Self { bytes, put: AtomicUsize::new(0), taken: AtomicUsize::new(0) }
    }

    /// Puts a byte in, if there is room.
    pub fn push(&self, byte: u8) -> bool {
        let put = self.put.load(Ordering::Relaxed);
        let has_room = self.len() < LENGTH;
        if has_room {
            self.bytes[put % LENGTH].store(byte, Ordering::Relaxed);
            self.put.store(put.wrapping_add(1), Ordering::Release);
        }
        has_room
    }

    /// The byte that goes next.
    pub fn front(&self) -> Option<u8> {
        let taken = self.taken.load(Ordering::Relaxed);
        (!self.is_empty()).then(|| self.bytes[taken % LENGTH].load(Ordering::Relaxed))
    }

    /// Takes it out.
    pub fn pop(&self) -> Option<u8> {
        let byte = self.front()?;
        self.taken.fetch_add(1, Ordering::Relaxed);
        Some(byte)
    }

    /// How many bytes are in it.
    pub fn len(&self) -> usize {
        self.put.load(Ordering::Acquire).wrapping_sub(self.taken.load(Ordering::Relaxed))
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<const LENGTH: usize> Default for Outbox<LENGTH> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_leave_in_their_order_and_none_is_overwritten() {
        let outbox = Outbox::<4>::new();
        assert_eq!(outbox.pop(), None);
        // Round and round.
        for first in 0..20_u8 {
            assert!((first..first + 4).all(|byte| outbox.push(byte)));
            assert!(!outbox.push(99), "full");
            assert_eq!(outbox.front(), Some(first));
            assert_eq!(outbox.len(), 4);
            assert!((first..first + 4).all(|byte| outbox.pop() == Some(byte)));
            assert!(outbox.is_empty());
        }
    }

    #[test]
    fn a_panic_finds_what_has_not_gone() {
        static OUTBOX: Outbox<8> = Outbox::new();
        b"gone left".iter().take(8).for_each(|byte| assert!(OUTBOX.push(*byte)));
        (0..5).for_each(|_| assert!(OUTBOX.pop().is_some()));
        let rest: std::vec::Vec<u8> = core::iter::from_fn(|| OUTBOX.pop()).collect();
        assert_eq!(rest, b"lef");
    }
}
