//! The last bytes that a guest has printed. Positions count from the first byte it ever printed, so what was forgotten is
//! counted: *loss-counted*.

use alloc::boxed::Box;

/// A ring of bytes that forgets the oldest.
#[derive(Debug)]
pub struct Scrollback {
    bytes: Box<[u8]>,
    /// The length less 1: it is a power of two, so that finding a place is no division.
    mask: u64,
    end: u64,
}

impl Scrollback {
    /// An empty one that holds `capacity` bytes, a power of two.
    ///
    /// # Panics
    /// Where it is none.
    pub fn new(capacity: usize) -> Self {
        assert!(capacity.is_power_of_two());
        let bytes = core::iter::repeat_n(0, capacity).collect();
        Self { bytes, mask: capacity as u64 - 1, end: 0 }
    }

    /// Adds a byte.
    #[inline]
    pub fn push(&mut self, byte: u8) {
        let place = self.place(self.end);
        if let Some(place) = self.bytes.get_mut(place) {
            *place = byte;
        }
        self.end = self.end.wrapping_add(1);
    }

    /// The position behind the newest byte.
    pub fn end(&self) -> u64 {
        self.end
    }

    /// The position of the oldest byte that is remembered.
    pub fn start(&self) -> u64 {
        self.end.saturating_sub(self.bytes.len() as u64)
    }

    /// The byte at `position`, if it is remembered.
    pub fn get(&self, position: u64) -> Option<u8> {
        let is_here = (self.start()..self.end).contains(&position);
        if is_here { self.bytes.get(self.place(position)).copied() } else { None }
    }

    /// The bytes from `position` on, as far as they are remembered, in two pieces.
    pub fn since(&self, position: u64) -> [&[u8]; 2] {
        let position = position.clamp(self.start(), self.end);
        let (from, to) = (self.place(position), self.place(self.end));
        let pieces = if position == self.end {
            [None, None]
        } else if from < to {
            [self.bytes.get(from..to), None]
        } else {
            [self.bytes.get(from..), self.bytes.get(..to)]
        };
        pieces.map(Option::unwrap_or_default)
    }

    /// Where the last `count` lines begin; the last need not have ended.
    pub fn last_lines(&self, count: usize) -> u64 {
        let breaks = (self.start()..self.end).rev().filter(|position| self.get(*position) == Some(b'\n'));
        // The one that ends the last line begins none.
        let last_has_ended = self.end.checked_sub(1).and_then(|last| self.get(last)) == Some(b'\n');
        breaks
            .skip(usize::from(last_has_ended))
            .nth(count.saturating_sub(1))
            .map_or(self.start(), |at| at + 1)
    }

    /// The first beginning of a line at `position` or within the `reach` bytes behind it, else `position` itself.
    pub fn line_start(&self, position: u64, reach: u64) -> u64 {
        if position == 0 || self.get(position.wrapping_sub(1)) == Some(b'\n') {
            return position;
        }
        let line_break = (position..position.saturating_add(reach)).find(|at| self.get(*at) == Some(b'\n'));
        line_break.map_or(position, |at| at + 1)
    }

    fn place(&self, position: u64) -> usize {
        (position & self.mask) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::vec::Vec;

    fn with(capacity: usize, text: &str) -> Scrollback {
        let mut scrollback = Scrollback::new(capacity);
        text.bytes().for_each(|byte| scrollback.push(byte));
        scrollback
    }

    fn from(scrollback: &Scrollback, position: u64) -> std::string::String {
        (position..scrollback.end()).map(|at| char::from(scrollback.get(at).unwrap())).collect()
    }

    #[test]
    fn the_last_lines_begin_behind_a_line_break() {
        let scrollback = with(64, "one\ntwo\nthree\nfo");
        assert_eq!(from(&scrollback, scrollback.last_lines(1)), "fo");
        assert_eq!(from(&scrollback, scrollback.last_lines(2)), "three\nfo");
        assert_eq!(from(&scrollback, scrollback.last_lines(99)), "one\ntwo\nthree\nfo");
        let ended = with(64, "one\ntwo\n");
        assert_eq!(from(&ended, ended.last_lines(1)), "two\n");
        assert_eq!(with(64, "").last_lines(3), 0);
    }

    #[test]
    fn a_line_start_is_looked_for_nearby() {
        let scrollback = with(8, "abc\ndef\nghijk");
        assert_eq!(from(&scrollback, scrollback.start()), "ef\nghijk", "which has lost `d`");
        assert_eq!(from(&scrollback, scrollback.line_start(scrollback.start(), 8)), "ghijk");
        assert_eq!(scrollback.line_start(scrollback.start(), 1), scrollback.start());
        assert_eq!(scrollback.line_start(0, 8), 0);
    }

    proptest! {
        #[test]
        fn it_remembers_the_newest_bytes(bits in 0..6_u32, bytes: Vec<u8>) {
            let capacity = 1 << bits;
            let mut scrollback = Scrollback::new(capacity);
            bytes.iter().for_each(|byte| scrollback.push(*byte));
            let kept = bytes.len().min(capacity);
            prop_assert_eq!(scrollback.end(), bytes.len() as u64);
            prop_assert_eq!(scrollback.start(), (bytes.len() - kept) as u64);
            for (position, byte) in bytes.iter().enumerate() {
                let expected = (position >= bytes.len() - kept).then_some(*byte);
                prop_assert_eq!(scrollback.get(position as u64), expected);
            }
            prop_assert_eq!(scrollback.get(scrollback.end()), None);
            for position in 0..=bytes.len() {
                let expected = &bytes[position.max(bytes.len() - kept)..];
                prop_assert_eq!(scrollback.since(position as u64).concat(), expected);
            }
        }

        #[test]
        fn the_last_lines_are_that_many(text in "[a\n]{0,60}", bits in 0..7_u32, count in 1..9_usize) {
            let scrollback = with(1 << bits, &text);
            let shown = from(&scrollback, scrollback.last_lines(count));
            prop_assert!(shown.lines().count() <= count);
            let kept = from(&scrollback, scrollback.start());
            prop_assert_eq!(shown.lines().count(), kept.lines().count().min(count));
        }
    }
}
