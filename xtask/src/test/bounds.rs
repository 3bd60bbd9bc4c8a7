//! What must not become dear unnoticed between two runs of the benchmark: a kernel whose constants lie beside its code. The
//! benchmark's guest, told to measure nothing else, under counted instructions; the bounds are the benchmark's.

use super::runner::Case;
use crate::bench::limits;
use crate::bench::lines::Output;
use crate::launch::{self, Hypo};
use crate::project::Project;
use anyhow::{Result, ensure};
use std::time::Duration;

/// What is measured.
const ITEMS: [&str; 3] = ["code-read-much", "code-read-little", "code-read-again"];

const LIMIT: Duration = Duration::from_secs(30);

/// The case; none where a part is switched off that makes guests faster, for the bounds are for all of them.
pub fn case(project: &Project, hypo: &Hypo, firmware: &str) -> Option<Case> {
    let is_off = |name: &str| hypo.value(&[], name).is_some_and(|value| value == "off");
    if is_off("--rewrite") || is_off("--fast") {
        return None;
    }
    let kernel = project.bare_program("bench").display().to_string();
    let arguments =
        ["run", "--kernel", &kernel, "--append", "bench=code-read", "--icount", "--firmware", firmware];
    let (arguments, hypo) = (arguments.map(String::from), hypo.clone());
    Some(Case {
        name: "bounds/code-read".into(),
        about: "constants beside privileged instructions cost no more than the benchmark's bounds".into(),
        long: false,
        run: Box::new(move |log| {
            let status = launch::to_end(&hypo, &arguments, hypo.limit(LIMIT), log)?;
            ensure!(status == 0, "exit status {status}");
            check(&Output::read(&String::from_utf8_lossy(log)))
        }),
    })
}

/// All items are there and within their bounds; what they come to.
fn check(guest: &Output) -> Result<String> {
    let mut measured = Vec::new();
    for name in ITEMS {
        let figure = guest.item(name);
        ensure!(figure.is_some() && limits::has(name), "{name} was not measured, or has no bound");
        measured.extend(figure.map(|figure| format!("{name} {figure:.0}")));
    }
    let exceeded = limits::exceeded(None, guest);
    ensure!(exceeded.is_empty(), "out of bounds: {}", exceeded.join("; "));
    Ok(measured.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_or_too_dear_fails() {
        let text = ITEMS.map(|name| format!("bench {name} 100 1000\n")).concat();
        let check = |text: &str| check(&Output::read(text));
        assert!(check(&text).is_ok());
        assert!(check(&text.replace("little 100 1000", "little 100 99000")).is_err());
        assert!(check(&text.replace("again", "once")).is_err());
    }
}
