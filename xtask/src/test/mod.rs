//! `cargo xtask test`: host tests first, then everything that wants QEMU, two at a time.
//!
//! What is tested stands in tables: `tests/guests.toml` (our own feature guests), `tests/sessions.toml`
//! (scripted runs) and `tests/kernel-log.toml` (what Linux may log differently). Logs and `results.json` go to `test-logs` in the target directory. The last line is
//! `N passed, M failed`, and CI reads it.

mod disks;
mod guests;
mod host;
mod kernel_log;
mod outside;
mod runner;
mod sessions;
mod worlds;

use crate::launch::Hypo;
use crate::project::Project;
use anyhow::{Context, Result, bail};
use hypo::cli::OnOff;
use hypo::setup;
use runner::Case;
use std::path::Path;
use std::time::Instant;

/// What the tests start, and Debian's packages that have it.
const PROGRAMS: &[(&str, &str)] =
    &[("dtc", "device-tree-compiler"), ("riscv64-linux-gnu-objdump", "binutils-riscv64-linux-gnu")];

/// The bare-metal packages whose programs are run.
const BARE: &[&str] = &["firmware", "hypocaust", "features", "minikernel"];

/// The name of the first stage.
const HOST: &str = "host";

/// The firmware that all cases run on unless told otherwise.
const DEFAULT_FIRMWARE: &str = "default";

/// What to test.
#[derive(clap::Args)]
pub struct Options {
    /// Only cases whose name contains this
    #[arg(long, value_name = "TEXT")]
    filter: Option<String>,
    /// Also cases that take many minutes; a filter that names them runs them, too
    #[arg(long)]
    long: bool,
    /// Print the cases and do nothing
    #[arg(long)]
    list: bool,
    /// How many QEMUs run at once [default: the machine's processors, at most 4]
    #[arg(long, value_name = "N")]
    jobs: Option<usize>,
    /// Run all QEMU cases on this firmware, as `hypo run --firmware` names it; default also runs some on the others
    #[arg(long, value_name = "default|opensbi-1.6|rustsbi|FILE", default_value = DEFAULT_FIRMWARE)]
    firmware: String,
    /// Run the guests with rewritten code pages on or off: passed on to hypo
    #[arg(long, value_name = "on|off")]
    rewrite: Option<OnOff>,
    /// Run the guests with the assembly's fast path on or off: passed on to hypo
    #[arg(long, value_name = "on|off")]
    fast: Option<OnOff>,
}

impl Options {
    /// What each `hypo run` gets.
    fn switches(&self) -> Vec<(&'static str, String)> {
        let word = |switch: OnOff| if switch == OnOff::On { "on" } else { "off" };
        let given = [("--rewrite", self.rewrite), ("--fast", self.fast)];
        given.into_iter().filter_map(|(name, switch)| Some((name, word(switch?).into()))).collect()
    }
}

/// Tests; true when all passed.
pub fn run(options: &Options) -> Result<bool> {
    let project = Project::load()?;
    let wanted = |name: &str| options.filter.as_deref().is_none_or(|text| name.contains(text));
    let hypo = Hypo::new(&project.target_directory().join("debug/hypo"), options.switches());
    let firmware = options.firmware.as_str();
    let mut cases = guests::cases(&project, &hypo, firmware)?;
    cases.extend(sessions::cases(&project, &hypo, firmware)?);
    cases.extend(worlds::cases(&project, &hypo, firmware));
    cases.push(kernel_log::case(&project, &hypo, firmware)?);
    let asked = options.long || options.list || options.filter.is_some();
    cases.retain(|case| wanted(&case.name) && (asked || !case.long));
    if options.list {
        list(&cases, wanted(HOST));
        return Ok(true);
    }
    if cases.is_empty() && !wanted(HOST) {
        bail!("no case has {:?} in its name; --list prints them", options.filter.as_deref().unwrap_or(""));
    }
    let logs = project.target_directory().join("test-logs");
    std::fs::create_dir_all(&logs).with_context(|| format!("cannot create {}", logs.display()))?;

    setup::ensure_target()?;
    setup::ensure_qemu(Path::new(setup::QEMU), true)?;
    setup::ensure_programs(PROGRAMS)?;

    let mut tally = host::Tally::default();
    if wanted(HOST) {
        let start = Instant::now();
        println!("host tests");
        tally = host::run(&project, &logs.join("host.log"))?;
        let seconds = start.elapsed().as_secs_f32();
        println!("host tests: {} passed, {} failed, {seconds:.1} s", tally.passed, tally.failed);
    }
    if !cases.is_empty() {
        println!("building hypo, the hypervisor and the guests");
        project.build_hypo()?;
        project.build_bare(BARE)?;
        let verdicts = runner::run(cases, jobs(options), &logs);
        runner::write_report(&verdicts, &logs.join("results.json"))?;
        let passed = verdicts.iter().filter(|verdict| verdict.passed).count() as u64;
        tally.passed += passed;
        tally.failed += verdicts.len() as u64 - passed;
    }
    println!("{} passed, {} failed", tally.passed, tally.failed);
    Ok(tally.failed == 0)
}

/// The firmwares that a case of the tables runs on: the one that was asked for, and with the default one those that the
/// table lists. Each has the part of the case's name that tells it.
fn firmwares<'a>(asked: &'a str, listed: &'a [String]) -> Vec<(&'a str, String)> {
    let mut all = vec![(asked, String::new())];
    if asked == DEFAULT_FIRMWARE {
        all.extend(listed.iter().map(|name| (name.as_str(), format!("/{name}"))));
    }
    all
}

fn jobs(options: &Options) -> usize {
    let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    options.jobs.unwrap_or(processors.min(4))
}

fn list(cases: &[Case], host: bool) {
    if host {
        println!("{HOST:<48} unit, property and differential tests: cargo test");
    }
    for case in cases {
        println!("{:<48} {}", case.name, case.about);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listed_firmwares_come_with_the_default_one_only() {
        let listed = ["rustsbi".to_owned()];
        let both = [("default", String::new()), ("rustsbi", "/rustsbi".to_owned())];
        assert_eq!(firmwares("default", &listed), both);
        assert_eq!(firmwares("opensbi-1.6", &listed), [("opensbi-1.6", String::new())]);
    }
}
