//! `cargo xtask test`: host tests first, then everything that wants QEMU, two at a time.
//!
//! What is tested stands in tables: `tests/guests.toml` (our own feature guests), `tests/sessions.toml`
//! (scripted runs), `tests/kernel-log.toml` (what Linux may log differently) and `tests/sweep.toml` (what registers,
//! addresses and calls may). Logs and `results.json` go to `test-logs` in the target directory. The last line is
//! `N passed, M failed`, and CI reads it.

mod assembly;
mod attacks;
mod bounds;
mod differences;
mod disks;
mod fuzz;
mod guests;
mod host;
mod inputs;
mod kernel_log;
mod nested;
mod outside;
mod own_fault;
mod randomness;
mod runner;
mod sessions;
mod setting;
mod sweep;
mod terminals;
mod worlds;

use crate::launch::Hypo;
use crate::pace;
use crate::project::Project;
use anyhow::{Context, Result, bail};
use hypo::cli::OnOff;
use hypo_common::setup;
use runner::Case;
use setting::{DEFAULT_FIRMWARE, Setting};
use std::path::Path;
use std::time::Instant;

/// What the tests start, and Debian's packages that have it.
const PROGRAMS: &[(&str, &str)] =
    &[("dtc", "device-tree-compiler"), ("riscv64-linux-gnu-objdump", "binutils-riscv64-linux-gnu")];

/// The bare-metal packages whose programs are run.
const BARE: &[&str] = &["firmware", "hypocaust", "features", "minikernel", "bench"];

/// The name of the first stage.
const HOST: &str = "host";

/// All firmwares that `hypo run --firmware` knows by a name.
const FIRMWARES: &[&str] = &[DEFAULT_FIRMWARE, "opensbi-1.6", "rustsbi"];

/// What to test.
#[derive(clap::Args)]
pub struct Options {
    /// Only cases whose name contains this
    #[arg(long, value_name = "TEXT")]
    filter: Option<String>,
    /// Also cases that take long; a filter that names them runs them, too
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
    /// Run all of it on all firmwares, as it is, without rewritten code pages, and without the fast path; takes hours
    #[arg(long, conflicts_with_all = ["firmware", "rewrite", "fast"])]
    matrix: bool,
}

impl Options {
    /// What each `hypo run` gets.
    fn switches(&self) -> Vec<Switch> {
        let word = |switch: OnOff| if switch == OnOff::On { "on" } else { "off" };
        let given = [("--rewrite", self.rewrite), ("--fast", self.fast)];
        given.into_iter().filter_map(|(name, switch)| Some((name, word(switch?).into()))).collect()
    }

    /// The settings in which the cases are run.
    fn settings(&self, program: &Path, pace: f64) -> Vec<Setting> {
        if self.matrix {
            return matrix(program, pace);
        }
        let hypo = Hypo::new(program, self.switches()).at_pace(pace);
        vec![Setting { firmware: self.firmware.clone(), ..Setting::plain(hypo) }]
    }
}

/// An option of `hypo run` and its value.
type Switch = (&'static str, String);

impl Setting {
    /// All cases of the tables in this setting.
    fn cases(&self, project: &Project) -> Result<Vec<Case>> {
        let mut cases = guests::cases(project, self)?;
        cases.extend(sessions::cases(project, self)?);
        let mut others = worlds::cases(project, &self.hypo, &self.firmware);
        others.extend(terminals::cases(project, &self.hypo, &self.firmware));
        others.extend(attacks::cases(project, &self.hypo, &self.firmware));
        others.extend(inputs::cases(project, &self.hypo, &self.firmware));
        others.extend(nested::cases(project, &self.hypo, &self.firmware));
        others.extend(fuzz::cases(project, &self.hypo, &self.firmware));
        others.extend(sweep::case(project, self)?);
        others.push(kernel_log::case(project, self)?);
        others.extend(randomness::case(project, &self.hypo, &self.firmware));
        others.extend(own_fault::cases(project, &self.hypo, &self.firmware));
        others.extend(bounds::case(project, &self.hypo, &self.firmware));
        cases.extend(sessions::usable(project, others, self)?);
        cases.retain(|case| self.native || !case.name.ends_with("/native"));
        cases.iter_mut().for_each(|case| case.name.insert_str(0, &self.prefix));
        Ok(cases)
    }
}

/// Each firmware with nothing switched off, and with each part that only makes guests faster.
/// Without the fast path each exit is Rust's from the start: a guest that sees a difference shows that *bail-first* is broken.
fn matrix(program: &Path, pace: f64) -> Vec<Setting> {
    let mut settings = Vec::new();
    for firmware in FIRMWARES {
        for switch in [None, Some("rewrite"), Some("fast")] {
            let option = match switch {
                Some("rewrite") => vec![("--rewrite", "off".to_owned())],
                Some(_) => vec![("--fast", "off".to_owned())],
                None => Vec::new(),
            };
            let part = switch.map_or_else(|| "all".to_owned(), |part| format!("no-{part}"));
            settings.push(Setting {
                hypo: Hypo::new(program, option).at_pace(pace),
                firmware: (*firmware).into(),
                listed: false,
                native: switch.is_none(),
                prefix: format!("{firmware}/{part}/"),
            });
        }
    }
    settings
}

/// Tests; true when all passed.
pub fn run(options: &Options) -> Result<bool> {
    let project = Project::load()?;
    let wanted = |name: &str| options.filter.as_deref().is_none_or(|text| name.contains(text));
    let mut cases = vec![assembly::case(&project)];
    let pace = pace::measure();
    for setting in options.settings(&project.target_directory().join("debug/hypo"), pace) {
        cases.extend(setting.cases(&project)?);
    }
    // A filter that names them asks for them, but for the many of a matrix.
    let asked = options.long || options.list || options.filter.is_some() && !options.matrix;
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
        println!("time limits: {pace:.1} times those of the tables; waiting for a processor does not count");
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

fn jobs(options: &Options) -> usize {
    let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    options.jobs.unwrap_or(processors.min(4))
}

fn list(cases: &[Case], host: bool) {
    if host {
        println!("{HOST:<48} unit, property and differential tests: cargo test; comparisons with QEMU");
    }
    for case in cases {
        println!("{:<48} {}", case.name, case.about);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_matrix_has_each_case_in_each_setting_by_a_name_of_its_own() {
        let project = Project::load().unwrap();
        let settings = matrix("hypo".as_ref(), 1.0);
        assert_eq!(settings.len(), 9);
        let cases = settings.iter().flat_map(|setting| setting.cases(&project).unwrap());
        let names: Vec<_> = cases.map(|case| case.name).collect();
        let unique: std::collections::BTreeSet<_> = names.iter().collect();
        assert_eq!(unique.len(), names.len());
        assert_eq!(names.iter().filter(|name| name.ends_with("/guests/csr/rv64/guest")).count(), 9);
        assert_eq!(names.iter().filter(|name| name.ends_with("/linux/guest")).count(), 8);
        assert_eq!(names.iter().filter(|name| name.ends_with("/linux/native")).count(), 3);
        assert!(names.contains(&"rustsbi/no-fast/minikernel/guest".to_owned()));
    }
}
