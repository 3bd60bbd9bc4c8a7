//! Keys out of the bytes that a terminal sends for them. ECMA-48 and xterm's "Control Sequences".

/// A key of the line editor's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Key {
    /// A printable ASCII character.
    Character(u8),
    /// Return.
    Enter,
    /// Complete the word.
    Tab,
    /// Delete before the cursor.
    Backspace,
    /// Delete under the cursor.
    Delete,
    /// One to the left.
    Left,
    /// One to the right.
    Right,
    /// An older line.
    Up,
    /// A newer line.
    Down,
    /// To the beginning.
    Home,
    /// To the end.
    End,
    /// Delete to the end.
    KillToEnd,
    /// Delete to the beginning.
    KillToStart,
    /// Delete the word before the cursor.
    KillWord,
    /// Give the line up.
    Cancel,
    /// Delete under the cursor; on an empty line, leave.
    EndOfInput,
    /// Clear the screen.
    Redraw,
    /// A key without a meaning here.
    Unknown,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum Before {
    #[default]
    Nothing,
    Return,
    Escape,
    /// ESC [ and the first number, if there is one.
    Sequence {
        number: u8,
        first: bool,
    },
    /// ESC O.
    Single,
}

/// Finds keys in bytes.
#[derive(Debug, Default)]
pub struct Keys {
    before: Before,
}

impl Keys {
    /// Takes a byte; the key that it completes.
    pub fn feed(&mut self, byte: u8) -> Option<Key> {
        match core::mem::take(&mut self.before) {
            // Some terminals send both for one key.
            Before::Return if byte == b'\n' => None,
            Before::Nothing | Before::Return => self.plain(byte),
            Before::Escape => self.escaped(byte),
            Before::Sequence { number, first } => self.sequence(byte, number, first),
            Before::Single => Some(named(byte)),
        }
    }

    fn plain(&mut self, byte: u8) -> Option<Key> {
        const fn control(letter: u8) -> u8 {
            letter & 0x1f
        }
        const A: u8 = control(b'A');
        const B: u8 = control(b'B');
        const C: u8 = control(b'C');
        const D: u8 = control(b'D');
        const E: u8 = control(b'E');
        const F: u8 = control(b'F');
        const K: u8 = control(b'K');
        const L: u8 = control(b'L');
        const N: u8 = control(b'N');
        const P: u8 = control(b'P');
        const U: u8 = control(b'U');
        const W: u8 = control(b'W');
        Some(match byte {
            b'\r' => {
                self.before = Before::Return;
                Key::Enter
            }
            b'\n' => Key::Enter,
            b'\t' => Key::Tab,
            0x08 | 0x7f => Key::Backspace,
            0x1b => {
                self.before = Before::Escape;
                return None;
            }
            A => Key::Home,
            B => Key::Left,
            C => Key::Cancel,
            D => Key::EndOfInput,
            E => Key::End,
            F => Key::Right,
            K => Key::KillToEnd,
            L => Key::Redraw,
            N => Key::Down,
            P => Key::Up,
            U => Key::KillToStart,
            W => Key::KillWord,
            0x20..=0x7e => Key::Character(byte),
            _ => Key::Unknown,
        })
    }

    fn escaped(&mut self, byte: u8) -> Option<Key> {
        match byte {
            b'[' => self.before = Before::Sequence { number: 0, first: true },
            b'O' => self.before = Before::Single,
            0x1b => self.before = Before::Escape,
            // Alt and a key.
            _ => return Some(Key::Unknown),
        }
        None
    }

    fn sequence(&mut self, byte: u8, number: u8, first: bool) -> Option<Key> {
        match byte {
            b'0'..=b'9' if first => {
                let number = number.saturating_mul(10).saturating_add(byte - b'0');
                self.before = Before::Sequence { number, first };
                None
            }
            // Modifiers, and what else may stand there.
            0x20..=0x3f => {
                self.before = Before::Sequence { number, first: false };
                None
            }
            b'~' => Some(match number {
                1 | 7 => Key::Home,
                3 => Key::Delete,
                4 | 8 => Key::End,
                _ => Key::Unknown,
            }),
            0x40..=0x7d => Some(named(byte)),
            // No such sequence: the byte counts for itself.
            _ => self.plain(byte),
        }
    }
}

fn named(byte: u8) -> Key {
    match byte {
        b'A' => Key::Up,
        b'B' => Key::Down,
        b'C' => Key::Right,
        b'D' => Key::Left,
        b'H' => Key::Home,
        b'F' => Key::End,
        b'M' => Key::Enter,
        _ => Key::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    fn keys(bytes: &[u8]) -> Vec<Key> {
        let mut keys = Keys::default();
        bytes.iter().filter_map(|byte| keys.feed(*byte)).collect()
    }

    #[test]
    fn terminals_send_the_same_key_in_several_ways() {
        for (bytes, key) in [
            (&b"\x1b[A"[..], Key::Up),
            (b"\x1bOA", Key::Up),
            (b"\x10", Key::Up),
            (b"\x1b[1;5D", Key::Left),
            (b"\x1b[H", Key::Home),
            (b"\x1b[1~", Key::Home),
            (b"\x1b[7~", Key::Home),
            (b"\x1b[4~", Key::End),
            (b"\x1b[3~", Key::Delete),
            (b"\x1b[3;2~", Key::Delete),
            (b"\x1b[15~", Key::Unknown),
            (b"\x1b\x1b[F", Key::End),
            (b"\x1bb", Key::Unknown),
            (b"\x7f", Key::Backspace),
            (b"\xc3", Key::Unknown),
        ] {
            assert_eq!(keys(bytes), [key], "{bytes:x?}");
        }
    }

    #[test]
    fn one_return_is_one_enter() {
        assert_eq!(
            keys(b"a\r\nb\nc\r\r"),
            [
                Key::Character(b'a'),
                Key::Enter,
                Key::Character(b'b'),
                Key::Enter,
                Key::Character(b'c'),
                Key::Enter,
                Key::Enter,
            ]
        );
    }

    #[test]
    fn a_sequence_that_breaks_off_does_not_swallow_the_line() {
        assert_eq!(keys(b"\x1b[1\rx"), [Key::Enter, Key::Character(b'x')]);
        assert_eq!(keys(b"\x1b[999999999A"), [Key::Up]);
    }
}
