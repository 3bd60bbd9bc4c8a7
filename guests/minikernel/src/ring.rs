//! A byte queue between one producer and one consumer, here the UART's interrupt handler and the shell.
//!
//! It needs no lock: each side writes only its own counter, and publishes a byte by a release store of that
//! counter. It drops nothing: a full ring refuses the byte, and the producer leaves it where it is.

use core::sync::atomic::{AtomicU8, AtomicUsize, Ordering};

/// A ring of `N` bytes. `N` is a power of two, so that the counters may run on and wrap.
pub struct ByteRing<const N: usize> {
    bytes: [AtomicU8; N],
    /// Bytes ever pushed; written by the producer only.
    pushed: AtomicUsize,
    /// Bytes ever popped; written by the consumer only.
    popped: AtomicUsize,
}

impl<const N: usize> ByteRing<N> {
    /// An empty ring.
    pub const fn new() -> Self {
        const { assert!(N.is_power_of_two()) };
        Self {
            bytes: [const { AtomicU8::new(0) }; N],
            pushed: AtomicUsize::new(0),
            popped: AtomicUsize::new(0),
        }
    }

    /// Appends a byte. `false` when the ring is full; the byte is then not taken.
    pub fn push(&self, byte: u8) -> bool {
        if self.is_full() {
            return false;
        }
        let at = self.pushed.load(Ordering::Relaxed);
        self.bytes[at % N].store(byte, Ordering::Relaxed);
        // Release: whoever sees the new count also sees the byte.
        self.pushed.store(at.wrapping_add(1), Ordering::Release);
        true
    }

    /// Takes the oldest byte.
    pub fn pop(&self) -> Option<u8> {
        let at = self.popped.load(Ordering::Relaxed);
        if at == self.pushed.load(Ordering::Acquire) {
            return None;
        }
        let byte = self.bytes[at % N].load(Ordering::Relaxed);
        // Release: the producer may overwrite the place only after it was read.
        self.popped.store(at.wrapping_add(1), Ordering::Release);
        Some(byte)
    }

    /// Whether `byte` waits. For the consumer.
    pub fn contains(&self, byte: u8) -> bool {
        let first = self.popped.load(Ordering::Relaxed);
        (0..self.len()).any(|at| self.bytes[first.wrapping_add(at) % N].load(Ordering::Relaxed) == byte)
    }

    /// Whether [`push`](Self::push) would refuse.
    pub fn is_full(&self) -> bool {
        self.len() == N
    }

    /// Whether there is nothing to pop.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes waiting.
    pub fn len(&self) -> usize {
        // popped first: it can only grow towards pushed, so the difference never turns negative.
        let popped = self.popped.load(Ordering::Acquire);
        self.pushed.load(Ordering::Acquire).wrapping_sub(popped).min(N)
    }
}

impl<const N: usize> Default for ByteRing<N> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;

    #[test]
    fn bytes_come_out_in_the_order_they_went_in() {
        let ring = ByteRing::<4>::new();
        for round in 0..10u8 {
            assert!(ring.push(round));
            assert!(ring.push(round + 100));
            assert_eq!((ring.pop(), ring.pop(), ring.pop()), (Some(round), Some(round + 100), None));
        }
    }

    #[test]
    fn a_full_ring_refuses_and_loses_nothing() {
        let ring = ByteRing::<4>::new();
        assert!((0..4).all(|byte| ring.push(byte)));
        assert!(ring.is_full() && !ring.push(9));
        assert_eq!(ring.pop(), Some(0));
        assert!(ring.push(4));
        assert!(ring.contains(4) && !ring.contains(0));
        assert_eq!(core::iter::from_fn(|| ring.pop()).collect::<std::vec::Vec<_>>(), [1, 2, 3, 4]);
        assert!(ring.is_empty());
    }

    #[test]
    fn a_producer_and_a_consumer_on_two_threads_agree() {
        let ring = ByteRing::<8>::new();
        let sent = (0..20_000u32).map(|i| i as u8);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for byte in sent.clone() {
                    while !ring.push(byte) {
                        std::thread::yield_now();
                    }
                }
            });
            for expected in sent.clone() {
                let got = loop {
                    match ring.pop() {
                        Some(byte) => break byte,
                        None => std::thread::yield_now(),
                    }
                };
                assert_eq!(got, expected);
            }
        });
    }
}
