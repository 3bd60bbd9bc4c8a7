//! What of a guest's output a line on a shared screen can have. All else is left out: nothing may reach other lines, make
//! the terminal answer, or change what it is for others.

use alloc::vec::Vec;

use vte::{Params, Perform};

use crate::sequences::{self, Parser, only};

/// Columns from one tab stop to the next.
pub const TAB: usize = 8;

/// A part of a line.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Piece {
    /// A visible character.
    Character(char),
    /// A tab.
    Tab,
    /// The cursor goes back, by so many places.
    Back(usize),
    /// The line is written from its beginning again.
    Return,
    /// The line ends.
    End,
    /// What is behind the cursor is erased.
    Erase,
    /// Colours and the like, until the end of the line: a sequence for the terminal.
    Style(Vec<u8>),
}

impl Piece {
    /// Columns that it takes at most. Characters behind the Latin ones may be wide.
    pub fn columns(&self) -> usize {
        match self {
            Self::Character(character) => 1 + usize::from(*character >= '\u{300}'),
            Self::Tab => TAB,
            _ => 0,
        }
    }
}

/// Finds pieces in bytes.
#[derive(Debug, Default)]
pub struct Pieces {
    parser: Parser,
}

impl Pieces {
    /// Takes a byte, and gives what it completes: at most what is broken before it, and itself.
    pub fn feed(&mut self, byte: u8) -> Vec<Piece> {
        let mut found = Found::default();
        self.parser.feed(byte, &mut found);
        found.0
    }
}

#[derive(Default)]
struct Found(Vec<Piece>);

impl Perform for Found {
    fn print(&mut self, character: char) {
        // Not what turns the direction of writing, or ends lines for some terminals; not C1, which vte prints where it comes
        // in two pieces.
        let turns =
            matches!(character, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        if !turns && !character.is_control() {
            self.0.push(Piece::Character(character));
        }
    }

    fn execute(&mut self, byte: u8) {
        self.0.extend(match byte {
            0x08 => Some(Piece::Back(1)),
            b'\t' => Some(Piece::Tab),
            b'\n' => Some(Piece::End),
            b'\r' => Some(Piece::Return),
            _ => None,
        });
    }

    fn csi_dispatch(&mut self, params: &Params, marks: &[u8], ignore: bool, end: char) {
        if ignore || !marks.is_empty() {
            return;
        }
        match (end, only(params)) {
            ('m', _) => {
                let mut style = Vec::new();
                sequences::write(marks, params, end, &mut style);
                self.0.push(Piece::Style(style));
            }
            ('D', Some(places)) => self.0.push(Piece::Back(usize::from(places.max(1)))),
            // Below its line a guest has nothing to erase.
            ('J' | 'K', Some(0)) => self.0.push(Piece::Erase),
            _ => {}
        }
    }
}
