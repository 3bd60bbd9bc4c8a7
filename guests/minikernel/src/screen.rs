//! Who writes on the console now: the prompt with the line being typed, or processes.
//!
//! A process's line must not land in the middle of the prompt, so the prompt is taken off the screen first, and
//! the shell draws it again. All by carriage return and blanks, which every terminal has.

use guest_rt::{console, print};

/// What stands on the terminal's last line.
pub struct Screen {
    /// Characters of prompt and typed line there; 0 when no prompt is shown.
    pub prompt: usize,
    /// Whether a process has written part of a line.
    unfinished: bool,
}

impl Screen {
    /// A screen with nothing on its last line.
    pub const fn new() -> Self {
        Self { prompt: 0, unfinished: false }
    }

    /// Writes a process's bytes as they are.
    pub fn write(&mut self, bytes: &[u8]) {
        let Some(&last) = bytes.last() else { return };
        self.take_prompt_off();
        for &byte in bytes {
            if byte == b'\n' {
                console::put(b'\r');
            }
            console::put(byte);
        }
        self.unfinished = last != b'\n';
    }

    /// Removes the prompt, for others to write.
    pub fn take_prompt_off(&mut self) {
        if self.prompt > 0 {
            print!("\r{:width$}\r", "", width = self.prompt);
            self.prompt = 0;
        }
    }

    /// Ends a line that a process left unfinished.
    pub fn finish_line(&mut self) {
        if core::mem::take(&mut self.unfinished) {
            print!("\n");
        }
    }
}
