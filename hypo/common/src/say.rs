//! What the program prints: results on standard output, messages on standard error. Neither a closed pipe nor a full
//! disk makes it panic, as `println!` and `eprintln!` would; the lints of `lib.rs` and `main.rs` refuse those.

use crate::error::{Error, Result};
use std::fmt::Display;
use std::io::{self, ErrorKind, IsTerminal, Write, stderr, stdin, stdout};

/// Prints a result and a line end.
///
/// # Errors
/// As [`printed`].
pub fn print(text: impl Display) -> Result<()> {
    let mut to = stdout().lock();
    printed(writeln!(to, "{text}").and_then(|()| to.flush()))
}

/// What became of printing a result.
///
/// # Errors
/// It cannot be written. A reader that has seen enough and closed the pipe is no error.
pub fn printed(written: io::Result<()>) -> Result<()> {
    match written {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(Error::new(format_args!("cannot write to standard output: {error}"))
                .remedy("make room where the output goes, or send it somewhere else"))
        }
        _ => Ok(()),
    }
}

/// Tells the user something. There is nobody to tell that standard error cannot be written.
pub fn tell(message: impl Display) {
    Notices { line_end: "\n" }.tell(message);
}

/// What a run tells the user while the terminal may be raw.
#[derive(Clone, Copy, Debug)]
pub struct Notices {
    line_end: &'static str,
}

impl Notices {
    /// For the standard streams that there are.
    pub fn new() -> Self {
        Self { line_end: if stdin().is_terminal() && stderr().is_terminal() { "\r\n" } else { "\n" } }
    }

    /// Tells one message, as [`tell`].
    pub fn tell(self, message: impl Display) {
        self.pass_on(&format!("hypo: {message}\n"));
    }

    /// Passes on text that somebody else has written.
    pub fn pass_on(self, text: &str) {
        let text = if self.line_end == "\n" { text.to_owned() } else { text.replace('\n', self.line_end) };
        let _ = stderr().lock().write_all(text.as_bytes());
    }
}

impl Default for Notices {
    fn default() -> Self {
        Self::new()
    }
}
