//! The tests that need no guest: unit, property and differential tests, as plain `cargo test` runs them, and those that it
//! leaves out for want of QEMU.

use crate::project::{Project, show};
use crate::readable::readable;
use anyhow::{Context, Result};
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};

/// How many tests passed and failed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Tests that passed.
    pub passed: u64,
    /// Tests that failed.
    pub failed: u64,
}

/// Bare-metal packages whose libraries hold pure logic, with tests that run here.
const LIBRARIES: &[&str] = &["firmware", "minikernel"];

/// Tests that start QEMU: those that compare with its own devices, and those of what runs leave behind.
const WITH_QEMU: [&[&str]; 2] = [
    &["--package", "devices", "--features", "qemu", "--test", "against_qemu"],
    &["--package", "hypo", "--features", "qemu", "--test", "terminal"],
];

/// The packages that have tests, in modules of the name `races`, which explore all interleavings of what harts do at one time.
const LOOM: &[&str] = &["memory", "rewrite", "vmm"];

/// Runs the host crates' tests, those of bare-metal packages' libraries, those that need QEMU, and those that explore
/// interleavings. Prints what is not a plain `ok`, keeps all of it in the log.
pub fn run(project: &Project, log: &Path) -> Result<Tally> {
    let mut log = File::create(log).with_context(|| format!("cannot write {}", log.display()))?;
    let mut tally = Tally::default();
    let libraries: Vec<_> = LIBRARIES.iter().flat_map(|name| ["--package", name]).collect();
    let libraries = [&["--lib"], libraries.as_slice()].concat();
    let format = ["--no-fail-fast", "--", "--format=pretty"];
    for tests in [&[], libraries.as_slice()].into_iter().chain(WITH_QEMU) {
        let mut command = project.cargo(&[&["test", "--quiet"], tests, &format].concat());
        run_one(&mut command, &mut log, &mut tally)?;
    }
    for package in LOOM {
        let mut command = races(project, package);
        let before = tally;
        run_one(&mut command, &mut log, &mut tally)?;
        if tally == before {
            println!("  `{}` has run no test", show(&command));
            tally.failed += 1;
        }
    }
    Ok(tally)
}

/// Explores the interleavings of a package. With a target directory of its own: with other flags everything is built anew.
fn races(project: &Project, package: &str) -> Command {
    let mut command = project.cargo(&[
        "test",
        "--quiet",
        "--release",
        "--package",
        package,
        "--lib",
        "races",
        "--no-fail-fast",
    ]);
    command.env("RUSTFLAGS", "--cfg loom").env("CARGO_TARGET_DIR", project.target_directory().join("loom"));
    command
}

fn run_one(command: &mut Command, log: &mut File, tally: &mut Tally) -> Result<()> {
    let before = tally.failed;
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
    let stdout = child.stdout.take().context("cargo test has no output")?;
    for line in BufReader::new(stdout).split(b'\n') {
        let line = readable(&line.context("cargo test's output cannot be read")?);
        writeln!(log, "{line}")?;
        tally.add(&line);
        if is_of_interest(&line) {
            println!("  {line}");
        }
    }
    // A crate that does not compile fails without a line of its own.
    if !child.wait()?.success() && tally.failed == before {
        tally.failed += 1;
    }
    Ok(())
}

impl Tally {
    /// Adds what a line of the kind `test result: ok. 15 passed; 0 failed; ...` says.
    fn add(&mut self, line: &str) {
        if !line.starts_with("test result:") {
            return;
        }
        self.passed += number_before(line, " passed");
        self.failed += number_before(line, " failed");
    }
}

fn number_before(line: &str, word: &str) -> u64 {
    let before = line.split(word).next().unwrap_or_default();
    before.rsplit(' ').next().and_then(|number| number.parse().ok()).unwrap_or(0)
}

fn is_of_interest(line: &str) -> bool {
    let plain = line.is_empty()
        || line.starts_with("running ")
        || line.starts_with("test result: ok")
        || (line.starts_with("test ") && (line.ends_with(" ok") || line.ends_with(" ignored")));
    !plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_of_several_programs_add_up() {
        let mut tally = Tally::default();
        tally.add("test result: ok. 15 passed; 0 failed; 2 ignored; 0 measured; finished in 0.31s");
        tally.add("test a_thing ... ok");
        tally.add("test result: FAILED. 3 passed; 4 failed; 0 ignored; 0 measured; finished in 0.31s");
        assert_eq!(tally, Tally { passed: 18, failed: 4 });
    }

    #[test]
    fn a_failing_test_is_shown_and_a_passing_one_is_not() {
        assert!(is_of_interest("test a::b ... FAILED"));
        assert!(is_of_interest("skipped: no objdump for RISC-V"));
        assert!(!is_of_interest("test a::b ... ok"));
        assert!(is_of_interest("test a::b ... ignored, a reason"));
    }
}
