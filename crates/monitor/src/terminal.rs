//! What the shown guest has made of the terminal: whether it is within a control sequence, and what it has changed. So the
//! hypervisor's own text can be read whatever a guest has written before, and what one guest has set does not stay for
//! the next.
//!
//! Terminals differ in what they make of unusual sequences. So only what all of them understand in the same way is
//! followed in detail; after anything else all is put back that may be otherwise.

mod modes;

use alloc::string::String;

use vte::{Params, Perform};

use crate::sequences::{Parser, only};
pub use modes::Modes;

/// Ends a control sequence, a control string, or half of a character.
const CLOSE: &str = "\x18\x1b\\";
/// The character sets at power-on, and automatic line breaks: what restoring the cursor may change.
const CHARACTERS: &str = "\x0f\x1b(B\x1b[?7h";
/// All that may keep text from being read, each by a sequence of its own, since few terminals have all of them: VT52
/// mode, printing instead of showing, the status line, a soft reset, margins, held back text, insertion, UTF-8, colours of
/// the palette (also Linux's), links.
const EVERYTHING: &str = "\x1b<\x1b[4i\x1b[0$}\x1b[!p\x1b[?69l\x1b[?2026l\x1b[4l\x1b[20l\x1b[?25h\x1b%G\
    \x1b]R\x1b\\\x1b]104\x1b\\\x1b]110\x1b\\\x1b]111\x1b\\\x1b]8;;\x1b\\";
/// No scroll region, and a line of its own at the bottom of the screen, where nothing is overwritten.
const BOTTOM: &str = "\x1b[r\x1b[999;1H\n\x1b[K";
/// No colours, no concealed text.
const PLAIN: &str = "\x1b[0m";
/// Keys as at power-on: the keypad, and what xterm's and kitty's ways of reporting keys have set.
const KEYS: &str = "\x1b>\x1b[>4m\x1b[=0u";

/// What puts a terminal in order of which nothing is known.
pub const IN_ORDER: [&str; 5] = [CLOSE, EVERYTHING, CHARACTERS, PLAIN, BOTTOM];

const ESCAPE: u8 = 0x1b;

/// What a terminal has been sent since the hypervisor last put it in order.
#[derive(Debug, Default)]
pub struct Terminal {
    parser: Parser,
    marks: Marks,
    after_escape: bool,
}

/// What has to be put back.
#[derive(Debug, Default)]
struct Marks {
    /// A control sequence has not ended.
    is_open: bool,
    /// A character has not ended.
    is_half: bool,
    /// A control string has not ended. Some terminals stay in it when another sequence begins.
    is_string: bool,
    is_styled: bool,
    /// The cursor may be anywhere.
    is_moved: bool,
    /// Characters may look like others.
    is_shifted: bool,
    has_keys: bool,
    /// Something else has been changed, or terminals differ.
    is_strange: bool,
    modes: Modes,
}

impl Terminal {
    /// Notes what a guest sends.
    #[inline]
    pub fn feed(&mut self, byte: u8) {
        let marks = &self.marks;
        let is_text = matches!(byte, 0x20..=0x7e | b'\r' | b'\n' | b'\t' | 0x08 | 0x07);
        if !is_text || marks.is_open || marks.is_half || marks.is_string {
            self.follow(byte);
        }
    }

    fn follow(&mut self, byte: u8) {
        let marks = &mut self.marks;
        match byte {
            0x80.. => marks.is_strange |= marks.is_open,
            // Some obey controls in the middle of a sequence, others end it.
            ESCAPE | 0x07 | 0x18 | 0x1a => {}
            ..0x20 | 0x7f => marks.is_strange |= marks.is_open,
            b'P' | b'X' | b']' | b'^' | b'_' => marks.is_string |= self.after_escape,
            _ => {}
        }
        self.after_escape = byte == ESCAPE;
        self.parser.feed(byte, marks);
        // What these break off is complete, and they begin something.
        match byte {
            ESCAPE => marks.is_open = true,
            0xc2.. => marks.is_half |= !marks.is_open,
            _ => {}
        }
    }

    /// Notes that what a guest has sent is no longer known.
    pub fn lose_track(&mut self) {
        self.marks.is_strange = true;
        self.marks.is_moved = true;
    }

    /// What to send so that text can be read. Nothing where only text and finished lines have been sent.
    pub fn show_text(&mut self) -> String {
        let mut to = String::new();
        let Marks {
            is_open,
            is_half,
            is_string,
            is_styled,
            is_moved,
            is_shifted,
            has_keys,
            is_strange,
            mut modes,
        } = core::mem::take(&mut self.marks);
        self.parser = Parser::default();
        self.after_escape = false;
        let parts = [(is_open || is_half || is_string || is_strange, CLOSE), (is_strange, EVERYTHING)];
        push(&parts, &mut to);
        modes.show_text(&mut to);
        let parts = [
            (is_shifted || is_strange, CHARACTERS),
            (is_styled || is_strange, PLAIN),
            (is_moved || is_strange, BOTTOM),
        ];
        push(&parts, &mut to);
        self.marks.has_keys = has_keys || is_strange;
        self.marks.modes = modes;
        to
    }

    /// What to send so that somebody else can have the terminal, and the modes that the guest had set.
    pub fn leave(&mut self) -> (String, Modes) {
        let modes = self.marks.modes;
        let mut to = self.show_text();
        self.marks.modes.leave(&mut to);
        push(&[(core::mem::take(&mut self.marks.has_keys), KEYS)], &mut to);
        (to, modes)
    }
}

fn push(parts: &[(bool, &str)], to: &mut String) {
    parts.iter().filter(|(is_wanted, _)| *is_wanted).for_each(|(_, text)| to.push_str(text));
}

impl Marks {
    /// Something is complete, and it is not the end of a string.
    fn complete(&mut self) {
        self.is_open = false;
        self.is_half = false;
        self.is_strange |= self.is_string;
    }

    fn set_modes(&mut self, params: &Params, on: bool) {
        for number in params.iter().flatten() {
            self.modes.set(*number, on);
            // Restoring the cursor restores more.
            self.is_shifted |= !on && matches!(number, 1048 | 1049);
            self.is_styled |= !on && matches!(number, 1048 | 1049);
            self.is_moved |= matches!(number, 3 | 6 | 47 | 1047..=1049);
            self.is_strange |= !Modes::knows(*number) && *number != 1048;
        }
    }
}

impl Perform for Marks {
    fn print(&mut self, character: char) {
        self.complete();
        // C1 in two bytes: some terminals obey it.
        self.is_strange |= character >= '\u{80}' && character.is_control();
    }

    fn execute(&mut self, byte: u8) {
        match byte {
            0x18 | 0x1a => (self.is_open, self.is_string) = (false, false),
            // Shifts; C1, which some terminals obey.
            0x0e | 0x0f => self.is_shifted = true,
            0x80.. => (self.is_half, self.is_strange) = (false, true),
            _ => {}
        }
    }

    fn csi_dispatch(&mut self, params: &Params, marks: &[u8], ignore: bool, end: char) {
        self.complete();
        match (marks, end) {
            _ if ignore => self.is_strange = true,
            ([], 'm') => self.is_styled = only(params) != Some(0),
            ([], 'A' | 'B' | 'E' | 'F' | 'H' | 'S' | 'T' | 'd' | 'e' | 'f' | 'r') => self.is_moved = true,
            ([], 'u') => (self.is_moved, self.is_styled, self.is_shifted) = (true, true, true),
            // Within the line, erasing, and questions.
            ([], '@' | 'C' | 'D' | 'G' | 'I'..='M' | 'P' | 'X' | 'Z' | '`' | 'a' | 'b' | 'g' | 's') => {}
            ([], 'c' | 'n' | 'x') | ([b'>'], 'c' | 'q') | ([b'?'], 'J' | 'K' | 'c' | 'n') | ([b' '], 'q') => {
            }
            ([b'?', b'$'], 'p') | ([b'?'], 'u') => {}
            ([b'?'], 'h' | 'l') => self.set_modes(params, end == 'h'),
            ([b'>'], 'm' | 'u') | ([b'=' | b'<'], 'u') => self.has_keys = true,
            _ => self.is_strange = true,
        }
    }

    fn esc_dispatch(&mut self, marks: &[u8], ignore: bool, end: u8) {
        if marks.is_empty() && end == b'\\' {
            (self.is_open, self.is_string) = (false, false);
            return;
        }
        self.complete();
        match (marks, end) {
            _ if ignore => self.is_strange = true,
            ([], b'7' | b'D' | b'E' | b'H' | b'Z') | ([b'('], b'B') => {}
            ([], b'=' | b'>') => self.has_keys = true,
            ([], b'M') => self.is_moved = true,
            ([], b'8') => (self.is_moved, self.is_styled, self.is_shifted) = (true, true, true),
            ([b'(' | b')'], b'0' | b'A' | b'B') => self.is_shifted = true,
            _ => self.is_strange = true,
        }
    }

    fn hook(&mut self, _: &Params, _: &[u8], _: bool, _: char) {
        self.is_strange = true;
    }

    fn osc_dispatch(&mut self, params: &[&[u8]], is_ended: bool) {
        if is_ended {
            (self.is_open, self.is_string) = (false, false);
        }
        // Titles, the working directory and marks of prompts stay where they are.
        self.is_strange |= !matches!(params, [b"0" | b"1" | b"2" | b"7" | b"133" | b"3008", ..]);
    }
}

#[cfg(test)]
mod tests;
