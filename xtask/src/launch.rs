//! Starts `hypo` for tests and benchmarks, always under two time limits: ours, which a busy machine does not use up, and its
//! own on the clock, which comes later and leaves a status.

use crate::allowance::hard;
use crate::expect::{Ending, Input, Session};
use crate::project::show;
use anyhow::{Context, Result, bail, ensure};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// What OpenSBI 1.6 and later write, without a line break, at each SRET, WFI and fence that traps.
const COMPLAINT: &[u8] = b"system_opcode_insn: Invalid opcode for CSR read/write instruction";

/// How long a run may take to be ended by itself after its limit.
const GRACE: Duration = Duration::from_secs(15);

/// The program, and what is to be said to each of its runs.
#[derive(Clone, Debug)]
pub struct Hypo {
    program: PathBuf,
    /// Options of `hypo run` with their values; a run that has the option itself keeps its own value.
    switches: Vec<(&'static str, String)>,
    /// By what limits are stretched on this machine.
    pace: f64,
    /// Where fetched files are, if not in the user's cache.
    cache: Option<PathBuf>,
}

impl Hypo {
    /// `program` with these options of `hypo run`.
    pub fn new(program: &Path, switches: Vec<(&'static str, String)>) -> Self {
        Self { program: program.into(), switches, pace: 1.0, cache: None }
    }

    /// The same on a machine that is so much slower than others: see `pace`.
    pub fn at_pace(self, pace: f64) -> Self {
        Self { pace, ..self }
    }

    /// Has the program fetch what this is the name of. Gives its folder in the cache.
    pub fn fetch(&self, asset: &str) -> Result<PathBuf> {
        let output = Command::new(&self.program).args(["fetch", asset]).stderr(Stdio::inherit()).output();
        let output = output.context("hypo cannot be started")?;
        ensure!(output.status.success(), "hypo cannot fetch {asset}");
        Ok(PathBuf::from(String::from_utf8(output.stdout)?.trim_end()))
    }

    /// The same with another cache.
    pub fn with_cache(&self, cache: &Path) -> Self {
        Self { cache: Some(cache.into()), ..self.clone() }
    }

    /// What a time limit becomes: a slow machine needs longer, and with a part switched off, guests that trap much take
    /// several times as long.
    pub fn limit(&self, limit: Duration) -> Duration {
        let limit = limit.mul_f64(self.pace);
        if self.switches.iter().any(|(_, value)| value == "off") { limit * 3 } else { limit }
    }

    /// The value of an option in a run with these arguments, if it is given.
    pub fn value<'a>(&'a self, arguments: &'a [String], name: &str) -> Option<&'a String> {
        let own = arguments.iter().position(|argument| argument == name);
        let switch = || self.switches.iter().find(|(switch, _)| *switch == name).map(|(_, value)| value);
        own.map_or_else(switch, |at| arguments.get(at + 1))
    }

    /// Whether firmware that complains does so in the middle of what guests print. A run that asks for that itself is
    /// about it.
    fn is_disturbed(&self, arguments: &[String]) -> bool {
        let off = self.switches.iter().any(|(name, value)| *name == "--rewrite" && value == "off");
        off && !arguments.iter().any(|argument| argument == "--rewrite")
    }

    /// All that a run gets that would get `arguments`.
    fn arguments(&self, arguments: &[String], limit: Duration) -> Vec<String> {
        let mut all = arguments.to_vec();
        if !all.iter().any(|argument| argument == "run") {
            return all;
        }
        let limit = ("--timeout", hard(limit).as_secs().to_string());
        for (name, value) in self.switches.iter().chain([&limit]) {
            if !arguments.iter().any(|argument| argument == name) {
                all.extend([(*name).to_owned(), value.clone()]);
            }
        }
        all
    }
}

/// A run of `hypo` that has been started.
pub struct Run {
    /// Its console.
    pub session: Session,
    /// The command, as one would type it.
    pub shown: String,
    limit: Duration,
}

/// Starts `hypo` with these arguments and this standard input. `limit` is in whole seconds.
pub fn start(hypo: &Hypo, arguments: &[String], input: Input, limit: Duration) -> Result<Run> {
    start_on_line(hypo, arguments, input, limit, None)
}

/// The same, with a terminal that takes so many bytes in a second, if it is a slow one.
pub fn start_on_line(
    hypo: &Hypo,
    arguments: &[String],
    input: Input,
    limit: Duration,
    line: Option<u32>,
) -> Result<Run> {
    let mut command = Command::new(&hypo.program);
    command.args(hypo.arguments(arguments, limit));
    if let Some(cache) = &hypo.cache {
        command.env("HYPO_CACHE", cache);
    }
    let limit = limit + GRACE;
    let session =
        Session::start_on_line(&mut command, input, limit, line).context("hypo cannot be started")?;
    let mut run = Run { session, shown: show(&command), limit };
    if hypo.is_disturbed(arguments) {
        run.leave_out_complaints();
    }
    Ok(run)
}

impl Run {
    /// Leaves out what firmware that complains writes into guests' lines: a hostile guest can make it do so at any time.
    pub fn leave_out_complaints(&mut self) {
        self.session.leave_out(COMPLAINT);
    }

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

/// How often firmware has complained in an output.
pub fn complaints(output: &[u8]) -> usize {
    output.windows(COMPLAINT.len()).filter(|text| *text == COMPLAINT).count()
}

/// Runs `hypo` to its end without typing anything; the log begins with the command.
pub fn to_end(hypo: &Hypo, arguments: &[String], limit: Duration, log: &mut Vec<u8>) -> Result<i32> {
    let run = start(hypo, arguments, Input::Pipe, limit)?;
    log.extend(format!("$ {}\n", run.shown).bytes());
    run.finish(log)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_keeps_its_own_switches_and_gets_the_others() {
        let hypo = Hypo::new(Path::new("hypo"), vec![("--rewrite", "off".into()), ("--fast", "on".into())]);
        let arguments = |text: &str| {
            let words: Vec<_> = text.split(' ').map(String::from).collect();
            hypo.arguments(&words, Duration::from_secs(7)).join(" ")
        };
        assert_eq!(arguments("run linux"), "run linux --rewrite off --fast on --timeout 448");
        assert_eq!(arguments("run --fast off --timeout 5"), "run --fast off --timeout 5 --rewrite off");
        assert_eq!(arguments("doctor"), "doctor");
        assert_eq!(hypo.value(&[], "--rewrite"), Some(&"off".into()));
        assert_eq!(hypo.value(&["--rewrite".into(), "on".into()], "--rewrite"), Some(&"on".into()));
        assert_eq!(hypo.value(&[], "--firmware"), None);
        assert_eq!(hypo.limit(Duration::from_secs(7)), Duration::from_secs(21), "one of them is off");
        let slow = Hypo::new(Path::new("hypo"), Vec::new()).at_pace(1.5);
        assert_eq!(slow.limit(Duration::from_secs(8)), Duration::from_secs(12));
    }
}
