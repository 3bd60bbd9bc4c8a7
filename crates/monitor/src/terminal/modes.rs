//! The terminal's private modes (`ESC [ ? NUMBER h` and `l`) that guests use and that outlive them.

use alloc::format;
use alloc::string::String;

/// When the hypervisor puts a mode back to what it is at power-on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Until {
    /// Before it writes anything: text could not be read, or be somewhere else.
    Text,
    /// As `Text`, and first: another screen is shown.
    Screen,
    /// When another guest or the monitor gets the terminal: it is about what is typed, or only looks different.
    Leave,
}

/// Number, whether it is set at power-on, and how long a guest may have it otherwise.
const MODES: [(u16, bool, Until); 27] = [
    // Cursor keys, screen in reverse, origin, automatic line breaks, mouse, cursor, keypad.
    (1, false, Until::Leave),
    (5, false, Until::Leave),
    (6, false, Until::Text),
    (7, true, Until::Text),
    (9, false, Until::Leave),
    (12, false, Until::Leave),
    (25, true, Until::Leave),
    (45, false, Until::Leave),
    (47, false, Until::Screen),
    (66, false, Until::Leave),
    // Margins at the sides.
    (69, false, Until::Text),
    // Mouse and focus.
    (1000, false, Until::Leave),
    (1001, false, Until::Leave),
    (1002, false, Until::Leave),
    (1003, false, Until::Leave),
    (1004, false, Until::Leave),
    (1005, false, Until::Leave),
    (1006, false, Until::Leave),
    (1007, false, Until::Leave),
    (1015, false, Until::Leave),
    (1016, false, Until::Leave),
    (1047, false, Until::Screen),
    (1049, false, Until::Screen),
    // Pastes in brackets; text held back until it is complete; reports of colours and sizes.
    (2004, false, Until::Leave),
    (2026, false, Until::Text),
    (2031, false, Until::Leave),
    (2048, false, Until::Leave),
];

/// The modes that are not as at power-on.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Modes(u32);

impl Modes {
    /// Whether a mode is one of the table's.
    pub fn knows(number: u16) -> bool {
        MODES.iter().any(|(other, ..)| *other == number)
    }

    /// Notes that a mode is set or reset.
    pub fn set(&mut self, number: u16, on: bool) {
        if let Some(place) = MODES.iter().position(|(other, ..)| *other == number)
            && let Some((_, normally, _)) = MODES.get(place)
        {
            let bit = 1 << place;
            self.0 = if on == *normally { self.0 & !bit } else { self.0 | bit };
        }
    }

    /// Puts back what would keep text from being read.
    pub fn show_text(&mut self, to: &mut String) {
        self.put_back(Until::Screen, to);
        self.put_back(Until::Text, to);
    }

    /// Puts back all.
    pub fn leave(&mut self, to: &mut String) {
        self.show_text(to);
        self.put_back(Until::Leave, to);
    }

    /// What gives a terminal that is as at power-on these modes.
    pub fn enter(self, to: &mut String) {
        for (number, normally, _) in self.all() {
            to.push_str(&sequence(number, !normally));
        }
    }

    fn put_back(&mut self, when: Until, to: &mut String) {
        for (number, normally, _) in self.all().filter(|(.., until)| *until == when) {
            to.push_str(&sequence(number, normally));
            self.set(number, normally);
        }
    }

    fn all(self) -> impl Iterator<Item = (u16, bool, Until)> {
        MODES.into_iter().enumerate().filter(move |(place, _)| self.0 & 1 << place != 0).map(|(_, mode)| mode)
    }
}

fn sequence(number: u16, on: bool) -> String {
    format!("\x1b[?{number}{}", if on { 'h' } else { 'l' })
}
