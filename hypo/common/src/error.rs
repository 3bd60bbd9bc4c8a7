//! What the user is told when something goes wrong: one message that says what, where and what to do.

use crate::status::Status;
use std::fmt;
use std::path::Path;

/// A message for the user, and the exit status that goes with it.
#[derive(Debug)]
pub struct Error {
    what: String,
    quote: Option<String>,
    remedy: Option<String>,
    status: Status,
}

/// The result of nearly everything here.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// Set-up failed: `what` names the thing and the place.
    pub fn new(what: impl fmt::Display) -> Self {
        Self { what: what.to_string(), quote: None, remedy: None, status: Status::Failed }
    }

    /// The same from a sentence that says after a semicolon what to do.
    pub fn sentence(text: impl fmt::Display) -> Self {
        let text = text.to_string();
        match text.rsplit_once("; ") {
            Some((what, remedy)) => Self::new(what).remedy(remedy),
            None => Self::new(text),
        }
    }

    /// The command line asks for something impossible.
    pub fn usage(what: impl fmt::Display) -> Self {
        Self { status: Status::Usage, ..Self::new(what) }
    }

    /// A file could not be used; `doing` is as in "read" or "write".
    pub fn file(doing: &str, path: &Path, error: &std::io::Error) -> Self {
        Self::new(format_args!("cannot {doing} `{}`: {error}", path.display()))
    }

    /// The same error with what the user can do about it.
    pub fn remedy(mut self, remedy: impl fmt::Display) -> Self {
        self.remedy = Some(remedy.to_string());
        self
    }

    /// The same error with the lines of the user's file that it is about.
    pub fn quote(mut self, lines: impl fmt::Display) -> Self {
        self.quote = Some(lines.to_string());
        self
    }

    /// The same error with a place in front of the message.
    pub fn within(mut self, place: impl fmt::Display) -> Self {
        self.what = format!("{place}: {}", self.what);
        self
    }

    /// The exit status that the program ends with.
    pub fn status(&self) -> Status {
        self.status
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)?;
        if let Some(quote) = &self.quote {
            write!(f, "\n{quote}")?;
        }
        match &self.remedy {
            Some(remedy) => write!(f, "\n  remedy: {remedy}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Error {}
