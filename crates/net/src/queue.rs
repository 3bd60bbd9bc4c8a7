//! Frames that wait for a guest's buffers: a ring of places that is made once, so that a flood takes no memory.

use alloc::boxed::Box;
use alloc::vec;

use crate::frame::Frame;

/// Frames that may wait at a port.
pub const WAITING: usize = 32;

#[derive(Clone, Debug)]
struct Place {
    frame: Frame,
    len: usize,
}

/// A queue of frames.
#[derive(Clone, Debug)]
pub struct Queue {
    places: Box<[Place]>,
    first: usize,
    count: usize,
}

impl Default for Queue {
    fn default() -> Self {
        let place = Place { frame: Frame::default(), len: 0 };
        Self { places: vec![place; WAITING].into_boxed_slice(), first: 0, count: 0 }
    }
}

impl Queue {
    /// Puts a frame in; `false` where there is no room, or it is too long.
    #[must_use]
    pub fn push(&mut self, frame: &[u8]) -> bool {
        if self.count == WAITING {
            return false;
        }
        let Some(place) = self.places.get_mut((self.first + self.count) % WAITING) else { return false };
        let Some(bytes) = place.frame.bytes.get_mut(..frame.len()) else { return false };
        bytes.copy_from_slice(frame);
        place.len = frame.len();
        self.count += 1;
        true
    }

    /// The frame that has waited longest.
    pub fn front(&self) -> Option<&[u8]> {
        let place = self.places.get(self.first).filter(|_| self.count > 0)?;
        place.frame.bytes.get(..place.len)
    }

    /// Takes it out.
    pub fn pop(&mut self) {
        if self.count > 0 {
            self.first = (self.first + 1) % WAITING;
            self.count -= 1;
        }
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::MAX_FRAME;

    #[test]
    fn frames_come_out_in_order_and_only_so_many_wait() {
        let mut queue = Queue::default();
        let frame = |n: usize| vec![n as u8; 14 + n % 1504];
        // The ring begins elsewhere each time.
        for first in 0..3 * WAITING {
            (0..WAITING).for_each(|n| assert!(queue.push(&frame(first + n))));
            assert!(!queue.push(&frame(0)));
            for n in 0..WAITING {
                assert_eq!((queue.front(), queue.len()), (Some(&*frame(first + n)), WAITING - n));
                queue.pop();
            }
            assert!(queue.is_empty() && queue.front().is_none());
            assert!(queue.push(&frame(0)));
            queue.pop();
        }
    }

    #[test]
    fn what_is_too_long_is_refused() {
        let mut queue = Queue::default();
        assert!(!queue.push(&[0; MAX_FRAME + 1]));
        assert!(queue.push(&[1; MAX_FRAME]));
        assert_eq!(queue.front().map(<[u8]>::len), Some(MAX_FRAME));
    }
}
