//! The terminal keeper: a process that keeps the terminal in raw mode for a run, and puts it back however the run ends.
//!
//! The run may be killed by a signal that no program can catch, so what restores the terminal has to be another process.
//! It sees the end of the run as the end of a pipe. It is in a process group of its own, so that what ends the run's
//! group does not end it, and has a name of its own, so that `killall hypo` does not, either.

use crate::signals::{self, in_any_case};
use hypo_common::again;
use hypo_common::error::{Error, Result};
use hypo_common::say;
use hypo_common::status::Status;
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcsetattr};
use std::fmt::Display;
use std::io::{self, BufRead, BufReader, sink, stderr, stdin};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::process::{Child, Stdio};

/// The hidden subcommand that the keeper is.
pub const SUBCOMMAND: &str = "keep-terminal";
/// What lists of processes call the keeper; the kernel takes 15 characters.
const NAME: &std::ffi::CStr = c"terminal-keeper";
/// What the keeper says once the terminal is raw. Another line says why it is not.
const RAW: &str = "raw";

/// The run's end of a keeper. The terminal is restored when this is dropped.
#[derive(Debug)]
pub struct Keeper {
    child: Child,
}

impl Keeper {
    /// Puts the terminal that is standard input into raw mode.
    ///
    /// # Errors
    /// The keeper cannot be started, or the terminal refuses.
    pub fn start() -> Result<Self> {
        let terminal = stdin().as_fd().try_clone_to_owned().map_err(refused)?;
        let mut command = again::command(SUBCOMMAND);
        command.process_group(0).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(terminal);
        let mut child = again::spawn(&mut command)?;
        let mut answer = String::new();
        if let Some(from) = child.stdout.take() {
            BufReader::new(from).read_line(&mut answer).map_err(refused)?;
        }
        let keeper = Self { child };
        if answer.trim_end() == RAW { Ok(keeper) } else { Err(refused(answer.trim_end())) }
    }
}

fn refused(why: impl Display) -> Error {
    Error::new(format_args!("cannot set up the terminal: {why}"))
        .remedy("try another terminal; or go without one and type into a pipe: `cat | hypo run ...`")
}

impl Drop for Keeper {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        if !self.child.wait().is_ok_and(|status| status.success()) {
            say::tell("something killed the terminal's keeper; if the terminal is in disorder, type: reset");
        }
    }
}

/// Carries out the subcommand: the terminal is standard error, and standard input ends with the run.
///
/// # Errors
/// The run cannot be told what became of the terminal.
pub fn run() -> Result<Status> {
    // The name is a convenience.
    let _ = rustix::thread::set_name(NAME);
    let modes = signals::outlive().and_then(|()| Modes::make_raw());
    let answer = modes.as_ref().map_or_else(ToString::to_string, |_| RAW.to_owned());
    say::print(answer)?;
    // Nothing is ever sent; the end of it is the end of the run.
    let _ = io::copy(&mut stdin().lock(), &mut sink());
    if let Ok(modes) = modes {
        modes.restore();
    }
    Ok(Status::PoweredOff)
}

/// The terminal's modes before, and the raw ones as the terminal has them.
struct Modes {
    before: Termios,
    raw: Termios,
}

impl Modes {
    fn make_raw() -> io::Result<Self> {
        let before = tcgetattr(stderr())?;
        let mut raw = before.clone();
        raw.make_raw();
        in_any_case(|| tcsetattr(stderr(), OptionalActions::Now, &raw))?;
        Ok(Self { before, raw: tcgetattr(stderr())? })
    }

    /// Puts the terminal back, unless somebody else has set it meanwhile: a shell that sees its job end is as quick.
    fn restore(self) {
        // Nothing can be done about a terminal that has gone away.
        if tcgetattr(stderr()).is_ok_and(|now| is_same(&now, &self.raw)) {
            let _ = in_any_case(|| tcsetattr(stderr(), OptionalActions::Now, &self.before));
        }
    }
}

fn is_same(one: &Termios, other: &Termios) -> bool {
    (one.input_modes, one.output_modes, one.local_modes)
        == (other.input_modes, other.output_modes, other.local_modes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_that_refuses_is_told_with_what_to_do() {
        let error = refused("Input/output error (os error 5)").to_string();
        assert!(error.contains("error 5") && error.contains("remedy: "), "{error}");
    }
}
