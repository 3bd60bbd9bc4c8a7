//! Makes output of guests fit for logs and for the terminal of whoever runs the tests: guests write any bytes, and attack
//! guests write those that a terminal obeys.

use std::fmt::Write;

/// The text, with each control character but line feed and tab, and each byte that is no UTF-8, written as `\x1b`.
pub fn readable(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            match character {
                '\n' | '\t' => text.push(character),
                // C0, DEL and C1 as a character: its number, not its bytes.
                _ if character.is_control() => escape(u32::from(character), &mut text),
                // What turns the direction of writing can make a line look like another one.
                '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {
                    text.extend(character.escape_unicode());
                }
                _ => text.push(character),
            }
        }
        chunk.invalid().iter().for_each(|byte| escape(u32::from(*byte), &mut text));
    }
    text
}

fn escape(number: u32, text: &mut String) {
    // Writing to a string does not fail.
    let _ = write!(text, "\\x{number:02x}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_a_terminal_obeys_is_left() {
        assert_eq!(readable(b"a\tb\nc\r\x1b[6n\x07\x00\x7f"), "a\tb\nc\\x0d\\x1b[6n\\x07\\x00\\x7f");
        assert_eq!(
            readable("\u{9b}6n \u{e4}\u{2500} \u{202e}".as_bytes()),
            "\\x9b6n \u{e4}\u{2500} \\u{202e}"
        );
        assert_eq!(readable(b"\x9b6n\xe2\x94|\xff"), "\\x9b6n\\xe2\\x94|\\xff");
        let all: Vec<u8> = (0..=255).collect();
        let left = readable(&all);
        assert!(left.chars().all(|character| !character.is_control() || "\t\n".contains(character)));
    }
}
