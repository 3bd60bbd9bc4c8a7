//! Compares what Linux logs natively and as a guest: apart from the differences that the table
//! `tests/kernel-log.toml` explains, the lines are the same.

use super::differences::Differences;
use super::runner::{Case, silent};
use super::setting::Setting;
use crate::expect::Input;
use crate::launch::{self, Hypo};
use crate::project::Project;
use anyhow::{Result, anyhow, bail};
use regex::bytes;
use std::time::Duration;

/// For a boot and the printing of the log.
const LIMIT: Duration = Duration::from_secs(240);

/// The name of the one case.
const NAME: &str = "linux/kernel-log";

/// The one case.
pub fn case(project: &Project, Setting { hypo, firmware, .. }: &Setting) -> Result<Case> {
    let table = Differences::load(project, "kernel-log.toml", firmware)?;
    let hypo = hypo.clone();
    let firmware = firmware.to_owned();
    Ok(Case {
        name: NAME.into(),
        about: "the kernel logs the same as natively, but for what tests/kernel-log.toml explains".into(),
        long: false,
        run: silent(move |log| {
            let native = boot(&hypo, &["--firmware", &firmware, "--native"], log)?;
            let guest = boot(&hypo, &["--firmware", &firmware], log)?;
            // Some of the table's lines come now and then, so rows for nothing are none to complain of.
            let differences = table.compare(messages(&native), messages(&guest)).unnamed;
            if differences.is_empty() {
                return Ok(());
            }
            log.extend(differences.join("\n").bytes());
            log.push(b'\n');
            bail!("{} lines differ (-: only natively, +: only as a guest)", differences.len())
        }),
    })
}

/// Boots Linux and gives its log as the guest's own `dmesg` prints it.
fn boot(hypo: &Hypo, more: &[&str], log: &mut Vec<u8>) -> Result<String> {
    let arguments: Vec<_> = ["run", "linux"].iter().chain(more).map(|&word| word.into()).collect();
    let mut run = launch::start(hypo, &arguments, Input::Pipe, hypo.limit(LIMIT))?;
    let prompt = bytes::Regex::new("~ # ")?;
    // The echo of the command has no 42 in it.
    let whole = bytes::Regex::new(r"(?ms)^\[ +0\.0.*^end of log 42$")?;
    let session = &mut run.session;
    let result = session
        .expect(&prompt, hypo.limit(LIMIT))
        .and_then(|_| {
            // A failure to type shows as a text that does not come.
            let _ = session.send("dmesg; echo end of log $((6 * 7))\n");
            session.expect(&whole, hypo.limit(LIMIT))
        })
        .map_err(|missed| anyhow!("there is no log to compare: {missed:?}"));
    log.extend(run.session.abandon());
    result
}

/// The messages of a log. Times do not count, nor does the order, which drivers that start side by side do not keep.
fn messages(log: &str) -> impl Iterator<Item = &str> {
    log.lines().filter_map(message)
}

/// A line without its time; none where the line is not the kernel's.
fn message(line: &str) -> Option<&str> {
    let (time, message) = line.strip_prefix('[')?.split_once("] ")?;
    time.trim().parse::<f64>().is_ok().then_some(message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_have_no_times_and_are_the_kernels() {
        let log =
            "[    0.000000] Linux version 6.12\n[    0.2] serial: probed\nnot the kernel's\n[x] nor this\n";
        assert_eq!(messages(log).collect::<Vec<_>>(), ["Linux version 6.12", "serial: probed"]);
    }

    #[test]
    fn the_table_of_differences_is_well_formed() {
        let setting = Setting::plain(Hypo::new("hypo".as_ref(), Vec::new()));
        assert!(case(&Project::load().unwrap(), &setting).is_ok());
    }
}
