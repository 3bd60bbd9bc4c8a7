//! Takes out of replayed output what a terminal would answer: its answer, to a question of long ago, would reach the
//! guest as typing. ECMA-48, "Device status report", "Device attributes"; titles and the like go with them.

use alloc::collections::VecDeque;

/// Longer sequences are dropped.
const LONGEST: usize = 32;
const ESCAPE: u8 = 0x1b;
/// ENQ, to which some terminals answer with a text.
const ENQUIRY: u8 = 0x05;

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum Within {
    #[default]
    Text,
    /// Behind ESC.
    Escape,
    /// A control sequence: ESC [ up to its final byte.
    Sequence,
    /// A control string, such as a title: up to BEL or ESC \.
    String,
    /// Behind the ESC that may end a control string.
    StringEscape,
}

/// What has come of a sequence that has not ended.
#[derive(Debug, Default)]
pub struct Unquery {
    within: Within,
    held: VecDeque<u8>,
}

impl Unquery {
    /// Takes a byte, and gives what can be passed on.
    pub fn feed(&mut self, byte: u8, to: &mut VecDeque<u8>) {
        match self.within {
            Within::Text => self.text(byte, to),
            // CAN and SUB end a sequence; a terminal obeys other controls in its middle.
            Within::Escape | Within::Sequence if byte == 0x18 || byte == 0x1a => self.drop_held(),
            Within::Escape | Within::Sequence if byte < 0x20 => self.text(byte, to),
            Within::Escape => self.escaped(byte, to),
            Within::Sequence => self.sequence(byte, to),
            Within::String if byte == ESCAPE => self.within = Within::StringEscape,
            // A title does not span lines; what has no end is a stray byte's fault.
            Within::String if byte == b'\r' || byte == b'\n' => {
                self.within = Within::Text;
                to.push_back(byte);
            }
            Within::String if byte != 0x07 => {}
            Within::String => self.within = Within::Text,
            Within::StringEscape if byte == b'\\' => self.within = Within::Text,
            Within::StringEscape => {
                self.begin();
                self.feed(byte, to);
            }
        }
    }

    /// Gives what is held at the end of the replay: the guest goes on from there.
    pub fn finish(&mut self, to: &mut VecDeque<u8>) {
        self.within = Within::Text;
        to.append(&mut self.held);
    }

    fn text(&mut self, byte: u8, to: &mut VecDeque<u8>) {
        match byte {
            ESCAPE => self.begin(),
            ENQUIRY => {}
            _ => to.push_back(byte),
        }
    }

    fn escaped(&mut self, byte: u8, to: &mut VecDeque<u8>) {
        match byte {
            b'[' => {
                self.held.push_back(byte);
                self.within = Within::Sequence;
            }
            // OSC, DCS, SOS, PM, APC.
            b']' | b'P' | b'X' | b'^' | b'_' => {
                self.held.clear();
                self.within = Within::String;
            }
            // DECID.
            b'Z' => self.drop_held(),
            _ => {
                self.finish(to);
                to.push_back(byte);
            }
        }
    }

    fn sequence(&mut self, byte: u8, to: &mut VecDeque<u8>) {
        let is_parameter = matches!(byte, 0x20..=0x3f);
        if self.held.len() < LONGEST {
            self.held.push_back(byte);
        }
        match byte {
            _ if is_parameter => {}
            // Reports of the device, its attributes, parameters, window; of a mode, of its version.
            b'n' | b'c' | b'x' | b't' => self.drop_held(),
            b'p' if self.held.contains(&b'$') => self.drop_held(),
            b'q' if self.held.contains(&b'>') => self.drop_held(),
            // No sequence that is meant is that long.
            _ if self.held.len() == LONGEST => self.drop_held(),
            _ => self.finish(to),
        }
    }

    fn begin(&mut self) {
        self.held.clear();
        self.held.push_back(ESCAPE);
        self.within = Within::Escape;
    }

    fn drop_held(&mut self) {
        self.held.clear();
        self.within = Within::Text;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::vec::Vec;

    fn replayed(text: &[u8]) -> Vec<u8> {
        let (mut unquery, mut to) = (Unquery::default(), VecDeque::new());
        text.iter().for_each(|byte| unquery.feed(*byte, &mut to));
        unquery.finish(&mut to);
        to.into()
    }

    #[test]
    fn questions_and_titles_are_taken_out() {
        for (text, left) in [
            ("~ # \x1b[6n", "~ # "),
            ("a\x1b[cb\x1b[>0cc\x1b[?6nd", "abcd"),
            ("a\x1b[?2026$pb\x1b[>qc\x1b[18td\x1bZe\x05f", "abcdef"),
            ("a\x1b]0;title\x07b\x1b]2;other\x1b\\c\x1bP+q\x1b\\d", "abcd"),
            ("a\x1b]unended\r\nb", "a\r\nb"),
            ("a\x1b[6\nn\x1b[6\x1b[6nb\x1b\x1b[6nc\x1b]x\x1b[6nd", "a\nbcd"),
            ("a\x1b[1;2;3;4;5;6;7;8;9;10;11;12;13;14;6nb\x1b[6\x18n", "abn"),
        ] {
            assert_eq!(replayed(text.as_bytes()), left.as_bytes(), "{text:?}");
        }
    }

    #[test]
    fn colours_and_movements_stay() {
        for text in [
            "\x1b[1;31mred\x1b[0m",
            "\x1b[2J\x1b[H\x1b[24;80H",
            "\x1b(B\x1b=\x1b7",
            "half \x1b[3",
            "\u{e4}\n",
        ] {
            assert_eq!(replayed(text.as_bytes()), text.as_bytes(), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn plain_text_is_unchanged(text in "[ -~\r\n\t\u{80}-\u{2fff}]{0,200}") {
            prop_assert_eq!(replayed(text.as_bytes()), text.as_bytes());
        }

        #[test]
        fn no_question_is_left_and_memory_is_bounded(text in proptest::collection::vec(
            prop_oneof![Just(0x1b), Just(b'['), Just(b'n'), Just(b'6'), Just(b']'), any::<u8>()], 0..200)
        ) {
            let (mut unquery, mut to) = (Unquery::default(), VecDeque::new());
            for byte in text {
                unquery.feed(byte, &mut to);
                prop_assert!(unquery.held.len() <= LONGEST);
            }
            let out: Vec<u8> = to.into();
            prop_assert!(!out.windows(4).any(|four| four == b"\x1b[6n"));
            prop_assert_eq!(replayed(&out), out, "what is left has nothing to take out");
        }
    }
}
