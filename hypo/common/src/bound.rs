//! Programs that end with this one, whatever ends it. The kernel kills a process whose parent has died, if the process
//! has asked for that itself; so this program is started once more, asks, and becomes the other program.

use crate::again;
use crate::error::{Error, Result};
use crate::qemu::not_started;
use crate::status::Status;
use rustix::process::{Pid, Signal, getpid, getppid, set_parent_process_death_signal};
use std::ffi::{OsStr, OsString};
use std::os::unix::process::CommandExt;
use std::process::Command;

/// The hidden subcommand that becomes the other program.
pub const SUBCOMMAND: &str = "bound";

/// A command that runs `program` until it ends or the *thread* that starts it does.
pub fn command(program: &OsStr) -> Command {
    let mut command = again::command(SUBCOMMAND);
    let parent = getpid().as_raw_nonzero().to_string();
    command.args([&parent, "--"]).arg(program);
    command
}

/// Becomes the program that `command` starts with, with the other words as its arguments. `parent` is the process that has
/// asked for it.
///
/// # Errors
/// The parent has ended already, or the program cannot be started.
pub fn run(parent: i32, command: &[OsString]) -> Result<Status> {
    let fail = |error: rustix::io::Errno| Error::new(format_args!("cannot be bound to a run: {error}"));
    set_parent_process_death_signal(Some(Signal::KILL)).map_err(fail)?;
    // It may have ended before the kernel was asked.
    if getppid() != Pid::from_raw(parent) {
        return Err(Error::new("the run has ended"));
    }
    let (program, arguments) = command.split_first().ok_or_else(|| Error::usage("no program to become"))?;
    let error = Command::new(program).args(arguments).exec();
    Err(not_started(program.as_ref(), &error))
}
