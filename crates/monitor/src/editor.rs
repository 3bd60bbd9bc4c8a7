//! The line at the monitor's prompt: editing, history and completion. Draws with what every terminal understands: CR,
//! cursor to the left, erase to the end of the line.

use alloc::collections::VecDeque;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use crate::command;
use crate::keys::{Key, Keys};

/// The longest line, with its prompt: it fits into any terminal's row, so that nothing is drawn over two rows.
const COLUMNS: usize = 79;
/// Lines that are remembered.
const HISTORY: usize = 32;
const BELL: &str = "\x07";

/// What has come of a key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Typed {
    /// The line goes on.
    More,
    /// A whole line, which is now on the screen.
    Line(String),
    /// The operator gives up the line and wants a new one.
    Cancelled,
    /// The operator wants to leave.
    Leave,
}

/// The line that is being typed. All of it is printable ASCII.
#[derive(Debug, Default)]
pub struct Editor {
    keys: Keys,
    prompt: String,
    line: String,
    cursor: usize,
    /// The newest last.
    history: VecDeque<String>,
    /// How far back in the history the line is, and what was typed before.
    back: usize,
    draft: String,
}

impl Editor {
    /// Begins a line behind `prompt`.
    pub fn begin(&mut self, prompt: &str, screen: &mut String) {
        self.prompt = prompt.into();
        self.replace(String::new());
        self.back = 0;
        screen.push_str(prompt);
    }

    /// Draws the line again, on a row that is free.
    pub fn draw(&self, screen: &mut String) {
        screen.push_str(&self.prompt);
        screen.push_str(&self.line);
        left(self.line.len() - self.cursor, screen);
    }

    /// Takes the line off the screen, so that something else can be written there.
    pub fn erase(screen: &mut String) {
        screen.push_str("\r\x1b[K");
    }

    /// Takes a byte from the terminal.
    pub fn feed(&mut self, byte: u8, guests: &[String], screen: &mut String) -> Typed {
        let Some(key) = self.keys.feed(byte) else { return Typed::More };
        match key {
            Key::Character(character) => self.insert(character, screen),
            Key::Enter => return self.enter(screen),
            Key::Tab => self.complete(guests, screen),
            Key::Backspace => self.delete(self.cursor.saturating_sub(1), self.cursor, screen),
            Key::Delete => self.delete(self.cursor, self.cursor + 1, screen),
            Key::EndOfInput if self.line.is_empty() => return Typed::Leave,
            Key::EndOfInput => self.delete(self.cursor, self.cursor + 1, screen),
            Key::KillToEnd => self.delete(self.cursor, self.line.len(), screen),
            Key::KillToStart => self.delete(0, self.cursor, screen),
            Key::KillWord => self.delete(self.word_start(), self.cursor, screen),
            Key::Left => self.move_to(self.cursor.saturating_sub(1), screen),
            Key::Right => self.move_to(self.cursor + 1, screen),
            Key::Home => self.move_to(0, screen),
            Key::End => self.move_to(self.line.len(), screen),
            Key::Up => self.recall(self.back + 1, screen),
            Key::Down if self.back > 0 => self.recall(self.back - 1, screen),
            Key::Cancel => {
                screen.push_str("^C\n");
                return Typed::Cancelled;
            }
            Key::Redraw => {
                screen.push_str("\x1b[H\x1b[2J");
                self.draw(screen);
            }
            Key::Down | Key::Unknown => screen.push_str(BELL),
        }
        Typed::More
    }

    fn insert(&mut self, character: u8, screen: &mut String) {
        if self.prompt.len() + self.line.len() >= COLUMNS {
            screen.push_str(BELL);
            return;
        }
        self.line.insert(self.cursor, char::from(character));
        self.cursor += 1;
        screen.push_str(self.line.get(self.cursor - 1..).unwrap_or_default());
        left(self.line.len() - self.cursor, screen);
    }

    fn enter(&mut self, screen: &mut String) -> Typed {
        screen.push('\n');
        let line = core::mem::take(&mut self.line);
        self.cursor = 0;
        if !line.trim().is_empty() && self.history.back() != Some(&line) {
            if self.history.len() == HISTORY {
                self.history.pop_front();
            }
            self.history.push_back(line.clone());
        }
        Typed::Line(line)
    }

    fn delete(&mut self, from: usize, to: usize, screen: &mut String) {
        let to = to.min(self.line.len());
        if from >= to {
            screen.push_str(BELL);
            return;
        }
        self.line.replace_range(from..to, "");
        self.cursor = from;
        self.redraw(screen);
    }

    fn move_to(&mut self, place: usize, screen: &mut String) {
        let place = place.min(self.line.len());
        if place > self.cursor {
            // What stands there moves the cursor, too.
            screen.push_str(self.line.get(self.cursor..place).unwrap_or_default());
        } else {
            left(self.cursor - place, screen);
        }
        self.cursor = place;
    }

    fn recall(&mut self, back: usize, screen: &mut String) {
        if back > self.history.len() {
            screen.push_str(BELL);
            return;
        }
        if self.back == 0 {
            self.draft = self.line.clone();
        }
        let remembered = self.history.len().checked_sub(back).and_then(|n| self.history.get(n));
        self.back = back;
        self.replace(remembered.unwrap_or(&self.draft).clone());
        self.redraw(screen);
    }

    fn complete(&mut self, guests: &[String], screen: &mut String) {
        let before = self.line.get(..self.cursor).unwrap_or_default();
        let word = before.rsplit(' ').next().unwrap_or_default();
        let candidates = command::candidates(before, guests);
        let common = common_beginning(&candidates);
        let more: Vec<u8> = common.bytes().skip(word.len()).collect();
        let is_whole = candidates.len() == 1 && self.line.as_bytes().get(self.cursor) != Some(&b' ');
        if candidates.is_empty() {
            screen.push_str(BELL);
        } else if more.is_empty() && !is_whole && candidates.len() > 1 {
            let list = candidates.join("  ");
            screen.push('\n');
            wrap(&list, screen);
            self.draw(screen);
        } else {
            more.into_iter().chain(is_whole.then_some(b' ')).for_each(|byte| self.insert(byte, screen));
        }
    }

    fn word_start(&self) -> usize {
        let before = self.line.get(..self.cursor).unwrap_or_default().trim_end();
        before.rfind(' ').map_or(0, |space| space + 1)
    }

    fn replace(&mut self, line: String) {
        self.cursor = line.len();
        self.line = line;
    }

    fn redraw(&self, screen: &mut String) {
        Self::erase(screen);
        self.draw(screen);
    }
}

/// Moves the terminal's cursor.
fn left(columns: usize, screen: &mut String) {
    match columns {
        0 => {}
        1 => screen.push('\x08'),
        _ => screen.push_str(&format!("\x1b[{columns}D")),
    }
}

/// Words, with line breaks where a line would become longer than the screen is wide.
fn wrap(words: &str, screen: &mut String) {
    const WIDTH: usize = 78;
    let mut column = 0;
    for word in words.split("  ") {
        if column > 0 && column + 2 + word.len() > WIDTH {
            screen.push('\n');
            column = 0;
        } else if column > 0 {
            screen.push_str("  ");
            column += 2;
        }
        screen.push_str(word);
        column += word.len();
    }
    screen.push('\n');
}

fn common_beginning<'a>(names: &[&'a str]) -> &'a str {
    let Some((first, rest)) = names.split_first() else { return "" };
    let same = |name: &&str| first.bytes().zip(name.bytes()).take_while(|(a, b)| a == b).count();
    let len = rest.iter().map(same).min().unwrap_or(first.len());
    first.get(..len).unwrap_or_default()
}

#[cfg(test)]
mod tests;
