//! What is left of output that is replayed: text, colours, and movements of the cursor. A terminal would answer to some of
//! the rest, and its answer, to a question of long ago, would be typing; or it would hide what comes later.
//!
//! A list of what may pass. All that passes is written anew and complete, so nothing depends on how a terminal reads
//! what is broken.

use alloc::collections::VecDeque;

use vte::{Params, Perform};

use crate::sequences::{self, Parser, only};
use crate::terminal::Modes;

/// Passes on what is harmless.
#[derive(Debug, Default)]
pub struct Harmless {
    parser: Parser,
    is_within: bool,
}

impl Harmless {
    /// Takes a byte, and gives what can be passed on. Says whether it is behind all sequences and characters: what follows
    /// begins anew.
    pub fn feed(&mut self, byte: u8, to: &mut VecDeque<u8>) -> bool {
        let mut pass = Pass { to, is_complete: false };
        self.parser.feed(byte, &mut pass);
        self.is_within = match byte {
            // These begin something, also where they break off what was before.
            0x1b | 0xc2.. => true,
            0x80.. => !pass.is_complete,
            _ => self.is_within && !pass.is_complete,
        };
        !self.is_within
    }
}

/// Whether bytes at the very end of what is replayed can be passed on: the beginning of a character or of a sequence that
/// the guest will complete. By itself it does nothing, and begins no control string.
pub fn is_beginning(bytes: &[u8]) -> bool {
    match bytes {
        [0x1b] => true,
        [0x1b, b'[', params @ ..] => params.iter().all(|byte| matches!(byte, 0x30..=0x3f)),
        // Nothing but a character that lacks its end.
        _ => {
            str::from_utf8(bytes).is_err_and(|error| error.valid_up_to() == 0 && error.error_len().is_none())
        }
    }
}

struct Pass<'a> {
    to: &'a mut VecDeque<u8>,
    is_complete: bool,
}

impl Pass<'_> {
    fn escape(&mut self, bytes: &[u8]) {
        self.to.push_back(0x1b);
        self.to.extend(bytes);
    }
}

impl Perform for Pass<'_> {
    fn print(&mut self, character: char) {
        self.is_complete = true;
        // vte prints DEL, and C1 that come in two pieces.
        if !character.is_control() {
            sequences::write_char(character, self.to);
        }
    }

    fn execute(&mut self, byte: u8) {
        match byte {
            // Backspace, tab, line ends, and shifts between character sets. No ENQ, and no C1.
            0x08..=0x0f => self.to.push_back(byte),
            0x18 | 0x1a | 0x80.. => self.is_complete = true,
            _ => {}
        }
    }

    fn csi_dispatch(&mut self, params: &Params, marks: &[u8], ignore: bool, end: char) {
        self.is_complete = true;
        let passes = match (marks, end) {
            _ if ignore => false,
            ([], 'm' | 'H' | 'f' | 'r') => true,
            // Movements, insertions, deletions; more parameters make other sequences of some of them.
            (
                [],
                '@'..='G' | 'I' | 'K'..='M' | 'P' | 'S' | 'T' | 'X' | 'Z' | '`' | 'a' | 'b' | 'd' | 'e' | 'g',
            ) => only(params).is_some(),
            // 3 is the operator's own scroll-back.
            ([], 'J') => only(params).is_some_and(|what| what <= 2),
            ([], 's' | 'u') => only(params) == Some(0),
            ([], 'h' | 'l') => only(params) == Some(4),
            ([b'?'], 'h' | 'l') => {
                params.iter().all(|param| matches!(param, [number] if Modes::knows(*number)))
            }
            _ => false,
        };
        if passes {
            sequences::write(marks, params, end, self.to);
        }
    }

    fn esc_dispatch(&mut self, marks: &[u8], ignore: bool, end: u8) {
        self.is_complete = true;
        match (marks, end) {
            _ if ignore => {}
            ([], b'7' | b'8' | b'=' | b'>' | b'D' | b'E' | b'H' | b'M') => self.escape(&[end]),
            ([set @ (b'(' | b')')], b'0' | b'A' | b'B') => self.escape(&[*set, end]),
            _ => {}
        }
    }

    fn osc_dispatch(&mut self, _: &[&[u8]], is_ended: bool) {
        // Otherwise ESC \ is still to come.
        self.is_complete |= is_ended;
    }
}

#[cfg(test)]
mod tests;
