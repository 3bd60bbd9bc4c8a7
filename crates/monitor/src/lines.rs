//! Several guests on one screen: each line with its guest's name in front. The guest that gets the typing is shown byte
//! by byte, so that its prompts and echoes are seen; of the others, lines come when they are complete.

use alloc::collections::VecDeque;
use alloc::string::String;
use alloc::vec::Vec;

/// Bytes after which a line is broken.
const LONGEST: usize = 240;

/// Lines that have begun.
#[derive(Debug)]
pub struct Lines {
    begun: Vec<Vec<u8>>,
    /// Whether the guest that gets the typing is within a line on the screen.
    is_within: bool,
}

impl Lines {
    /// For guests that have written nothing yet.
    pub fn new(guests: usize) -> Self {
        Self { begun: (0..guests).map(|_| Vec::new()).collect(), is_within: false }
    }

    /// Takes a byte of the guest that gets the typing.
    pub fn front(&mut self, guest: usize, names: &[String], byte: u8, to: &mut VecDeque<u8>) {
        if !self.is_within {
            name(guest, names, to);
            if let Some(begun) = self.begun.get_mut(guest) {
                to.extend(begun.drain(..));
            }
        }
        to.push_back(byte);
        self.is_within = byte != b'\n';
    }

    /// Takes a byte of another guest's.
    pub fn other(&mut self, guest: usize, names: &[String], byte: u8, to: &mut VecDeque<u8>) {
        let Some(begun) = self.begun.get_mut(guest) else { return };
        if byte != b'\n' && byte != b'\r' {
            begun.push(byte);
        }
        if byte == b'\n' || begun.len() >= LONGEST {
            self.end(guest, names, to);
        }
    }

    /// Shows what a guest has begun: it will not go on for now.
    pub fn finish(&mut self, guest: usize, names: &[String], to: &mut VecDeque<u8>) {
        if self.begun.get(guest).is_some_and(|begun| !begun.is_empty()) {
            self.end(guest, names, to);
        }
    }

    /// Ends the line on the screen, so that something else can come.
    pub fn leave(&mut self, to: &mut VecDeque<u8>) {
        if core::mem::take(&mut self.is_within) {
            to.extend(b"\r\n");
        }
    }

    fn end(&mut self, guest: usize, names: &[String], to: &mut VecDeque<u8>) {
        self.leave(to);
        name(guest, names, to);
        if let Some(begun) = self.begun.get_mut(guest) {
            to.extend(begun.drain(..));
        }
        to.extend(b"\r\n");
    }
}

fn name(guest: usize, names: &[String], to: &mut VecDeque<u8>) {
    to.extend(names.get(guest).map_or("", String::as_str).bytes());
    to.extend(b"| ");
}
