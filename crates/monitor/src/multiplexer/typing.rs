//! What is typed: for the guest that is shown, for the monitor, or a key after Ctrl-]. What there is to see is next door.

use alloc::format;
use alloc::string::String;
use core::mem;

use super::{INPUT, Multiplexer, View};
use crate::command::{self, Command};
use crate::control::State;
use crate::editor::Typed;
use crate::operator::Reply;

/// Ctrl-], as in telnet: few guests want it.
pub(super) const ESCAPE: u8 = 0x1d;
/// Bytes that may be staged while more commands are taken.
pub(super) const STAGED: usize = 8 << 10;

const PROMPT: &str = "hypocaust> ";

const KEYS: &str = "\
[Ctrl-] and then
  1 to 9   that guest's console
  n, p     the next, the previous guest's
  a        all guests' lines; the guest shown last gets the typing
  m        the monitor
  ?        this help
  x        quit, where `hypo run` has the terminal
  Ctrl-]   one Ctrl-] for the guest]
";

impl Multiplexer {
    /// A byte that was typed for a guest.
    pub fn read(&mut self, guest: usize) -> Option<u8> {
        self.consoles.get_mut(guest)?.input.pop_front()
    }

    /// Whether the next byte typed can be taken.
    pub fn accepts(&self) -> bool {
        if self.view == View::Monitor {
            return self.staged.len() <= STAGED;
        }
        let console = self.consoles.get(self.shown);
        console.is_none_or(|console| console.state != State::Running || console.input.len() < INPUT)
    }

    /// Takes a byte from the terminal. A command has to be carried out before the next byte, and answered.
    pub fn typed(&mut self, byte: u8) -> Option<Command> {
        if mem::take(&mut self.escaped) {
            self.escape(byte);
        } else if byte == ESCAPE {
            self.escaped = true;
        } else if self.view == View::Monitor {
            return self.edit(byte);
        } else {
            self.give(byte);
        }
        None
    }

    /// Answers a command of [`Self::typed`].
    pub fn answer(&mut self, reply: Reply) {
        match reply {
            Reply::Text(text) => {
                self.stage(&text);
                self.prompt(PROMPT);
            }
            Reply::Last(text) => self.stage(&text),
            Reply::Ask(question, command) => {
                self.asked = Some(command);
                self.prompt(&question);
            }
            Reply::Console(guest) => self.show(guest),
        }
    }

    /// Opens the monitor, if it is not open.
    pub fn open_monitor(&mut self) {
        if self.view == View::Monitor {
            return;
        }
        self.view_before = self.view;
        self.leave(View::Monitor);
        self.asked = None;
        self.stage("[monitor; `help` lists the commands, Ctrl-D leads back]\n");
        self.prompt(PROMPT);
    }

    fn escape(&mut self, key: u8) {
        match key {
            ESCAPE if self.view == View::Monitor => {}
            ESCAPE => self.give(ESCAPE),
            b'1'..=b'9' => self.show(usize::from(key - b'1')),
            b'n' => self.show((self.shown + 1).checked_rem(self.names.len()).unwrap_or(0)),
            b'p' => self.show(self.shown.checked_sub(1).unwrap_or(self.names.len().saturating_sub(1))),
            b'a' => self.show_all(),
            b'm' => self.open_monitor(),
            b'?' | b'h' => self.remark(KEYS),
            _ => self.remark("[Ctrl-] and ? tell the keys]\n"),
        }
    }

    fn give(&mut self, byte: u8) {
        if let Some(console) = self.consoles.get_mut(self.shown)
            && console.state.is_alive()
            && console.input.len() < INPUT
        {
            console.input.push_back(byte);
        } else {
            // Nobody is there to read it.
            self.stage("\x07");
        }
    }

    fn edit(&mut self, byte: u8) -> Option<Command> {
        let mut screen = String::new();
        let typed = self.editor.feed(byte, &self.names, &mut screen);
        self.stage(&screen);
        match typed {
            Typed::More => {}
            Typed::Cancelled => {
                self.asked = None;
                self.prompt(PROMPT);
            }
            Typed::Leave if self.view_before == View::All => self.show_all(),
            Typed::Leave => self.show(self.shown),
            Typed::Line(line) => return self.line(&line),
        }
        None
    }

    fn line(&mut self, line: &str) -> Option<Command> {
        if let Some(command) = self.asked.take() {
            if matches!(line.trim(), "y" | "Y" | "yes") {
                return Some(command);
            }
            self.prompt(PROMPT);
            return None;
        }
        match command::parse(line, &self.names) {
            Ok(Some(command)) => return Some(command),
            Ok(None) => {}
            Err(message) => self.stage(&format!("{message}\n")),
        }
        self.prompt(PROMPT);
        None
    }

    fn prompt(&mut self, prompt: &str) {
        let mut screen = String::new();
        self.editor.begin(prompt, &mut screen);
        self.stage(&screen);
    }
}
