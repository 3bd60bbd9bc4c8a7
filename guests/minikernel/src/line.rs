//! The line editor: turns typed bytes into lines, and says what to echo.
//!
//! Pure: it neither reads nor prints. Editing happens at the end of the line only, so that it works on any
//! terminal with nothing but printable characters, backspace and newline. The up and down keys recall lines.

/// Bytes that a line may hold; more are refused with a bell.
pub const CAPACITY: usize = 120;
/// Lines that the up key reaches.
const REMEMBERED: usize = 8;

/// What a typed byte did, and so what the terminal should be told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Edit {
    /// Nothing to show.
    Nothing,
    /// The key cannot do anything here: ring the bell.
    Refused,
    /// This character was appended.
    Appended(u8),
    /// So many characters were taken from the end.
    Erased(usize),
    /// The line, so many characters long until now, was replaced by another.
    Replaced(usize),
    /// Enter: the line is complete. Read it, then call [`LineEditor::begin`].
    Entered,
    /// Ctrl-C: the line is given up. Then call [`LineEditor::begin`].
    Cancelled,
}

/// How far into an escape sequence the typed bytes are.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Escape {
    None,
    /// ESC came.
    Started,
    /// ESC [ or ESC O came: ends with a byte in 0x40..=0x7e.
    Sequence,
}

#[derive(Clone, Copy)]
struct Text {
    bytes: [u8; CAPACITY],
    len: usize,
}

impl Text {
    const EMPTY: Self = Self { bytes: [0; CAPACITY], len: 0 };

    fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

/// A line being typed, and the lines entered before it.
pub struct LineEditor {
    line: Text,
    escape: Escape,
    /// A carriage return was the last byte: a line feed after it belongs to it.
    after_return: bool,
    /// Entered lines, the newest first.
    history: [Text; REMEMBERED],
    remembered: usize,
    /// Which of them is shown: 0 is none, 1 the newest.
    recalled: usize,
}

impl LineEditor {
    /// An editor with an empty line and nothing to recall.
    pub const fn new() -> Self {
        Self {
            line: Text::EMPTY,
            escape: Escape::None,
            after_return: false,
            history: [Text::EMPTY; REMEMBERED],
            remembered: 0,
            recalled: 0,
        }
    }

    /// The line as it stands. Only printable ASCII ever gets into it.
    pub fn line(&self) -> &str {
        core::str::from_utf8(self.line.as_bytes()).unwrap_or_default()
    }

    /// Begins a new line; the old one is remembered where it was entered and not blank.
    pub fn begin(&mut self) {
        self.line.len = 0;
        self.recalled = 0;
    }

    /// Takes one typed byte.
    pub fn feed(&mut self, byte: u8) -> Edit {
        let after_return = core::mem::replace(&mut self.after_return, byte == b'\r');
        match (self.escape, byte) {
            (Escape::Started, b'[' | b'O') => self.escape = Escape::Sequence,
            (Escape::Sequence, 0x40..=0x7e) => {
                self.escape = Escape::None;
                return match byte {
                    b'A' => self.recall(self.recalled + 1),
                    b'B' => self.recall(self.recalled.wrapping_sub(1)),
                    _ => Edit::Nothing,
                };
            }
            (Escape::Sequence, b' '..) => {}
            (_, 0x1b) => self.escape = Escape::Started,
            _ => {
                self.escape = Escape::None;
                return self.key(byte, after_return);
            }
        }
        Edit::Nothing
    }

    fn key(&mut self, byte: u8, after_return: bool) -> Edit {
        const CTRL_C: u8 = 0x03;
        const BACKSPACE: u8 = 0x08;
        const CTRL_U: u8 = 0x15;
        const CTRL_W: u8 = 0x17;
        const DELETE: u8 = 0x7f;
        match byte {
            b'\n' if after_return => Edit::Nothing,
            b'\r' | b'\n' => {
                self.remember();
                Edit::Entered
            }
            CTRL_C => Edit::Cancelled,
            CTRL_U => self.erase(self.line.len),
            CTRL_W => {
                let text = self.line.as_bytes().trim_ascii_end();
                let word = text.iter().rev().take_while(|&&byte| byte != b' ').count();
                self.erase(self.line.len - text.len() + word)
            }
            BACKSPACE | DELETE => self.erase(1),
            b' '..=b'~' => match self.line.bytes.get_mut(self.line.len) {
                Some(place) => {
                    *place = byte;
                    self.line.len += 1;
                    Edit::Appended(byte)
                }
                None => Edit::Refused,
            },
            _ => Edit::Nothing,
        }
    }

    fn erase(&mut self, count: usize) -> Edit {
        if self.line.len == 0 {
            return Edit::Nothing;
        }
        self.line.len -= count;
        Edit::Erased(count)
    }

    /// Shows the `nth` remembered line, 1 for the newest; 0 for an empty line.
    fn recall(&mut self, nth: usize) -> Edit {
        let before = self.line.len;
        self.line = match nth.checked_sub(1) {
            None => Text::EMPTY,
            Some(index) if index < self.remembered => self.history[index],
            Some(_) => return Edit::Refused,
        };
        self.recalled = nth;
        Edit::Replaced(before)
    }

    fn remember(&mut self) {
        let line = self.line.as_bytes();
        let again = self.remembered > 0 && self.history[0].as_bytes() == line;
        if line.trim_ascii().is_empty() || again {
            return;
        }
        self.history.copy_within(..REMEMBERED - 1, 1);
        self.history[0] = self.line;
        self.remembered = REMEMBERED.min(self.remembered + 1);
    }
}

impl Default for LineEditor {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::string::{String, ToString};
    use std::vec::Vec;

    fn type_keys(editor: &mut LineEditor, keys: &[u8]) -> Vec<Edit> {
        keys.iter().map(|&key| editor.feed(key)).collect()
    }

    /// The line after `keys` in a fresh editor.
    fn line_after(keys: &[u8]) -> String {
        let mut editor = LineEditor::new();
        type_keys(&mut editor, keys);
        editor.line().to_string()
    }

    fn enter(editor: &mut LineEditor, line: &str) {
        type_keys(editor, line.as_bytes());
        assert_eq!(editor.feed(b'\r'), Edit::Entered);
        editor.begin();
    }

    #[test]
    fn typed_characters_are_echoed_and_collected() {
        let mut editor = LineEditor::new();
        assert_eq!(
            type_keys(&mut editor, b"ps\r"),
            [Edit::Appended(b'p'), Edit::Appended(b's'), Edit::Entered]
        );
        assert_eq!(editor.line(), "ps");
    }

    #[test]
    fn backspace_and_delete_take_one_character_each() {
        assert_eq!(line_after(b"help\x7f\x08"), "he");
    }

    #[test]
    fn backspace_on_an_empty_line_does_nothing() {
        assert_eq!(LineEditor::new().feed(0x7f), Edit::Nothing);
    }

    #[test]
    fn ctrl_u_takes_the_whole_line() {
        let mut editor = LineEditor::new();
        type_keys(&mut editor, b"run hello");
        assert_eq!(editor.feed(0x15), Edit::Erased(9));
        assert_eq!(editor.line(), "");
    }

    #[test]
    fn ctrl_w_takes_the_last_word_and_the_blanks_after_it() {
        assert_eq!(line_after(b"run hello  \x17"), "run ");
        assert_eq!(line_after(b"   \x17"), "");
    }

    #[test]
    fn ctrl_c_gives_the_line_up() {
        let mut editor = LineEditor::new();
        assert_eq!(type_keys(&mut editor, b"x\x03")[1], Edit::Cancelled);
        editor.begin();
        assert_eq!(editor.line(), "");
        // A line given up is not remembered.
        assert_eq!(type_keys(&mut editor, b"\x1b[A")[2], Edit::Refused);
    }

    #[test]
    fn return_and_line_feed_together_are_one_enter() {
        let mut editor = LineEditor::new();
        assert_eq!(type_keys(&mut editor, b"\r\n\n"), [Edit::Entered, Edit::Nothing, Edit::Entered]);
    }

    #[test]
    fn a_full_line_refuses_more_and_still_erases() {
        let mut editor = LineEditor::new();
        assert!((0..CAPACITY).all(|_| editor.feed(b'a') == Edit::Appended(b'a')));
        assert_eq!(editor.feed(b'b'), Edit::Refused);
        assert_eq!(editor.feed(0x7f), Edit::Erased(1));
        assert_eq!(editor.line().len(), CAPACITY - 1);
    }

    #[test]
    fn escape_sequences_and_other_bytes_leave_no_trace() {
        assert_eq!(line_after(b"a\x1b[C\x1b[1;5D\x1bOP\x00\xc3\xa4b"), "ab");
    }

    #[test]
    fn up_and_down_walk_through_the_lines_entered() {
        let mut editor = LineEditor::new();
        for line in ["ps", "mem", "mem", "  "] {
            enter(&mut editor, line);
        }
        type_keys(&mut editor, b"xyz");
        assert_eq!(type_keys(&mut editor, b"\x1b[A")[2], Edit::Replaced(3));
        assert_eq!(editor.line(), "mem");
        type_keys(&mut editor, b"\x1b[A");
        assert_eq!(editor.line(), "ps");
        assert_eq!(type_keys(&mut editor, b"\x1b[A")[2], Edit::Refused);
        type_keys(&mut editor, b"\x1b[B");
        assert_eq!(editor.line(), "mem");
        assert_eq!(type_keys(&mut editor, b"\x1b[B")[2], Edit::Replaced(3));
        assert_eq!(editor.line(), "");
        assert_eq!(type_keys(&mut editor, b"\x1b[B")[2], Edit::Refused);
    }

    #[test]
    fn only_the_newest_lines_are_remembered() {
        let mut editor = LineEditor::new();
        for number in 0..20 {
            enter(&mut editor, &number.to_string());
        }
        for _ in 0..20 {
            type_keys(&mut editor, b"\x1b[A");
        }
        assert_eq!(editor.line(), (20 - REMEMBERED).to_string());
    }
}
