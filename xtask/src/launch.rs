//! Starts `hypo` for tests and benchmarks, always under two time limits: its own, which leaves a status, and
//! a later one of ours.

use crate::expect::{Ending, Session};
use crate::project::show;
use anyhow::{Context, Result, bail};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// How long after its own time-out `hypo` is killed.
const GRACE: Duration = Duration::from_secs(15);

/// A run of `hypo` that has been started.
pub struct Run {
    /// Its console.
    pub session: Session,
    /// The command, as one would type it.
    pub shown: String,
    limit: Duration,
}

/// Starts `hypo` with these arguments. `limit` is in whole seconds.
pub fn start(hypo: &Path, arguments: &[String], limit: Duration) -> Result<Run> {
    let mut command = Command::new(hypo);
    command.args(arguments);
    let has = |word: &str| arguments.iter().any(|argument| argument == word);
    if has("run") && !has("--timeout") {
        command.args(["--timeout", &limit.as_secs().to_string()]);
    }
    let limit = limit + GRACE;
    let session = Session::start(&mut command, limit).context("hypo cannot be started")?;
    Ok(Run { session, shown: show(&command), limit })
}

impl Run {
    /// Waits for the end; gives the exit status, adds all output to `log`.
    pub fn finish(self, log: &mut Vec<u8>) -> Result<i32> {
        let (ending, output) = self.session.finish();
        log.extend(output);
        match ending {
            Ending::Exited(status) => Ok(status),
            Ending::Killed => bail!("still running after {} s", self.limit.as_secs()),
        }
    }
}

/// Runs `hypo` to its end without typing anything; the log begins with the command.
pub fn to_end(hypo: &Path, arguments: &[String], limit: Duration, log: &mut Vec<u8>) -> Result<i32> {
    let run = start(hypo, arguments, limit)?;
    log.extend(format!("$ {}\n", run.shown).bytes());
    run.finish(log)
}
