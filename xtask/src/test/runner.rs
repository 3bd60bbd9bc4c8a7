//! Runs cases side by side: a line for each with its seconds, a log file for each, the sum at the end.
//!
//! What a case does is its own business; it keeps to a time limit itself. Guests write control characters: logs and what is
//! printed have them in a readable form.

use crate::readable::readable;
use anyhow::{Context, Result};
use serde::Serialize;
use std::fs;
use std::path::Path;
use std::sync::{Mutex, mpsc};
use std::time::Instant;

/// Lines of a failed case's log that are printed.
const TAIL: usize = 40;

/// Something that passes or fails.
pub struct Case {
    /// Its name, `/`-separated from the general to the special; unique.
    pub name: String,
    /// What it shows, in one line.
    pub about: String,
    /// Whether it takes minutes, and is only run when it is asked for.
    pub long: bool,
    /// Does it.
    pub run: Run,
}

/// What a case does. What went over its console goes to the log, also when it fails. What it measured is printed with its
/// verdict.
pub type Run = Box<dyn FnOnce(&mut Vec<u8>) -> Result<String> + Send>;

/// What a case does that measures nothing.
pub fn silent(run: impl FnOnce(&mut Vec<u8>) -> Result<()> + Send + 'static) -> Run {
    Box::new(|log| run(log).map(|()| String::new()))
}

/// What one case came to.
#[derive(Serialize)]
pub struct Verdict {
    /// The case's name.
    pub name: String,
    /// Whether it passed.
    pub passed: bool,
    /// Wall-clock seconds.
    pub seconds: f32,
    /// What it measured, if it does.
    pub measured: String,
    /// Why it failed.
    pub reason: Option<String>,
}

/// Runs all cases, `jobs` at a time, in their order; logs go to files in `logs`.
pub fn run(cases: Vec<Case>, jobs: usize, logs: &Path) -> Vec<Verdict> {
    let queue = Mutex::new(cases.into_iter());
    let (sender, results) = mpsc::channel();
    let mut verdicts = Vec::new();
    std::thread::scope(|scope| {
        for _ in 0..jobs.max(1) {
            let (sender, queue) = (sender.clone(), &queue);
            scope.spawn(move || {
                while let Some(case) = next(queue) {
                    if sender.send(run_one(case)).is_err() {
                        break;
                    }
                }
            });
        }
        drop(sender);
        for (verdict, log) in results {
            println!("{}", line(&verdict));
            let path = logs.join(format!("{}.log", verdict.name.replace('/', "-")));
            let log = readable(&log);
            if let Err(error) = fs::write(&path, &log) {
                println!("  its log cannot be written to {}: {error}", path.display());
            }
            if let Some(reason) = &verdict.reason {
                println!("  {reason}\n  the end of {}:", path.display());
                for line in tail(&log) {
                    println!("  | {line}");
                }
            }
            verdicts.push(verdict);
        }
    });
    verdicts
}

/// Writes the verdicts for machines to read.
pub fn write_report(verdicts: &[Verdict], path: &Path) -> Result<()> {
    let text = serde_json::to_string_pretty(verdicts)?;
    fs::write(path, text + "\n").with_context(|| format!("cannot write {}", path.display()))
}

fn next(queue: &Mutex<impl Iterator<Item = Case>>) -> Option<Case> {
    // A poisoned lock means that a worker panicked between two cases: the rest need not run.
    queue.lock().ok()?.next()
}

/// A case that panics has failed; the others go on.
fn run_one(case: Case) -> (Verdict, Vec<u8>) {
    let start = Instant::now();
    let mut log = Vec::new();
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| (case.run)(&mut log)));
    let (measured, reason) = match result {
        Ok(Ok(measured)) => (measured, None),
        Ok(Err(error)) => (String::new(), Some(readable(format!("{error:#}").as_bytes()))),
        Err(_) => (String::new(), Some("the case itself panicked".into())),
    };
    let seconds = start.elapsed().as_secs_f32();
    (Verdict { name: case.name, passed: reason.is_none(), seconds, measured, reason }, log)
}

fn line(verdict: &Verdict) -> String {
    let word = if verdict.passed { "ok" } else { "FAILED" };
    let line = format!("{word:<7} {:<48} {:6.1} s  {}", verdict.name, verdict.seconds, verdict.measured);
    line.trim_end().to_owned()
}

fn tail(log: &str) -> impl Iterator<Item = &str> {
    log.lines().skip(log.lines().count().saturating_sub(TAIL))
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::bail;

    fn case(name: &str, run: impl FnOnce(&mut Vec<u8>) -> Result<()> + Send + 'static) -> Case {
        Case { name: name.into(), about: String::new(), long: false, run: silent(run) }
    }

    #[test]
    fn a_failure_and_a_panic_do_not_stop_the_others() {
        let logs = std::env::temp_dir().join(format!("xtask-runner-{}", std::process::id()));
        fs::create_dir_all(&logs).unwrap();
        let cases = vec![
            case("a/fails", |log| {
                log.extend(b"last \x1b[6nwords\n");
                bail!("for a reason\x1b]")
            }),
            case("b/panics", |_| panic!("on purpose")),
            case("c/passes", |_| Ok(())),
        ];
        let mut verdicts = run(cases, 2, &logs);
        verdicts.sort_by(|a, b| a.name.cmp(&b.name));
        let passed: Vec<_> = verdicts.iter().map(|verdict| verdict.passed).collect();
        assert_eq!(passed, [false, false, true]);
        assert_eq!(verdicts[0].reason.as_deref(), Some("for a reason\\x1b]"));
        assert_eq!(fs::read(logs.join("a-fails.log")).unwrap(), b"last \\x1b[6nwords\n");
        fs::remove_dir_all(&logs).unwrap();
    }

    #[test]
    fn only_the_end_of_a_long_log_is_printed() {
        let log = (0..100).map(|n| format!("line {n}\n")).collect::<String>();
        let lines: Vec<_> = tail(&log).collect();
        assert_eq!((lines.len(), lines[TAIL - 1]), (TAIL, "line 99"));
    }
}
