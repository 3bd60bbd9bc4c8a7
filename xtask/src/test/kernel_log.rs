//! Compares what Linux logs natively and as a guest: apart from the differences that the table
//! `tests/kernel-log.toml` explains, the lines are the same.

use super::Setting;
use super::runner::Case;
use crate::launch::{self, Hypo};
use crate::project::Project;
use anyhow::{Context, Result, anyhow, bail};
use regex::{Regex, bytes};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::time::Duration;

/// For a boot and the printing of the log.
const LIMIT: Duration = Duration::from_secs(240);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    difference: Vec<Entry>,
}

/// Lines that may differ.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    /// What such a line contains.
    line: String,
    /// The firmware on which it may differ, if it is not all of them.
    firmware: Option<String>,
    /// Why it may differ.
    #[expect(dead_code, reason = "for the reader of the table")]
    why: String,
}

/// The name of the one case.
const NAME: &str = "linux/kernel-log";

/// The one case.
pub fn case(project: &Project, Setting { hypo, firmware, .. }: &Setting) -> Result<Case> {
    let path = project.root().join("tests/kernel-log.toml");
    let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let table: Table = toml::from_str(&text).with_context(|| format!("in {}", path.display()))?;
    let here = |entry: &&Entry| entry.firmware.as_ref().is_none_or(|only| only == firmware);
    let patterns = table.difference.iter().filter(here).map(|entry| Regex::new(&entry.line));
    let patterns: Vec<_> =
        patterns.collect::<Result<_, _>>().with_context(|| format!("in {}", path.display()))?;
    let hypo = hypo.clone();
    let firmware = firmware.to_owned();
    Ok(Case {
        name: NAME.into(),
        about: "the kernel logs the same as natively, but for what tests/kernel-log.toml explains".into(),
        long: false,
        run: Box::new(move |log| {
            let native = boot(&hypo, &["--firmware", &firmware, "--native"], log)?;
            let guest = boot(&hypo, &["--firmware", &firmware], log)?;
            let differences = compare(&native, &guest, &patterns);
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
    let mut run = launch::start(hypo, &arguments, hypo.limit(LIMIT))?;
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

/// The lines that are only in one of the logs, without those that may differ. Times do not count, nor does
/// the order, which drivers that start side by side do not keep.
fn compare(native: &str, guest: &str, may_differ: &[Regex]) -> Vec<String> {
    let mut lines: BTreeMap<&str, i32> = BTreeMap::new();
    for (text, weight) in [(native, -1), (guest, 1)] {
        let messages = text.lines().filter_map(message);
        for line in messages.filter(|line| !may_differ.iter().any(|pattern| pattern.is_match(line))) {
            *lines.entry(line).or_default() += weight;
        }
    }
    let different = lines.iter().filter(|&(_, &weight)| weight != 0);
    different.map(|(line, &weight)| format!("{} {line}", if weight < 0 { '-' } else { '+' })).collect()
}

/// A line without its time; none where the line is not the kernel's.
fn message(line: &str) -> Option<&str> {
    let (time, message) = line.strip_prefix('[')?.split_once("] ")?;
    time.trim().parse::<f64>().is_ok().then_some(message)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NATIVE: &str = "\
        [    0.000000] Linux version 6.12\n\
        [    0.100000] SBI implementation ID=0x1\n\
        [    0.200000] serial: probed\n\
        not the kernel's\n";

    #[test]
    fn times_order_and_explained_lines_do_not_count() {
        let guest = "\
            [    0.000000] Linux version 6.12\n\
            [    0.900000] serial: probed\n\
            [    0.950000] SBI implementation ID=0x7\n";
        assert_eq!(compare(NATIVE, guest, &[Regex::new("^SBI impl").unwrap()]), [""; 0]);
    }

    #[test]
    fn a_line_on_one_side_is_a_difference() {
        let guest = "[    0.000000] Linux version 6.12\n[    0.100000] SBI implementation ID=0x7\n";
        assert_eq!(
            compare(NATIVE, guest, &[]),
            ["- SBI implementation ID=0x1", "+ SBI implementation ID=0x7", "- serial: probed"]
        );
    }

    #[test]
    fn the_table_of_differences_is_well_formed() {
        let setting = Setting::plain(Hypo::new("hypo".as_ref(), Vec::new()));
        assert!(case(&Project::load().unwrap(), &setting).is_ok());
    }
}
