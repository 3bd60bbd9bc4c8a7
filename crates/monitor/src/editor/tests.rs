use super::*;
use proptest::prelude::*;
use std::string::ToString;

fn guests() -> Vec<String> {
    ["web", "webcam", "db"].map(String::from).into()
}

/// A terminal's row, as far as the editor uses it.
#[derive(Default)]
struct Row {
    cells: Vec<char>,
    cursor: usize,
    bells: usize,
    escape: String,
}

impl Row {
    fn show(&mut self, text: &str) {
        for c in text.chars() {
            if !self.escape.is_empty() {
                self.escape.push(c);
                if c.is_ascii_alphabetic() {
                    self.escaped();
                }
                continue;
            }
            match c {
                '\x1b' => self.escape.push(c),
                '\x07' => self.bells += 1,
                '\x08' => self.cursor -= 1,
                '\r' => self.cursor = 0,
                '\n' => (self.cells, self.cursor) = (Vec::new(), 0),
                c => {
                    self.cells.resize(self.cells.len().max(self.cursor + 1), ' ');
                    self.cells[self.cursor] = c;
                    self.cursor += 1;
                }
            }
        }
    }

    fn escaped(&mut self) {
        match core::mem::take(&mut self.escape).strip_prefix("\x1b[").unwrap() {
            "K" => self.cells.truncate(self.cursor),
            "H" => self.cursor = 0,
            "2J" => self.cells.clear(),
            left => self.cursor -= left.strip_suffix('D').unwrap().parse::<usize>().unwrap(),
        }
    }

    fn text(&self) -> String {
        self.cells.iter().collect()
    }
}

struct Session {
    editor: Editor,
    row: Row,
    lines: Vec<String>,
}

impl Session {
    fn new() -> Self {
        let mut session = Self { editor: Editor::default(), row: Row::default(), lines: Vec::new() };
        session.begin();
        session
    }

    fn begin(&mut self) {
        let mut screen = String::new();
        self.editor.begin("> ", &mut screen);
        self.row.show(&screen);
    }

    fn keys(&mut self, bytes: &[u8]) -> Typed {
        let mut last = Typed::More;
        for byte in bytes {
            let mut screen = String::new();
            last = self.editor.feed(*byte, &guests(), &mut screen);
            self.row.show(&screen);
            match &last {
                Typed::More | Typed::Leave => {}
                Typed::Line(line) => {
                    self.lines.push(line.clone());
                    self.begin();
                }
                Typed::Cancelled => self.begin(),
            }
        }
        last
    }

    /// What the operator sees, with the cursor.
    fn seen(&self) -> String {
        let mut text = self.row.text();
        text.insert(self.row.cursor, '|');
        text
    }
}

fn seen(bytes: &[u8]) -> String {
    let mut session = Session::new();
    session.keys(bytes);
    session.seen()
}

#[test]
fn keys_edit_the_line() {
    for (bytes, text) in [
        (&b"vms"[..], "> vms|"),
        (b"vs\x1b[Dm", "> vm|s"),
        (b"ms\x01v\x05!", "> vms!|"),
        (b"stop web\x17db", "> stop db|"),
        (b"stop web  \x17", "> stop |"),
        (b"stop web\x15", "> |"),
        (b"stop web\x1b[D\x1b[D\x1b[D\x0b", "> stop |"),
        (b"stop web\x1b[H\x1b[3~\x1b[3~", "> |op web"),
        (b"ab\x7f\x7f\x7f", "> |"),
        (b"ab\x02\x04", "> a|"),
        (b"ab\x1b[D\x1b[C\x1b[C", "> ab|"),
        (b"ab\x0c", "> ab|"),
    ] {
        assert_eq!(seen(bytes), text, "{bytes:x?}");
    }
}

#[test]
fn a_line_is_given_when_it_ends() {
    let mut session = Session::new();
    assert_eq!(session.keys(b"ms\x01v\r"), Typed::Line("vms".into()), "wherever the cursor is");
    assert_eq!(session.keys(b"never\x03"), Typed::Cancelled);
    assert_eq!(session.seen(), "> |");
    assert_eq!(session.keys(b"\x04"), Typed::Leave);
    assert_eq!(session.keys(b"x\x04"), Typed::More, "not with something on the line");
}

#[test]
fn older_lines_come_back_and_so_does_the_new_one() {
    let mut session = Session::new();
    session.keys(b"one\rtwo\rtwo\r  \rdra");
    session.keys(b"\x1b[A");
    assert_eq!(session.seen(), "> two|");
    session.keys(b"\x10");
    assert_eq!(session.seen(), "> one|", "what is repeated or empty is remembered once or not at all");
    session.keys(b"\x1b[A");
    assert_eq!((session.seen(), session.row.bells), ("> one|".into(), 1));
    session.keys(b"\x1b[B\x0e");
    assert_eq!(session.seen(), "> dra|");
    session.keys(b"\x1b[B");
    assert_eq!(session.row.bells, 2);
    session.keys(b"\x1b[A\x7f\r");
    assert_eq!(session.lines.last().unwrap(), "tw", "a line from the history can be changed");
    (0..2 * HISTORY).for_each(|n| {
        session.keys(std::format!("line {n}\r").as_bytes());
    });
    (0..2 * HISTORY).for_each(|_| {
        session.keys(b"\x1b[A");
    });
    assert_eq!(session.seen(), std::format!("> line {HISTORY}|"), "the oldest are forgotten");
}

#[test]
fn tab_completes_commands_and_guests() {
    assert_eq!(seen(b"v\t"), "> vms |");
    assert_eq!(seen(b"pau\td\t"), "> pause db |");
    assert_eq!(seen(b"pause w\t"), "> pause web|", "as far as all agree");
    assert_eq!(seen(b"pause wx\x02\t"), "> pause web|x", "before the cursor");
    assert_eq!(seen(b"vms\x1b[H\x1b[C\x1b[C\x1b[C\t"), "> vms |");
    let mut session = Session::new();
    session.keys(b"pause w\t");
    let mut screen = String::new();
    session.editor.feed(b'\t', &guests(), &mut screen);
    assert_eq!(screen, "\nweb  webcam\n> pause web", "and then all are listed");
    session.keys(b"x\t");
    assert_eq!(session.row.bells, 1, "nothing begins with webx");
}

#[test]
fn a_line_fits_into_a_terminals_row() {
    let mut session = Session::new();
    session.keys("x".repeat(COLUMNS).as_bytes());
    assert_eq!(session.editor.line.len(), COLUMNS - 2);
    assert_eq!(session.row.bells, 2);
    let mut screen = String::new();
    wrap(&["name"; 32].join("  "), &mut screen);
    assert!(screen.lines().all(|line| line.len() <= 78), "{screen}");
    assert_eq!(screen.to_string().split_whitespace().count(), 32);
}

proptest! {
    #[test]
    fn the_screen_shows_the_line_whatever_is_typed(
        bytes in proptest::collection::vec(
            prop_oneof![
                3 => b' '..0x7f_u8,
                3 => proptest::sample::select(&[1, 2, 4, 5, 6, 8, 9, 11, 14, 16, 21, 23][..]),
                1 => any::<u8>(),
            ],
            0..120,
        )
    ) {
        let mut session = Session::new();
        session.keys(&bytes);
        let Editor { line, cursor, .. } = &session.editor;
        prop_assert!(line.is_ascii() && line.len() <= COLUMNS && *cursor <= line.len());
        prop_assert_eq!(session.row.text(), std::format!("> {line}"));
        prop_assert_eq!(session.row.cursor, 2 + cursor);
    }
}
