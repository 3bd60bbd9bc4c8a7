//! Control sequences (ECMA-48, xterm's "Control Sequences"): taken apart by the `vte` crate, and written in one plain form.

use alloc::format;
use core::fmt;

use vte::{Params, Perform};

/// Bytes of a control string that the parser keeps. No string's text matters here.
const STRING: usize = 16;

/// Finds control sequences in bytes.
#[derive(Default)]
pub struct Parser(vte::Parser<STRING>);

impl Parser {
    /// Takes a byte, and tells `to` what it completes. One byte at a time: of longer pieces vte 0.15 may skip the byte
    /// behind a character that two pieces share.
    pub fn feed(&mut self, byte: u8, to: &mut impl Perform) {
        self.0.advance(to, &[byte]);
    }
}

impl fmt::Debug for Parser {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Parser")
    }
}

/// A sequence ESC [ with a mark such as `?` in front of its parameters, and its final character.
pub fn write(mark: &[u8], params: &Params, end: char, to: &mut impl Extend<u8>) {
    to.extend(*b"\x1b[");
    to.extend(mark.iter().copied());
    for (n, param) in params.iter().enumerate() {
        for (m, number) in param.iter().enumerate() {
            let separator = if m > 0 {
                ":"
            } else if n > 0 {
                ";"
            } else {
                ""
            };
            // A parameter that is left out has its default, which 0 stands for, too.
            let digits = if *number == 0 && param.len() == 1 { "" } else { &format!("{number}") };
            to.extend(separator.bytes().chain(digits.bytes()));
        }
    }
    write_char(end, to);
}

/// A character in UTF-8.
pub fn write_char(character: char, to: &mut impl Extend<u8>) {
    to.extend(character.encode_utf8(&mut [0; 4]).bytes());
}

/// The only parameter, 0 where it is left out; `None` where there are several.
pub fn only(params: &Params) -> Option<u16> {
    let mut all = params.iter();
    match (all.next(), all.next()) {
        (None, None) => Some(0),
        (Some([only]), None) => Some(*only),
        _ => None,
    }
}
