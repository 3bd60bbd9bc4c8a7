//! The escape key in what goes to the console: most of it is the hypervisor's (`crates/monitor`), the rest is served here.
//! Knows neither QEMU nor the terminal.

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

/// What is sent on of input that nobody types. There, the byte of the escape key is data like any other: the hypervisor,
/// which cannot know that, takes two for one.
pub fn piped(input: &[u8], native: bool) -> Vec<u8> {
    let times = |byte: u8| if byte == ESCAPE && !native { 2 } else { 1 };
    input.iter().flat_map(|byte| std::iter::repeat_n(*byte, times(*byte))).collect()
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

    #[test]
    fn a_pipe_has_no_escape_key() {
        assert_eq!(piped(b"a\x1dx\x1d", true), b"a\x1dx\x1d");
        assert_eq!(piped(b"a\x1dx\x1d", false), b"a\x1d\x1dx\x1d\x1d");
    }
}
