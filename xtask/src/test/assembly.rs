//! The long run of the tests of the assembly, in `crates/hart/assembly`. `cargo test` plays some thousands of cases.

use super::runner::Case;
use crate::project::Project;
use anyhow::{Context, Result, ensure};
use std::process::{Command, Stdio};

/// The test that plays them all.
const TEST: &str = "in_ten_million_cases_the_assembly_does_what_rust_does_or_changes_nothing";
/// What it says of how many it has played.
const SUMMARY: &str = " cases in ";

/// The case. It needs no QEMU, so it is the same in all settings.
pub fn case(project: &Project) -> Case {
    let arguments = ["test", "--quiet", "--package", "assembly", "--", "--exact", TEST];
    let mut command = project.cargo(&arguments);
    command.args(["--ignored", "--nocapture"]);
    Case {
        name: "assembly/exits".into(),
        about:
            "in ten million random exits the assembly does what Rust does, or leaves them to Rust unchanged"
                .into(),
        long: true,
        run: Box::new(move |log| run(command, log)),
    }
}

/// Plays the cases; gives how many there were, and how long it took.
fn run(mut command: Command, log: &mut Vec<u8>) -> Result<String> {
    let output = command.stdin(Stdio::null()).output().context("cargo test cannot be started")?;
    log.extend_from_slice(&output.stdout);
    log.extend_from_slice(&output.stderr);
    ensure!(output.status.success(), "cargo test ended with {}", output.status);
    let said = String::from_utf8_lossy(&output.stdout);
    let summary = said.lines().find(|line| line.contains(SUMMARY)).context("it has played nothing")?;
    Ok(summary.to_owned())
}
