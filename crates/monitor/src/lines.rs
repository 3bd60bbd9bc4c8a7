//! Several guests on one screen: each line with its guest's name in front. The guest that gets the typing is shown
//! character by character, so that its prompts and echoes are seen; of the others, lines come when they are complete.
//!
//! A guest writes in its own lines only, and behind its name: see `pieces`. A line is broken before the terminal would, so
//! that each row of the screen tells whose it is.

mod pieces;

use alloc::collections::VecDeque;
use alloc::string::String;
use alloc::vec::Vec;

use crate::sequences;
use pieces::{Piece, Pieces, TAB};

/// Columns that a line takes at most: terminals are not narrower than 80.
const COLUMNS: usize = 79;
/// Columns that it has for its text at least, however long the guest's name.
const TEXT: usize = 20;
/// Bytes of a line that wait for its end: colours and corrections take no columns.
const LONGEST: usize = 1 << 10;
/// Bytes of colours that wait for a character.
const STYLE: usize = 64;
/// What comes between a guest's name and its text.
const NAMED: &[u8] = b"| ";
/// Ends colours.
const PLAIN: &[u8] = b"\x1b[0m";

/// Lines that have begun.
#[derive(Debug)]
pub struct Lines {
    begun: Vec<Line>,
    /// The guest whose line has begun on the screen.
    within: Option<usize>,
}

/// A guest's line.
#[derive(Debug, Default)]
struct Line {
    pieces: Pieces,
    /// What is not on the screen yet.
    text: Vec<u8>,
    /// Columns in front of the cursor, at most.
    columns: usize,
    /// How far the cursor may go back: over characters that are one column wide for all terminals.
    back: usize,
    /// Colours that the next character gets.
    style: Vec<u8>,
    is_styled: bool,
    /// It goes on at its beginning, unless it ends.
    is_returned: bool,
}

impl Lines {
    /// For guests that have written nothing yet.
    pub fn new(guests: usize) -> Self {
        Self { begun: (0..guests).map(|_| Line::default()).collect(), within: None }
    }

    /// Takes a byte of a guest's, which gets the typing or not.
    pub fn feed(&mut self, guest: usize, is_front: bool, names: &[String], byte: u8, to: &mut VecDeque<u8>) {
        let room = COLUMNS.saturating_sub(name(guest, names).len() + NAMED.len()).max(TEXT);
        let pieces = self.begun.get_mut(guest).map_or(Vec::new(), |line| line.pieces.feed(byte));
        for piece in pieces {
            let Some(line) = self.begun.get_mut(guest) else { return };
            if piece == Piece::End || !line.has_room(&piece, room) {
                self.end(guest, names, to);
            }
            let Some(line) = self.begun.get_mut(guest) else { return };
            let is_again = line.add(piece);
            if is_again && self.within == Some(guest) {
                self.within = None;
                to.push_back(b'\r');
            }
            if is_front && !line.text.is_empty() {
                self.show(guest, names, to);
            }
        }
    }

    /// Shows what a guest has begun: it will not go on for now.
    pub fn finish(&mut self, guest: usize, names: &[String], to: &mut VecDeque<u8>) {
        if self.begun.get(guest).is_some_and(|line| !line.text.is_empty()) {
            self.end(guest, names, to);
        }
    }

    /// Ends the line on the screen, so that something else can come.
    pub fn leave(&mut self, to: &mut VecDeque<u8>) {
        if let Some(line) = self.within.take().and_then(|guest| self.begun.get_mut(guest)) {
            line.end(to);
        }
    }

    /// Brings what a guest has begun to the screen.
    fn show(&mut self, guest: usize, names: &[String], to: &mut VecDeque<u8>) {
        if self.within != Some(guest) {
            self.leave(to);
            to.extend(name(guest, names).bytes());
            to.extend(NAMED);
            self.within = Some(guest);
        }
        if let Some(line) = self.begun.get_mut(guest) {
            to.extend(line.text.drain(..));
        }
    }

    fn end(&mut self, guest: usize, names: &[String], to: &mut VecDeque<u8>) {
        self.show(guest, names, to);
        self.leave(to);
    }
}

impl Line {
    fn has_room(&self, piece: &Piece, room: usize) -> bool {
        self.columns + piece.columns() <= room && self.text.len() < LONGEST
    }

    /// Says whether it has begun anew, at its beginning.
    fn add(&mut self, piece: Piece) -> bool {
        let writes = matches!(piece, Piece::Character(_) | Piece::Tab | Piece::Erase);
        let is_again = writes && core::mem::take(&mut self.is_returned);
        if is_again {
            self.text.clear();
            (self.columns, self.back) = (0, 0);
        }
        let columns = piece.columns();
        match piece {
            Piece::Character(character) => {
                self.is_styled |= !self.style.is_empty();
                self.text.append(&mut self.style);
                sequences::write_char(character, &mut self.text);
                self.columns += columns;
                self.back = if character.is_ascii() { self.back + 1 } else { 0 };
            }
            Piece::Tab => {
                let spaces = TAB - self.columns % TAB;
                self.text.extend(core::iter::repeat_n(b' ', spaces));
                (self.columns, self.back) = (self.columns + spaces, self.back + spaces);
            }
            Piece::Back(places) if !self.is_returned => {
                let places = places.min(self.back);
                self.text.extend(core::iter::repeat_n(0x08, places));
                (self.columns, self.back) = (self.columns - places, self.back - places);
            }
            Piece::Erase => self.text.extend(b"\x1b[K"),
            Piece::Return => self.is_returned = true,
            Piece::Style(style) => {
                if self.style.len() + style.len() > STYLE {
                    self.style.clear();
                }
                self.style.extend(style);
            }
            Piece::Back(_) | Piece::End => {}
        }
        is_again
    }

    fn end(&mut self, to: &mut VecDeque<u8>) {
        if self.is_styled {
            to.extend(PLAIN);
        }
        to.extend(b"\r\n");
        let pieces = core::mem::take(&mut self.pieces);
        *self = Self { pieces, ..Self::default() };
    }
}

fn name(guest: usize, names: &[String]) -> &str {
    names.get(guest).map_or("", String::as_str)
}

#[cfg(test)]
mod tests;
