//! What safe code cannot make the assembly do must not compile, for the target on which the assembly runs.
//!
//! The crate `tests/sealed` has a feature for each attempt. It compiles without any, with the honest way to the same end;
//! with one, it must not, and for the reason that its source names: `//! NAME: REASON` at its top.

use std::process::Stdio;

use crate::project::Project;
use anyhow::{Context, Result, bail};
use hypo_common::build::TARGET;

/// Fails with a line for each attempt that compiles, or that is refused for another reason.
pub fn check(project: &Project) -> Result<()> {
    let path = project.root().join("tests/sealed/src/lib.rs");
    let source = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    if let Some(error) = refusal(project, None)? {
        bail!("the honest ways do not compile:\n{error}");
    }
    let attempts = attempts(&source);
    if attempts.is_empty() {
        bail!("{} names no attempt", path.display());
    }
    let mut wrong = Vec::new();
    for (name, reason) in attempts {
        match refusal(project, Some(name))? {
            None => wrong.push(format!("{name} compiles, and must not")),
            Some(error) if !is_refused_for(&error, reason) => {
                wrong.push(format!("{name} is refused, but not by {reason} alone:\n{error}"));
            }
            Some(_) => {}
        }
    }
    if wrong.is_empty() { Ok(()) } else { bail!("{}", wrong.join("\n")) }
}

/// The attempts that the source names, and what each is refused by.
fn attempts(source: &str) -> Vec<(&str, &str)> {
    let lines = source.lines().map_while(|line| line.strip_prefix("//!"));
    lines.filter_map(|line| line.trim().strip_prefix("- ")?.split_once(": ")).collect()
}

/// What the compiler says, if it refuses the crate with this feature.
fn refusal(project: &Project, feature: Option<&str>) -> Result<Option<String>> {
    let mut command = project.cargo(&["check", "--quiet", "--message-format", "short", "--target", TARGET]);
    command.args(["--package", "sealed"]);
    if let Some(feature) = feature {
        command.args(["--features", feature]);
    }
    let output = command.stdout(Stdio::null()).output().context("cargo check cannot be started")?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    Ok(if output.status.success() { None } else { Some(said) })
}

/// Whether each error is this one.
fn is_refused_for(said: &str, reason: &str) -> bool {
    let mut errors =
        said.lines().filter(|line| line.contains(": error") && !line.starts_with("error")).peekable();
    errors.peek().is_some() && errors.all(|line| line.contains(reason))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attempts_are_named_at_the_top() {
        let source = "//! Head.\n//!\n//! - a-b: E0616\n//! - c: usage of an `unsafe` block\n\n//! - d: E1\n";
        assert_eq!(attempts(source), [("a-b", "E0616"), ("c", "usage of an `unsafe` block")]);
    }

    #[test]
    fn every_error_counts() {
        let one = "src/lib.rs:1:1: error[E0616]: private\nerror: could not compile `sealed` (lib)\n";
        assert!(is_refused_for(one, "E0616") && !is_refused_for(one, "E0133"));
        assert!(!is_refused_for(&format!("{one}src/lib.rs:2:1: error[E0433]: no such thing\n"), "E0616"));
        assert!(!is_refused_for("error: no such package\n", "E0616"));
    }
}
