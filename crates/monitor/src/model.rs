//! Two terminals for tests. `vt100`, a crate of its own, has a screen. [`questions`] knows what any terminal would answer: it
//! reads bytes in its own way, as the most obliging terminal would, and shares nothing with what is tested.

use proptest::prelude::*;
use std::string::String;
use std::vec::Vec;

use core::num::NonZeroU16;

/// A screen of 80 columns.
pub fn screen(rows: u16) -> vt100::Parser {
    let size = |count| NonZeroU16::new(count).unwrap();
    vt100::Parser::new(size(rows), size(80), 0)
}

/// The rows of a screen, without what is empty at their ends.
pub fn rows(terminal: &vt100::Parser) -> Vec<String> {
    terminal.screen().rows(0, 80).map(|row| row.trim_end().into()).collect()
}

/// What a terminal would answer or swallow of these bytes: reports, control strings, C1 controls, ENQ. Each as it was found.
pub fn questions(bytes: &[u8]) -> Vec<String> {
    let text: Vec<char> = String::from_utf8_lossy(bytes).chars().collect();
    let mut found = Vec::new();
    for (n, character) in text.iter().enumerate() {
        let rest: String =
            text[n + 1..].iter().filter(|next| !next.is_control() || **next == '\x1b').collect();
        let question = match character {
            '\x05' => Some(String::from("ENQ")),
            '\u{80}'..='\u{9f}' => Some(std::format!("C1 {:x}", u32::from(*character))),
            '\x1b' => question(&rest),
            _ => None,
        };
        found.extend(question);
    }
    found
}

/// What follows an ESC.
fn question(rest: &str) -> Option<String> {
    let mut characters = rest.chars();
    match characters.next()? {
        'Z' | 'P' | ']' | 'X' | '^' | '_' => Some(std::format!("ESC {rest:.1}")),
        '[' => {
            let end =
                rest.find(|character: char| ('\x40'..='\x7e').contains(&character) && character != '[')?;
            let sequence = rest.get(..=end)?;
            let has = |mark: char| sequence.contains(mark);
            let asks = match sequence.chars().last()? {
                'c' | 'n' | 't' | 'x' | 'y' | 'i' | 'v' | 'w' | 'q' | 'p' => true,
                'u' | 'S' | 'm' | 's' | 'r' => has('?') || has('>') || has('$') || has('*'),
                _ => false,
            };
            asks.then(|| sequence.into())
        }
        _ => None,
    }
}

/// Bytes of a guest that is up to something.
pub fn hostile() -> impl Strategy<Value = Vec<u8>> {
    let known = [
        &b"\x1b["[..],
        b"\x1b]",
        b"\x1bP",
        b"\x1b_",
        b"\x1bX",
        b"\x1b\\",
        b"\x07",
        b"\x18",
        b"\x1b",
        b"\xc2",
        b"\xe2\x94",
        b"\xc2\x9b",
        b"\x9b",
        b"\x90",
        b"6n",
        b"?u",
        b"c",
        b"0;",
        b"?1049h",
        b"?1049l",
        b"?47h",
        b"?7l",
        b"?25l",
        b"?6h",
        b"3;5r",
        b"8m",
        b"5;5H",
        b"m",
        b"?1000h",
        b"?2004h",
        b"99A",
        b"99D",
        b"2J",
        b"K",
        b"\x1b(0",
        b"\x0e",
        b"\x1b7",
        b"\x1b8",
        b"\x1bM",
        b"\r",
        b"\n",
        b"\r\n",
        b"\t",
        b"\x08",
        b"$p",
        b"*y",
        b"S",
        b";1",
        b"12",
        b" ",
        b"text",
        b"\x05",
        b"\x1bc",
        b"\xcc\x81",
        b"!p",
        b"\xff",
    ];
    let piece = prop_oneof![
        8 => proptest::sample::select(known.map(<[u8]>::to_vec).to_vec()),
        1 => proptest::collection::vec(any::<u8>(), 1..4),
    ];
    proptest::collection::vec(piece, 0..60).prop_map(|pieces| pieces.concat())
}

#[test]
fn questions_are_found_however_they_are_written() {
    for question in [
        "\x1b[6n",
        "\x1b[c",
        "\x1b[>0c",
        "\x1b[?2026$p",
        "\x1b[>q",
        "\x1b[18t",
        "\x1bZ",
        "\x05",
        "\x1b]2;?\x07",
        "\x1bP+q\x1b\\",
        "\x1b[?u",
        "\u{9b}6n",
        "\x1b[1;1;1;1;1;1*y",
        "\x1b[?1;1;0S",
        "\x1b[6\r\nn",
        "\x1b[?4m",
    ] {
        assert_eq!(questions(question.as_bytes()).len(), 1, "{question:?}");
    }
    assert_eq!(questions("\x1b[1;31mred\x1b[0m \u{e4}\x1b[2J\x1b[H\x1b7\x1b(B\r\n".as_bytes()), [""; 0]);
}
