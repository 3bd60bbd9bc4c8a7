use super::*;
use crate::model::{hostile, questions, rows, screen};
use proptest::prelude::*;
use std::string::ToString;

const NAMES: [&str; 2] = ["web", "db"];

/// What comes of bytes of both guests; the first gets the typing.
fn shown(writes: &[(usize, &[u8])]) -> Vec<u8> {
    let names = NAMES.map(|name| name.to_string());
    let (mut lines, mut to) = (Lines::new(2), VecDeque::new());
    for (guest, bytes) in writes {
        bytes.iter().for_each(|byte| lines.feed(*guest, *guest == 0, &names, *byte, &mut to));
    }
    to.into()
}

fn text(writes: &[(usize, &str)]) -> String {
    let writes: Vec<_> = writes.iter().map(|(guest, text)| (*guest, text.as_bytes())).collect();
    String::from_utf8(shown(&writes)).unwrap()
}

#[test]
fn nothing_but_text_and_colours_is_shown() {
    assert_eq!(
        text(&[(
            1,
            "\x1b[6n\x1b]2;rm -rf /;#\x07\x1b[21tx\x1b]4;1;?\x07\u{9b}6n\r\n\x1b[2J\x1b[1;1Hweb| root#\n"
        )]),
        "db| x6n\r\ndb| web| root#\r\n"
    );
    assert_eq!(text(&[(1, "\x1b[31mred\x1b[1m\nplain\n")]), "db| \x1b[31mred\x1b[0m\r\ndb| plain\r\n");
    assert_eq!(
        text(&[(0, "\x1b[32mok"), (1, "x\n"), (0, "!\n")]),
        "web| \x1b[32mok\x1b[0m\r\ndb| x\r\nweb| !\r\n"
    );
    assert_eq!(text(&[(1, "a\u{202e}b\u{7f}\u{2028}c\u{e4}\u{4e16}\n")]), "db| abc\u{e4}\u{4e16}\r\n");
}

#[test]
fn a_line_that_is_corrected_stays_behind_its_name() {
    assert_eq!(text(&[(0, "# lx\x08 \x08s\r\n")]), "web| # lx\x08 \x08s\r\n");
    assert_eq!(
        text(&[(0, "# ab\x1b[9D\x1b[J$")]),
        "web| # ab\x08\x08\x08\x08\x1b[K$",
        "no further than it began"
    );
    assert_eq!(text(&[(0, "\u{301}\u{301}ab\x08\x08\x08\x08")]), "web| \u{301}\u{301}ab\x08\x08");
    assert_eq!(text(&[(0, "10%\r20%\r\n")]), "web| 10%\rweb| 20%\r\n", "the name comes again, too");
    assert_eq!(text(&[(1, "10%\r20%\r\n")]), "db| 20%\r\n");
    assert_eq!(text(&[(0, "ab"), (1, "x\n"), (0, "\x08\x08\x08c")]), "web| ab\r\ndb| x\r\nweb| c");
    assert_eq!(text(&[(1, "a\tb\n")]), "db| a       b\r\n");
}

#[test]
fn lines_are_broken_before_the_terminal_would() {
    for guest in [0, 1] {
        let long = "x".repeat(100) + "\n";
        let room = COLUMNS - NAMES[guest].len() - 2;
        let name = NAMES[guest];
        let expected = std::format!("{name}| {}\r\n{name}| {}\r\n", "x".repeat(room), "x".repeat(100 - room));
        assert_eq!(text(&[(guest, &long)]), expected);
    }
    let wide = "\u{4e16}".repeat(60) + "\n";
    assert!(text(&[(1, &wide)]).lines().all(|line| line.chars().count() <= 4 + 37));
}

#[test]
fn a_line_that_never_ends_takes_bounded_memory() {
    for endless in ["a\x08", "\x1b[31m", "\x1b[31mx\x08", "\r", "\r\x1b[K", "x\r", "\x1b]x", "\u{301}"] {
        let names = NAMES.map(|name| name.to_string());
        let (mut lines, mut to) = (Lines::new(2), VecDeque::new());
        for byte in endless.bytes().cycle().take(20_000) {
            lines.feed(1, false, &names, byte, &mut to);
            assert!(lines.begun[1].text.len() <= LONGEST + 2 * STYLE && lines.begun[1].style.len() <= STYLE);
        }
    }
}

proptest! {
    #[test]
    fn each_row_of_the_screen_tells_whose_it_is(
        writes in proptest::collection::vec((0..2_usize, hostile()), 0..9)
    ) {
        // What a guest shows of itself are letters that the other one does not write.
        let own = |guest: usize, bytes: Vec<u8>| {
            let letter = if guest == 0 { '\u{3b1}' } else { '\u{3b2}' };
            let text = String::from_utf8_lossy(&bytes).replace(['\u{3b1}', '\u{3b2}'], "");
            let text = text.replace("text", &std::format!("{letter} web| db| "));
            (guest, text.into_bytes())
        };
        let writes: Vec<_> = writes.into_iter().map(|(guest, bytes)| own(guest, bytes)).collect();
        let writes: Vec<_> = writes.iter().map(|(guest, bytes)| (*guest, &bytes[..])).collect();
        let out = shown(&writes);
        prop_assert_eq!(questions(&out), [""; 0]);
        let mut terminal = screen(1000);
        terminal.process(&out);
        for row in rows(&terminal).iter().filter(|row| !row.is_empty()) {
            let (name, text) = row.split_once("| ").or_else(|| row.split_once('|')).unwrap_or((row, ""));
            let other = match name {
                "web" => '\u{3b2}',
                "db" => '\u{3b1}',
                _ => panic!("{row:?} is nobody's"),
            };
            prop_assert!(!text.contains(other), "{row:?}");
        }
    }
}
