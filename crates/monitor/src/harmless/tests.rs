use super::*;
use crate::model::{hostile, questions};
use proptest::prelude::*;
use std::string::String;
use std::vec::Vec;

fn replayed(text: &[u8]) -> Vec<u8> {
    let (mut harmless, mut to) = (Harmless::default(), VecDeque::new());
    for byte in text {
        harmless.feed(*byte, &mut to);
    }
    to.into()
}

#[test]
fn questions_and_titles_are_taken_out() {
    for (text, left) in [
        ("~ # \x1b[6n", "~ # "),
        ("a\x1b[cb\x1b[>0cc\x1b[?6nd", "abcd"),
        ("a\x1b[?2026$pb\x1b[>qc\x1b[18td\x1bZe\x05f", "abcdef"),
        ("a\x1b]0;title\x07b\x1b]2;other\x1b\\c\x1bP+q\x1b\\d", "abcd"),
        ("a\x1b[6\nn\x1b[6\x1b[6nb\x1b\x1b[6nc", "a\nbc"),
        ("a\x1b[1;2;3;4;5;6;7;8;9;10;11;12;13;14;6nb\x1b[6\x18n", "abn"),
        // What the trial sent.
        ("old \x1b[?u|\u{9b}6n|\x1b[1;1;1;1;1;1*y|\x1b[?1;1;0S|\x1b[6n|\x1b[c| end", "old |6n||||| end"),
        ("a\x1b[3Jb\x1b[s\x1b[5;9s\x1b[1;2;3;4;5Tc\x1b[?9999hd\x1bce", "ab\x1b[scde"),
        ("a\x7fb\x1b_x\x1b\\c\x1b[5id\x1b[4;1;?m\x1b#8e", "abcde"),
    ] {
        assert_eq!(replayed(text.as_bytes()), left.as_bytes(), "{text:?}");
    }
}

#[test]
fn colours_movements_and_known_modes_stay() {
    for text in [
        "\x1b[1;31mred\x1b[m",
        "\x1b[38:2:1:2:3m\x1b[4:3m",
        "\x1b[2J\x1b[H\x1b[24;80H\x1b[5A\x1b[K\x1b[2;10r",
        "\x1b(B\x1b=\x1b7\x1b8\x1bM",
        "\x1b[?1049h\x1b[?25l\x1b[?25h",
        "\u{e4}\u{2500}\r\n\tx\x08",
    ] {
        assert_eq!(replayed(text.as_bytes()), text.as_bytes(), "{text:?}");
    }
}

#[test]
fn only_the_beginning_of_a_character_or_of_a_sequence_is_passed_on() {
    for good in [&b"\x1b"[..], b"\x1b[", b"\x1b[?10", b"\xe2\x94", b"\xc3"] {
        assert!(is_beginning(good), "{good:x?}");
    }
    for bad in [
        &b""[..],
        b"\x1b]",
        b"\x1b]0;x",
        b"\x1bP",
        b"\x1b[6n",
        b"\x1b[1?2n",
        b"\x90",
        b"\x9b6",
        b"\xe2n",
        b"\xc2\x9b",
        b"\xc3\xa4",
        b"\xc2\x1b[",
    ] {
        assert!(!is_beginning(bad), "{bad:x?}");
    }
}

proptest! {
    #[test]
    fn plain_text_is_unchanged(text in "[ -~\r\n\t\u{a0}-\u{2fff}]{0,200}") {
        prop_assert_eq!(replayed(text.as_bytes()), text.as_bytes());
    }

    #[test]
    fn no_question_is_left(text in hostile()) {
        let out = replayed(&text);
        prop_assert_eq!(questions(&out), [""; 0], "{:?}", String::from_utf8_lossy(&out));
        prop_assert_eq!(&replayed(&out), &out, "what is left has nothing to take out");
    }

    #[test]
    fn what_is_passed_on_at_the_end_asks_nothing(text in hostile()) {
        let (mut harmless, mut to, mut begun) = (Harmless::default(), VecDeque::new(), 0);
        for (n, byte) in text.iter().enumerate() {
            if harmless.feed(*byte, &mut to) {
                begun = n + 1;
            }
        }
        if is_beginning(&text[begun..]) {
            to.extend(&text[begun..]);
        }
        let out: Vec<u8> = to.into();
        prop_assert_eq!(questions(&out), [""; 0]);
    }
}
