//! This program once more, as another process of a run: the terminal's keeper, or what becomes QEMU.

use crate::error::{Error, Result};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};

/// What it is called in lists of processes.
const NAME: &str = "hypo";
/// This program, also when its file has been replaced since it was started.
const THIS_PROGRAM: &str = "/proc/self/exe";

/// A command that carries out a hidden subcommand.
pub fn command(subcommand: &str) -> Command {
    let mut command = Command::new(THIS_PROGRAM);
    command.arg0(NAME).arg(subcommand);
    command
}

/// Starts such a command.
///
/// # Errors
/// The kernel refuses.
pub fn spawn(command: &mut Command) -> Result<Child> {
    command.spawn().map_err(|error| {
        Error::new(format_args!("cannot start hypo's own program again, `{THIS_PROGRAM}`: {error}"))
            .remedy("see to it that /proc is mounted, and that you may start more processes: `ulimit -u`")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_cannot_be_started_again_is_told_with_what_to_do() {
        let error = spawn(command("bound").current_dir("/no/such/folder")).unwrap_err().to_string();
        assert!(error.contains("/proc/self/exe") && error.contains("remedy: "), "{error}");
    }
}
