//! Everything that a kernel can try of a machine, natively and here: the guest `sweep` prints it line by line, and each
//! line that differs has to be in the table `tests/sweep.toml`, in which nothing else may be.

use super::differences::Differences;
use super::runner::{Case, silent};
use super::setting::{DEFAULT_FIRMWARE, Setting};
use crate::launch::{self, Hypo};
use crate::project::Project;
use anyhow::{Context, Result, bail, ensure};
use std::path::Path;
use std::time::Duration;

/// For one run.
const LIMIT: Duration = Duration::from_secs(120);
/// The first line but for the firmware's version, and the last one.
const BEGINS: &str = "sweep begins on firmware ";
const ENDS: &str = "sweep ends";
/// The firmware that guests are measured by, as the SBI gives its version: OpenSBI 1.1, which comes with QEMU 7.2.
const MEASURE: &str = "0x10001";

/// The one case; none on other firmwares than QEMU's own, which differ in other things.
pub fn case(project: &Project, Setting { hypo, firmware, .. }: &Setting) -> Result<Option<Case>> {
    if firmware != DEFAULT_FIRMWARE {
        return Ok(None);
    }
    let table = Differences::load(project, "sweep.toml", firmware)?;
    let kernel = project.bare_program("sweep");
    let hypo = hypo.clone();
    Ok(Some(Case {
        name: "sweep".into(),
        about: "all CSRs, addresses and SBI functions as natively, but for what tests/sweep.toml explains"
            .into(),
        long: false,
        run: silent(move |log| {
            let native = run(&hypo, &kernel, &["--native"], log)?;
            let native = lines(&native)?;
            if native.first() != Some(&MEASURE) {
                log.extend(b"not compared: QEMU's own firmware is another one here\n");
                return Ok(());
            }
            let guest = run(&hypo, &kernel, &[], log)?;
            let found = table.compare(native.into_iter().skip(1), lines(&guest)?.into_iter().skip(1));
            let lines = found.unnamed.iter().chain(&found.idle);
            lines.for_each(|line| log.extend(format!("{line}\n").bytes()));
            if found == Default::default() {
                return Ok(());
            }
            bail!(
                "{} lines differ (-: only natively, +: only as a guest), {} rows of the table are not needed",
                found.unnamed.len(),
                found.idle.len()
            )
        }),
    }))
}

/// Runs the guest to its end; gives what it printed.
fn run(hypo: &Hypo, kernel: &Path, more: &[&str], log: &mut Vec<u8>) -> Result<String> {
    let kernel = kernel.display().to_string();
    let arguments: Vec<_> =
        ["run", "--kernel", &kernel].iter().chain(more).map(|&word| word.into()).collect();
    let before = log.len();
    let status = launch::to_end(hypo, &arguments, hypo.limit(LIMIT), log)?;
    ensure!(status == 0, "exit status {status}");
    Ok(String::from_utf8_lossy(log.get(before..).unwrap_or_default()).into_owned())
}

/// The lines of a whole sweep; the first one is the firmware's version.
fn lines(text: &str) -> Result<Vec<&str>> {
    let text = text.split_once(BEGINS).and_then(|(_, rest)| rest.split_once(ENDS));
    let (text, _) = text.context("the sweep has no beginning or no end")?;
    Ok(text.lines().map(str::trim).filter(|line| !line.is_empty()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sweep_is_read_from_its_beginning_to_its_end() {
        let text = "OpenSBI\r\nsweep begins on firmware 0x10001\r\ncsr 0x1\r\n\r\nmap\r\nsweep ends\r\n";
        assert_eq!(lines(text).unwrap(), ["0x10001", "csr 0x1", "map"]);
        assert!(lines("sweep begins on firmware 0x10001\r\ncsr 0x1").is_err());
        assert!(lines("").is_err());
    }

    #[test]
    fn the_table_of_differences_is_well_formed() {
        let setting = Setting::plain(Hypo::new("hypo".as_ref(), Vec::new()));
        assert!(case(&Project::load().unwrap(), &setting).unwrap().is_some());
        let other = Setting { firmware: "rustsbi".into(), ..setting };
        assert!(case(&Project::load().unwrap(), &other).unwrap().is_none());
    }
}
