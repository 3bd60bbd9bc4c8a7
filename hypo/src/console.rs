//! The operator's terminal: raw mode while a guest runs, and the escape key, most of which is the hypervisor's (its own
//! are in `crates/monitor`). Knows nothing of QEMU.

use crate::error::{Error, Result};
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcsetattr};
use std::io::{IsTerminal, stdin};

/// Ctrl-], as in telnet: few guests want it.
const ESCAPE: u8 = 0x1d;

/// What the operator is told at the start.
pub const fn help(native: bool) -> &'static str {
    if native {
        "Ctrl-] then x quits; Ctrl-] Ctrl-] sends one Ctrl-]"
    } else {
        "Ctrl-] then x quits, m opens the monitor, ? tells the other keys"
    }
}

/// The terminal in raw mode; restored when this is dropped, also by a panic.
#[derive(Debug)]
pub struct RawTerminal {
    before: Termios,
}

impl RawTerminal {
    /// Puts the terminal that is standard input into raw mode; `None` where standard input is none.
    ///
    /// # Errors
    /// The terminal refuses.
    pub fn enter() -> Result<Option<Self>> {
        if !stdin().is_terminal() {
            return Ok(None);
        }
        let fail = |error| Error::new(format_args!("cannot set up the terminal: {error}"));
        let before = tcgetattr(stdin()).map_err(fail)?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(stdin(), OptionalActions::Now, &raw).map_err(fail)?;
        Ok(Some(Self { before }))
    }
}

impl Drop for RawTerminal {
    fn drop(&mut self) {
        // Nothing can be done about a terminal that has gone away.
        let _ = tcsetattr(stdin(), OptionalActions::Drain, &self.before);
    }
}

/// Finds the escape key in what is typed.
#[derive(Debug)]
pub struct Escape {
    pending: bool,
    /// Nobody else knows the escape key.
    native: bool,
}

/// What a piece of typing amounts to.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Typed {
    /// What is sent on.
    pub bytes: Vec<u8>,
    /// The operator wants to quit.
    pub quit: bool,
}

impl Escape {
    /// For a guest under the hypervisor, which serves the other keys, or for one without it.
    pub const fn new(native: bool) -> Self {
        Self { pending: false, native }
    }

    /// Takes the next bytes typed. What follows a quit is dropped.
    pub fn feed(&mut self, input: &[u8]) -> Typed {
        let mut typed = Typed::default();
        for byte in input {
            match (std::mem::take(&mut self.pending), *byte) {
                (false, ESCAPE) => self.pending = true,
                (true, b'x' | b'X') => {
                    typed.quit = true;
                    break;
                }
                (true, byte) if !self.native => typed.bytes.extend([ESCAPE, byte]),
                (false, byte) | (true, byte @ ESCAPE) => typed.bytes.push(byte),
                // Another key after the escape key was a slip: neither is sent.
                (true, _) => {}
            }
        }
        typed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn feed(parts: &[&[u8]]) -> (Vec<u8>, bool) {
        feed_to(true, parts)
    }

    fn feed_to(native: bool, parts: &[&[u8]]) -> (Vec<u8>, bool) {
        let mut escape = Escape::new(native);
        let typed: Vec<Typed> = parts.iter().map(|part| escape.feed(part)).collect();
        (typed.iter().flat_map(|typed| typed.bytes.clone()).collect(), typed.iter().any(|typed| typed.quit))
    }

    #[test]
    fn plain_typing_goes_through() {
        assert_eq!(feed(&[b"ls -l\r\x03"]), (b"ls -l\r\x03".to_vec(), false));
    }

    #[test]
    fn escape_and_x_quit_also_in_two_reads() {
        assert_eq!(feed(&[b"a\x1dxb"]), (b"a".to_vec(), true));
        assert_eq!(feed(&[b"a\x1d", b"x"]), (b"a".to_vec(), true));
    }

    #[test]
    fn escape_twice_sends_one() {
        assert_eq!(feed(&[b"\x1d\x1dx"]), (b"\x1dx".to_vec(), false));
    }

    #[test]
    fn the_hypervisor_gets_all_keys_but_the_one_that_quits() {
        assert_eq!(
            feed_to(false, &[b"a\x1d1b\x1d", b"mc\x1d\x1d"]),
            (b"a\x1d1b\x1dmc\x1d\x1d".to_vec(), false)
        );
        assert_eq!(feed_to(false, &[b"a\x1d", b"x"]), (b"a".to_vec(), true));
    }

    #[test]
    fn another_key_after_escape_is_swallowed() {
        assert_eq!(feed(&[b"\x1dqz"]), (b"z".to_vec(), false));
    }
}
