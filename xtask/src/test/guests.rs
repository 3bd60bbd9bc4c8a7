//! Our own feature guests, from the table `tests/guests.toml`: each runs on QEMU alone and under the
//! hypervisor, and must come to the same verdict. The native run keeps the guests' expectations honest.

use super::disks::{Disk, Disks};
use super::runner::{Case, silent};
use super::setting::Setting;
use crate::launch::{self, Hypo};
use crate::project::Project;
use anyhow::{Context, Result, anyhow, bail, ensure};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    guest: Vec<Entry>,
}

/// What switches off all that only makes guests faster.
const SLOW: &[&str] = &["--rewrite", "off", "--fast", "off"];

/// One guest of the table.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    /// The program of this name in the bare-metal target directory.
    name: String,
    description: String,
    /// Whether it also runs on QEMU alone; not where the hypervisor's own answer is the point.
    native: bool,
    /// The exit status that it must end with.
    status: i32,
    /// Seconds.
    timeout: u64,
    /// Whether it also runs with rewriting and the fast path switched off, on the first processor model.
    #[serde(default)]
    slow: bool,
    /// At every how many exits its vCPU loses its caches, for one more run each, on the first processor model.
    #[serde(default)]
    drops: Vec<u32>,
    /// The processor models to run it on; none is QEMU's own choice.
    #[serde(default)]
    cpu: Vec<String>,
    /// More firmwares to run it on, with QEMU's own choice of a processor.
    #[serde(default)]
    firmware: Vec<String>,
    /// Whether it also runs on legacy virtio transports.
    #[serde(default)]
    legacy: bool,
    /// Whether it has a network interface.
    #[serde(default)]
    net: bool,
    /// Its disks.
    #[serde(default)]
    disks: Vec<Disk>,
    /// How many complaints of the firmware's its output may have as a guest, where it matters.
    complaints: Option<usize>,
}

/// A guest on one processor model and firmware, ready to run.
struct Guest {
    hypo: Hypo,
    arguments: Vec<String>,
    disks: Vec<Disk>,
    status: i32,
    complaints: Option<usize>,
    limit: Duration,
    /// What the native run came to; made by whoever asks first, so that it happens once.
    native: OnceLock<Result<Verdict, String>>,
}

/// What a guest said of itself.
#[derive(Debug, PartialEq, Eq)]
struct Verdict {
    /// Each check's name and whether it held.
    checks: BTreeMap<String, bool>,
}

/// The table's cases.
pub fn cases(project: &Project, setting: &Setting) -> Result<Vec<Case>> {
    let Setting { hypo, firmware, .. } = setting;
    let path = project.root().join("tests/guests.toml");
    let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let table: Table = toml::from_str(&text).with_context(|| format!("in {}", path.display()))?;
    let mut cases = Vec::new();
    for entry in &table.guest {
        let kernel = project.bare_program(&entry.name).display().to_string();
        let net: &[&str] = if entry.net { &["--net", "user"] } else { &[] };
        let arguments = |more: &[&str]| {
            ["run", "--kernel", &kernel].iter().chain(net).chain(more).map(|&word| word.into()).collect()
        };
        if entry.legacy {
            let name = format!("{}/legacy", entry.name);
            let legacy = arguments(&["--firmware", firmware, "--virtio", "legacy"]);
            add(&mut cases, entry, &name, legacy, false, hypo);
        }
        for (firmware, suffix) in setting.firmwares(&entry.firmware) {
            if entry.cpu.is_empty() || !suffix.is_empty() {
                let name = format!("{}{suffix}", entry.name);
                let is_first = suffix.is_empty();
                add(&mut cases, entry, &name, arguments(&["--firmware", firmware]), is_first, hypo);
            }
        }
        for (n, cpu) in entry.cpu.iter().enumerate() {
            let name = format!("{}/{cpu}", entry.name);
            add(&mut cases, entry, &name, arguments(&["--cpu", cpu, "--firmware", firmware]), n == 0, hypo);
        }
    }
    Ok(cases)
}

/// Adds the cases of a guest on one machine; on its first one, also the other ways of running it that are wanted.
fn add(
    cases: &mut Vec<Case>,
    entry: &Entry,
    name: &str,
    arguments: Vec<String>,
    is_first: bool,
    hypo: &Hypo,
) {
    let guest = Arc::new(Guest {
        hypo: hypo.clone(),
        arguments,
        disks: entry.disks.clone(),
        status: entry.status,
        complaints: entry.complaints,
        limit: hypo.limit(Duration::from_secs(entry.timeout)),
        native: OnceLock::new(),
    });
    let about = &entry.description;
    if entry.native {
        let guest = Arc::clone(&guest);
        cases.push(Case {
            name: format!("guests/{name}/native"),
            about: about.clone(),
            long: false,
            run: silent(move |log| {
                guest.natively(log).as_ref().map(drop).map_err(|error| anyhow!("{error}"))
            }),
        });
    }
    let compare = entry.native;
    let words = |words: &[&str]| words.iter().map(|&word| word.into()).collect::<Vec<String>>();
    let mut ways = vec![("guest".to_owned(), Vec::new())];
    if is_first && entry.slow {
        ways.push(("slow".into(), words(SLOW)));
    }
    for every in entry.drops.iter().filter(|_| is_first).map(u32::to_string) {
        ways.push((format!("drop-{every}"), words(&["--drop-caches-every", &every])));
    }
    for (way, switches) in ways {
        let guest = Arc::clone(&guest);
        cases.push(Case {
            name: format!("guests/{name}/{way}"),
            about: about.clone(),
            long: false,
            run: silent(move |log| {
                let switches: Vec<_> = switches.iter().map(String::as_str).collect();
                let verdict = guest.run(&switches, log)?;
                if !compare {
                    return Ok(());
                }
                match guest.natively(&mut Vec::new()) {
                    Ok(native) => verdict.same_as(native),
                    Err(error) => bail!("there is no native verdict to compare with: {error}"),
                }
            }),
        });
    }
}

const NATIVE: &str = "--native";

impl Guest {
    /// The native run's verdict. The log gets the console only where this is the call that ran it.
    fn natively(&self, log: &mut Vec<u8>) -> &Result<Verdict, String> {
        self.native.get_or_init(|| self.run(&[NATIVE], log).map_err(|error| format!("{error:#}")))
    }

    /// Runs it and checks its status and its own verdict.
    fn run(&self, more: &[&str], log: &mut Vec<u8>) -> Result<Verdict> {
        let mut arguments = self.arguments.clone();
        arguments.extend(more.iter().map(|word| (*word).to_owned()));
        let disks = Disks::new(&self.disks)?;
        arguments.extend(disks.arguments());
        let status = launch::to_end(&self.hypo, &arguments, self.limit, log)?;
        disks.check()?;
        let verdict = Verdict::read(&String::from_utf8_lossy(log));
        ensure!(status == self.status, "exit status {status}, not {}", self.status);
        if status == 0 {
            let failed: Vec<_> = verdict.failed().collect();
            ensure!(failed.is_empty(), "status 0 although these failed: {}", failed.join(", "));
            ensure!(!verdict.checks.is_empty(), "status 0 without a single check");
        }
        if let Some(most) = self.complaints
            && !more.contains(&NATIVE)
        {
            let complaints = launch::complaints(log);
            ensure!(complaints <= most, "the firmware complains {complaints} times, {most} are allowed");
        }
        Ok(verdict)
    }
}

impl Verdict {
    /// Reads the lines `ok NAME` and `FAILED NAME: got ...`.
    fn read(text: &str) -> Verdict {
        let check = |line: &str| {
            if let Some(name) = line.strip_prefix("ok ") {
                return Some((name.trim().to_owned(), true));
            }
            let rest = line.strip_prefix("FAILED ")?;
            Some((rest.split(": got ").next()?.trim().to_owned(), false))
        };
        let mut checks = BTreeMap::new();
        for (name, held) in text.lines().filter_map(check) {
            // A check that is made several times has held when it always did.
            *checks.entry(name).or_insert(true) &= held;
        }
        Verdict { checks }
    }

    fn failed(&self) -> impl Iterator<Item = &str> {
        self.checks.iter().filter(|&(_, &held)| !held).map(|(name, _)| name.as_str())
    }

    /// Compares the checks that both sides made: a guest leaves out those of a feature that it probed for
    /// and did not find.
    fn same_as(&self, native: &Verdict) -> Result<()> {
        let mut common = 0;
        for (name, held) in &self.checks {
            if let Some(natively) = native.checks.get(name) {
                common += 1;
                ensure!(held == natively, "{name}: natively {natively}, as a guest {held}");
            }
        }
        ensure!(common > 0, "the native run made none of these checks");
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_check_counts_as_failed_when_it_failed_once() {
        let verdict = Verdict::read("ok sret clears SPP\nFAILED sip: got 2 want 0\nok sip\nhello ok\n");
        assert_eq!(verdict.checks.len(), 2);
        assert_eq!(verdict.failed().collect::<Vec<_>>(), ["sip"]);
    }

    #[test]
    fn verdicts_differ_where_a_common_check_does() {
        let native = Verdict::read("ok a\nok b\n");
        assert!(Verdict::read("ok a\nok c\n").same_as(&native).is_ok());
        let error = Verdict::read("ok a\nFAILED b: got 1 want 2\n").same_as(&native).unwrap_err();
        assert!(error.to_string().starts_with("b:"), "{error}");
        assert!(Verdict::read("ok c\n").same_as(&native).is_err(), "nothing in common");
    }

    #[test]
    fn a_guest_that_says_nothing_has_not_passed() {
        // sh stands in for hypo.
        let guest = |script: &str| Guest {
            hypo: Hypo::new("sh".as_ref(), Vec::new()),
            arguments: vec!["-c".into(), script.into()],
            disks: Vec::new(),
            status: 0,
            complaints: Some(1),
            limit: Duration::from_secs(20),
            native: OnceLock::new(),
        };
        assert!(guest("echo ok a").run(&[], &mut Vec::new()).is_ok());
        assert!(guest("true").run(&[], &mut Vec::new()).is_err());
        assert!(guest("echo ok a; exit 33").run(&[], &mut Vec::new()).is_err());
        // In two parts, for the log shows the command, too.
        let complaint = "'system_opcode_insn: Invalid opcode for'' CSR read/write instruction'";
        assert!(guest(&format!("echo {complaint}; echo ok a")).run(&[], &mut Vec::new()).is_ok());
        let twice = guest(&format!("echo {complaint}{complaint}; echo ok a")).run(&[], &mut Vec::new());
        assert!(twice.is_err_and(|error| error.to_string().contains("complains 2 times")));
    }
}
