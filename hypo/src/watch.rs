//! Looks for text in a guest's console output while it streams by. Pure: bytes in, verdicts out.
//!
//! Patterns are matched against one line at a time, without its line end. A line that has only begun is
//! matched as well, so that a prompt is seen at once; there `$` does not match, for more may follow.

use regex::bytes::Regex;

/// Longer lines are matched by their beginning only, so that endless output costs bounded memory.
const MAX_LINE: usize = 64 << 10;
/// What the hypervisor prints at the end on a machine that has no test finisher.
const HALTED: &[u8] = b"hypocaust: halted with status ";

/// What was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// The text that has to come.
    Expected,
    /// The text that must not come.
    Failure,
    /// The hypervisor has ended with this status.
    Halted(i32),
}

/// Watches one stream.
#[derive(Debug, Default)]
pub struct Watch {
    /// The text that has to come.
    pub expect: Option<Regex>,
    /// The text that must not come.
    pub fail: Option<Regex>,
    /// Whether the hypervisor's last line counts.
    pub halted: bool,
    line: Vec<u8>,
}

impl Watch {
    /// A watch for these texts.
    pub fn new(expect: Option<Regex>, fail: Option<Regex>, halted: bool) -> Self {
        Self { expect, fail, halted, line: Vec::new() }
    }

    /// The same watch at the beginning of a stream.
    pub fn restarted(&self) -> Self {
        Self::new(self.expect.clone(), self.fail.clone(), self.halted)
    }

    /// Takes the next bytes of the stream and says what is seen first in them. On one line the failure counts.
    pub fn feed(&mut self, bytes: &[u8]) -> Option<Seen> {
        let mut rest = bytes;
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            let (line, after) = rest.split_at(end);
            self.take(line);
            let seen = self.whole_line();
            self.line.clear();
            if seen.is_some() {
                return seen;
            }
            rest = after.get(1..).unwrap_or_default();
        }
        self.take(rest);
        self.begun_line()
    }

    fn take(&mut self, bytes: &[u8]) {
        let room = MAX_LINE.saturating_sub(self.line.len());
        self.line.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }

    fn whole_line(&self) -> Option<Seen> {
        let line = self.line.trim_ascii_end();
        // Only the line end goes: trailing spaces may be part of the pattern.
        let end = self.line.iter().rposition(|byte| *byte != b'\r').map_or(0, |last| last + 1);
        let found =
            |pattern: &Option<Regex>| pattern.as_ref().is_some_and(|regex| regex.is_match(&self.line[..end]));
        if found(&self.fail) {
            return Some(Seen::Failure);
        }
        if found(&self.expect) {
            return Some(Seen::Expected);
        }
        let number = line.strip_prefix(HALTED).filter(|_| self.halted)?;
        std::str::from_utf8(number).ok()?.parse().ok().map(Seen::Halted)
    }

    fn begun_line(&mut self) -> Option<Seen> {
        let len = self.line.len();
        if len == 0 {
            return None;
        }
        // A line feed in place of what may follow: neither `$` nor `.` matches there, and a match that needs
        // the line feed itself ends behind it.
        self.line.push(b'\n');
        let found = |pattern: &Option<Regex>| {
            pattern.as_ref().and_then(|regex| regex.shortest_match(&self.line)).is_some_and(|end| end <= len)
        };
        let seen = if found(&self.fail) {
            Some(Seen::Failure)
        } else if found(&self.expect) {
            Some(Seen::Expected)
        } else {
            None
        };
        self.line.truncate(len);
        seen
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn watch(expect: &str, fail: &str) -> Watch {
        let regex = |pattern: &str| (!pattern.is_empty()).then(|| Regex::new(pattern).unwrap());
        Watch::new(regex(expect), regex(fail), false)
    }

    #[test]
    fn text_is_found_however_it_is_split_over_reads() {
        let text = b"one\r\ntwo three\r\nfour\r\n";
        for first in 0..text.len() {
            for second in first..text.len() {
                let mut watch = watch("two t[a-z]+e$", "");
                let parts = [&text[..first], &text[first..second], &text[second..]];
                let seen: Vec<Seen> = parts.iter().filter_map(|part| watch.feed(part)).collect();
                assert_eq!(seen, [Seen::Expected], "split at {first} and {second}");
            }
        }
    }

    #[test]
    fn a_prompt_is_seen_before_its_line_ends() {
        let mut watch = watch("^login: ", "");
        assert_eq!(watch.feed(b"\r\nlogin:"), None);
        assert_eq!(watch.feed(b" "), Some(Seen::Expected));
    }

    #[test]
    fn an_end_of_line_is_not_seen_too_early() {
        let mut watch = watch("^ok$", "");
        assert_eq!(watch.feed(b"ok"), None);
        assert_eq!(watch.feed(b"ay\n"), None);
        assert_eq!(watch.feed(b"ok\r\n"), Some(Seen::Expected));
    }

    #[test]
    fn a_pattern_that_needs_more_text_waits_for_it() {
        let mut watch = watch("a\\s", "");
        assert_eq!(watch.feed(b"a"), None);
        assert_eq!(watch.feed(b" "), Some(Seen::Expected));
    }

    #[test]
    fn on_one_line_failure_counts_and_on_different_lines_the_first() {
        assert_eq!(watch("good", "bad").feed(b"good bad\n"), Some(Seen::Failure));
        assert_eq!(watch("good", "bad").feed(b"good\nbad\n"), Some(Seen::Expected));
        assert_eq!(watch("good", "bad").feed(b"bad\ngood\n"), Some(Seen::Failure));
    }

    #[test]
    fn the_hypervisors_last_line_counts_only_when_asked_for() {
        let line = b"hypocaust: halted with status 33\r\n";
        assert_eq!(Watch::new(None, None, true).feed(line), Some(Seen::Halted(33)));
        assert_eq!(Watch::new(None, None, false).feed(line), None);
        assert_eq!(Watch::new(None, None, true).feed(b"hypocaust: halted with status x\n"), None);
    }

    #[test]
    fn endless_lines_do_not_fill_memory() {
        let mut watch = watch("needle", "");
        for _ in 0..100 {
            assert_eq!(watch.feed(&[b'x'; 4096]), None);
        }
        assert!(watch.line.len() <= MAX_LINE);
        assert_eq!(watch.feed(b"\nneedle"), Some(Seen::Expected));
    }

    #[test]
    fn bytes_that_are_no_utf8_are_no_obstacle() {
        assert_eq!(watch("ok", "").feed(b"\xff\xfe ok"), Some(Seen::Expected));
    }
}
