//! A guest that is against everything, beside a healthy one: `guests/features`' `fuzz` and `sibling`. The invariants of the
//! shadow tables are scanned all the time. The hypervisor must not panic and must come to its end in time, and neither guest
//! may see anything of the other's; what the hostile one does itself is between it and its devices.

use super::runner::{Case, silent};
use super::worlds::{in_one_line, lines};
use crate::expect::Input;
use crate::launch::{self, Hypo};
use crate::project::Project;
use anyhow::{Context, Result, bail, ensure};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Seeds, from 1 on; and those that run without being asked for.
const SEEDS: u64 = 20;
const DEFAULT_SEEDS: u64 = 4;

/// How long guests live, in milliseconds of the clock: for `INSTRUCTIONS`, with something to spare.
const UNTIL: u64 = 8000;
/// What the hostile guest has to execute itself.
const INSTRUCTIONS: u64 = 100_000_000;
/// The most instructions of an exit that the assembly serves.
const FAST_EXIT: u64 = 100;
/// The most instructions that enter the guest and leave it.
const SWITCH: u64 = 200;

/// Exits between two scans of the shadow tables. A scan takes some milliseconds, in which both guests stand still: no more
/// than two of them fit between two turns of the sibling's.
const CHECK_EVERY: u64 = 19_997;

/// How long a case may take.
const LIMIT: Duration = Duration::from_secs(300);

/// Processor models, taken in turn.
const CPUS: [&str; 3] = ["rv64,h=off,v=true,vlen=256,elen=64", "rv64,h=off", "rv64,h=off,sstc=off"];

/// Bytes of a disk.
const DISK: usize = 4 << 20;

/// The cases.
pub fn cases(project: &Project, hypo: &Hypo, firmware: &str) -> Vec<Case> {
    let programs = ["sibling", "fuzz"].map(|name| project.bare_program(name));
    let case = |seed: u64| {
        let (programs, hypo, firmware) = (programs.clone(), hypo.clone(), firmware.to_owned());
        Case {
            name: format!("fuzz/{seed:02}"),
            about: "a guest that fuzzes devices, rings, tables and calls does no harm to its neighbour"
                .into(),
            long: seed > DEFAULT_SEEDS,
            run: silent(move |log| run(seed, &programs, &hypo, &firmware, log)),
        }
    };
    (1..=SEEDS).map(case).collect()
}

fn run(seed: u64, programs: &[PathBuf; 2], hypo: &Hypo, firmware: &str, log: &mut Vec<u8>) -> Result<()> {
    let folder = tempfile::tempdir().context("no place for a manifest")?;
    let path = folder.path().join("fuzz.toml");
    for number in 1..=3 {
        let disk = folder.path().join(format!("{number}.img"));
        fs::write(&disk, vec![0; DISK]).with_context(|| format!("cannot write {}", disk.display()))?;
    }
    fs::write(&path, manifest(seed, programs)).with_context(|| format!("cannot write {}", path.display()))?;
    let cpu = CPUS[seed as usize % CPUS.len()];
    let path = path.display().to_string();
    let arguments = ["run", &path, "--icount", "--cpu", cpu, "--firmware", firmware].map(String::from);
    let mut run = launch::start(hypo, &arguments, Input::Pipe, hypo.limit(LIMIT))?;
    run.leave_out_complaints();
    log.extend(format!("$ {}\n", run.shown).bytes());
    let status = run.finish(log)?;
    ensure!(status == 0, "exit status {status}");
    check(&String::from_utf8_lossy(log), is_legacy(seed))
}

/// The disks are images in memory: counted instructions let time leap while the hypervisor waits for a disk of the host's
/// before it starts a guest anew, and half a minute later it would give up. The sibling comes first, so that it is shown where a terminal shows one guest.
fn manifest(seed: u64, [sibling, fuzz]: &[PathBuf; 2]) -> String {
    let (sibling, fuzz) = (show(sibling), show(fuzz));
    let virtio = if is_legacy(seed) { "legacy" } else { "modern" };
    format!(
        "[host]
show = 'all'
log-level = 3
check-every = {CHECK_EVERY}

[[switch]]
name = 'lan'

[[vm]]
name = 'sibling'
kernel = {sibling}
memory = '16M'
append = 'until={UNTIL}'
weight = 50
on-stop = 'exit'
[[vm.net]]
switch = 'lan'

[[vm]]
name = 'fuzz'
kernel = {fuzz}
memory = '16M'
append = 'fuzz={seed} until={UNTIL}'
weight = 150
on-stop = 'restart'
on-reset = 'restart'
max-restart-delay = '0s'
console = 'virtio'
virtio = '{virtio}'
[[vm.disk]]
image = '1.img'
[[vm.disk]]
image = '2.img'
readonly = true
[[vm.disk]]
image = '3.img'
[[vm.net]]
switch = 'lan'
[[vm.net]]
switch = 'lan'
"
    )
}

fn show(path: &Path) -> String {
    format!("{path:?}")
}

/// Whether the hostile guest has legacy virtio transports.
const fn is_legacy(seed: u64) -> bool {
    seed.is_multiple_of(2)
}

/// Both have come to their ends, nothing was wrong, and the hostile one did what it is there for. On a legacy transport no
/// device says that it is broken.
fn check(text: &str, is_legacy: bool) -> Result<()> {
    for guest in ["sibling", "fuzz"] {
        let (said, name) = (in_one_line(text, guest), format!("features/{guest}: "));
        if let Some((_, what)) = said.split_once("FAILED") {
            bail!("guest {guest}: {}", what.chars().take(100).collect::<String>());
        }
        let mut verdicts =
            said.split(&name).skip(1).map(|it| it.trim_start_matches(|c: char| c.is_ascii_digit()));
        ensure!(verdicts.any(|it| it.starts_with(" checks, 0 failed")), "guest {guest} has no verdict");
    }
    let lives = in_one_line(text, "sibling").matches("ok memory_is_zero").count();
    ensure!(lives == 3, "the sibling lived {lives} times, not 3");
    let (mut answered, mut broken) = (0, 0);
    for line in lines(text, "fuzz").filter_map(|line| line.strip_prefix("fuzz: ")) {
        answered += number(line, " chains answered").unwrap_or(0);
        broken += number(line, " devices broken").unwrap_or(0);
    }
    ensure!(
        answered > 20 && (is_legacy || broken > 20),
        "{answered} chains were answered, {broken} devices broken"
    );
    let executed = executed(text).context("the hypervisor has not said what the hostile guest executed")?;
    ensure!(executed >= INSTRUCTIONS, "the hostile guest executed about {executed} instructions only");
    Ok(())
}

/// The least that the hostile guest executed itself: what went by while it ran, without entering it and leaving it.
fn executed(text: &str) -> Option<u64> {
    let line = text.lines().rfind(|line| line.contains("hypocaust: guest `fuzz` executed "))?;
    let (cycles, runs) = (number(line, " cycles in ")?, number(line, " runs with ")?);
    let fast = number(line, " exits in assembly")?;
    // With counted instructions each is a cycle.
    Some(cycles.saturating_sub(FAST_EXIT * fast).saturating_sub(SWITCH * runs))
}

/// The number in front of `what`.
fn number(line: &str, what: &str) -> Option<u64> {
    line.split_once(what)?.0.rsplit(' ').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "sibling| ok memory_is_zero\r\nsibling| ok memory_is_zero\nsibling| ok memory_is_zero\n\
        fuzz| fuzz: 500 steps, 40 chains answered, 30 devices broken\n\
        sibling| features/sibling: 9 chec\r\nfuzz| xx\r\nsibling| ks, 0 failed\nfuzz| features/fuzz: 3 checks, 0 failed\n\
        hypocaust: guest `fuzz` executed 130000000 cycles in 2000 runs with 1000 exits in assembly\n";

    #[test]
    fn what_is_wrong_is_found() {
        assert!(check(GOOD, false).is_ok(), "{:?}", check(GOOD, false));
        assert!(check(&GOOD.replace("30 devices", "0 devices"), true).is_ok());
        assert_eq!(executed(GOOD), Some(129_500_000));
        for (from, to) in [
            ("ks, 0", "ks, 1"),
            ("fuzz| xx", "fuzz| FAI\nfuzz| LED"),
            ("features/fuzz", "features/"),
            ("sibling| ok", "sibling| FAILED"),
            ("sibling| ok memory_is_zero\r\n", ""),
            ("40 chains", "4 chains"),
            ("30 devices", "3 devices"),
            ("executed 130", "executed 100"),
            ("1000 exits", "1000000 exits"),
            ("2000 runs", "2000000 runs"),
            ("hypocaust: guest", ""),
        ] {
            assert!(check(&GOOD.replace(from, to), false).is_err(), "{from} -> {to}");
        }
    }
}
