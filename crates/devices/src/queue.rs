//! A bounded queue of bytes that can be looked at as one slice.

/// At most `N` bytes, first in, first out.
#[derive(Clone, Debug)]
pub(crate) struct ByteQueue<const N: usize> {
    bytes: [u8; N],
    /// How many of `bytes`, from the front, are in the queue; at most `N`.
    len: usize,
}

impl<const N: usize> ByteQueue<N> {
    pub(crate) const fn new() -> Self {
        Self { bytes: [0; N], len: 0 }
    }

    pub(crate) const fn len(&self) -> usize {
        self.len
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(crate) fn clear(&mut self) {
        self.len = 0;
    }

    /// Appends `byte`; `false`, and nothing done, where the queue is full.
    pub(crate) fn push(&mut self, byte: u8) -> bool {
        match self.bytes.get_mut(self.len) {
            Some(free) => {
                *free = byte;
                self.len += 1;
                true
            }
            None => false,
        }
    }

    /// The bytes, oldest first.
    pub(crate) fn as_slice(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or(&[])
    }

    /// Drops the oldest `count` bytes, or all of them where there are fewer.
    pub(crate) fn discard(&mut self, count: usize) {
        if count < self.len {
            self.bytes.copy_within(count..self.len, 0);
        }
        self.len = self.len.saturating_sub(count);
    }

    /// Takes the oldest byte.
    pub(crate) fn pop(&mut self) -> Option<u8> {
        let first = self.as_slice().first().copied()?;
        self.discard(1);
        Some(first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_leave_in_the_order_they_came() {
        let mut queue = ByteQueue::<3>::new();
        assert!(queue.push(1) && queue.push(2));
        assert_eq!(queue.pop(), Some(1));
        assert!(queue.push(3) && queue.push(4));
        assert_eq!(queue.as_slice(), [2, 3, 4]);
    }

    #[test]
    fn a_full_queue_takes_nothing_more() {
        let mut queue = ByteQueue::<2>::new();
        assert!(queue.push(1) && queue.push(2));
        assert!(!queue.push(3));
        assert_eq!(queue.as_slice(), [1, 2]);
    }

    #[test]
    fn discarding_more_than_there_is_empties_the_queue() {
        let mut queue = ByteQueue::<2>::new();
        assert!(queue.push(1));
        queue.discard(usize::MAX);
        assert!(queue.is_empty());
        assert_eq!(queue.pop(), None);
    }
}
