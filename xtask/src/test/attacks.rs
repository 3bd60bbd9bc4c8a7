//! A guest that does what could hold up others, beside a healthy one that looks at the clock all the time: `guests/features`'
//! `attack` and `attack_memory`. The healthy one may be away from the hart for about a slice, whatever the other one does:
//! *nobody-waits*.
//!
//! Where the line or the disk is slow, the clock is that of the wall, and a busy machine makes gaps of its own, so the best of
//! a few runs counts: a hypervisor that waits for a line or a disk does so in each.

use super::runner::Case;
use super::worlds::in_one_line;
use crate::expect::Input;
use crate::launch::{self, Hypo};
use crate::project::Project;
use anyhow::{Context, Result, bail, ensure};
use regex::bytes::Regex;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What the other guest does.
struct Attack {
    name: &'static str,
    /// The program, of `guests/features`.
    program: &'static str,
    /// The program's role.
    role: &'static str,
    about: &'static str,
    /// The rest of its manifest.
    manifest: &'static str,
    /// Bytes that the line to the terminal takes in a second, if it is a slow one.
    line: Option<u32>,
    disk: AttackersDisk,
    /// How long the healthy guest may be away where instructions are counted, in microseconds.
    counted: u64,
    /// The firmware that it needs.
    firmware: Option<&'static str>,
    /// What must be there so many times, for the attack to have taken place.
    proof: (&'static str, usize),
}

/// The other guest's disk.
enum AttackersDisk {
    /// It has none.
    None,
    /// It takes `DISK_RATE`.
    Slow,
    /// The file system of its file is full, as QEMU sees it.
    Full,
}

impl Attack {
    /// Whether the wall's clock matters.
    const fn is_slow(&self) -> bool {
        self.line.is_some() || matches!(self.disk, AttackersDisk::Slow)
    }
}

const fn attack(role: &'static str, about: &'static str, proof: (&'static str, usize)) -> Attack {
    Attack {
        name: role,
        program: "attack",
        role,
        about,
        manifest: "",
        line: None,
        disk: AttackersDisk::None,
        counted: COUNTED,
        firmware: None,
        proof,
    }
}

const RESET: &str = "guest `attacker` asked for a reset";
const CRASH: &str = "guest `attacker` was stopped";
const LEFT_OUT: &str = "more lines about guest `attacker` left out";
const HELD_BACK: &str = "guest `attacker` executes instructions for which the firmware prints a line each";
/// It starts anew without delay.
const NO_DELAY: &str = "max-restart-delay = '0s'\non-stop = 'restart'";
/// Bytes in a second of a slow line.
const SLOW: Option<u32> = Some(8000);

const ATTACKS: &[Attack] = &[
    Attack {
        disk: AttackersDisk::Slow,
        ..attack("disk-resets", "resets while a disk works for it", (RESET, 2))
    },
    Attack {
        disk: AttackersDisk::Slow,
        manifest: NO_DELAY,
        ..attack("disk-crashes", "dies while a disk works for it", (CRASH, 2))
    },
    Attack {
        disk: AttackersDisk::Slow,
        ..attack("device-resets", "resets its disk while that works for it", ("device-resets: again", 1))
    },
    attack("resets", "resets again and again", (RESET, 4)),
    Attack {
        name: "resets/no-delay",
        manifest: NO_DELAY,
        // With the delay it is a few times. Without, each start is paid for out of its share.
        ..attack("resets", "resets again and again without delay", (RESET, 20))
    },
    Attack {
        name: "crashes/no-delay",
        manifest: NO_DELAY,
        ..attack("crashes", "dies again and again without delay", (LEFT_OUT, 1))
    },
    Attack {
        name: "resets/slow-line",
        line: SLOW,
        manifest: NO_DELAY,
        ..attack("resets", "resets on a slow line", (LEFT_OUT, 1))
    },
    Attack {
        name: "crashes/slow-line",
        line: SLOW,
        manifest: NO_DELAY,
        ..attack("crashes", "dies on a slow line", (LEFT_OUT, 1))
    },
    Attack {
        name: "flood/slow-line",
        line: SLOW,
        ..attack("flood", "fills a slow line", ("..........", 100))
    },
    Attack {
        name: "flood-resets/slow-line",
        line: SLOW,
        manifest: NO_DELAY,
        ..attack("flood-resets", "fills a slow line and resets", ("..........", 100))
    },
    Attack {
        name: "flood-crashes/slow-line",
        line: SLOW,
        manifest: NO_DELAY,
        ..attack("flood-crashes", "fills a slow line and dies", ("..........", 100))
    },
    attack("sbi-flood", "fills the console through the SBI", ("vvvvvvvvvv", 1000)),
    Attack {
        manifest: "console = 'virtio'",
        ..attack("virtio-flood", "fills its virtio console", ("vvvvvvvvvv", 1000))
    },
    Attack {
        name: "sbi-flood/slow-line",
        line: SLOW,
        ..attack("sbi-flood", "fills a slow line through the SBI", ("vvvvvvvvvv", 100))
    },
    Attack {
        name: "virtio-flood-resets/slow-line",
        line: SLOW,
        manifest: "console = 'virtio'\nmax-restart-delay = '0s'",
        ..attack(
            "virtio-flood-resets",
            "fills its virtio console and resets on a slow line",
            ("vvvvvvvvvv", 100),
        )
    },
    Attack {
        disk: AttackersDisk::Full,
        ..attack(
            "disk-full",
            "writes again and again to a disk whose host has no room",
            ("disk-full: refused", 3),
        )
    },
    Attack {
        program: "attack_memory",
        ..attack("fences", "fences large tables that it changes", ("fences: again", 1))
    },
    Attack {
        program: "attack_memory",
        firmware: Some("opensbi-1.6"),
        ..attack("complaints", "makes the firmware print", (HELD_BACK, 1))
    },
    attack("deaf", "never reads what is typed", ("deaf: type something", 1)),
];

/// Bytes that the slow disk takes in a second.
const DISK_RATE: u32 = 2 << 20;
const DISK: u64 = 16 << 20;

/// How long the healthy guest may be away, in microseconds: a slice, and what the start of a guest costs, where
/// instructions are counted; much less than what a wait would take, where they are not.
const COUNTED: u64 = 10_000;
const ON_THE_WALL: u64 = 300_000;
/// How long it looks, in milliseconds.
const LOOKS_COUNTED: u64 = 300;
const LOOKS_ON_THE_WALL: u64 = 4000;
/// The runs of which the best one counts, by the wall's clock.
const RUNS: usize = 4;

/// How long a run may take.
const LIMIT: Duration = Duration::from_secs(120);

/// How the healthy guest ends the run: its reset does that, and `hypo` says so.
const RESET_STATUS: i32 = 32;
const END: &str = "hypo: the guest asked for a reset under --no-reboot (exit status 32)\n";

impl AttackersDisk {
    /// QEMU's words for it, beside those of `hypo`. `folder` has the manifest.
    fn qemu(&self, folder: &Path) -> Result<Vec<String>> {
        let words = match self {
            Self::None => Vec::new(),
            Self::Slow => {
                let image = folder.join("slow.img");
                let made = std::fs::File::create(&image).and_then(|file| file.set_len(DISK));
                made.with_context(|| format!("cannot make {}", image.display()))?;
                let drive = format!(
                    "file={},if=none,id=slow,format=raw,throttling.bps-write={DISK_RATE}",
                    image.display()
                );
                let device = "virtio-blk-device,drive=slow,serial=slow";
                ["-drive", &drive, "-device", device].map(String::from).into()
            }
            Self::Full => {
                // Linux's number of ENOSPC.
                let option = |name: &str| format!("drive.disk0.file.{name}");
                let error = |name: &str| option(&format!("inject-error.0.{name}"));
                [option("driver=blkdebug"), error("event=write_aio"), error("errno=28")]
                    .into_iter()
                    .flat_map(|option| ["-set".to_owned(), option])
                    .collect()
            }
        };
        Ok(words)
    }
}

/// The cases.
pub fn cases(project: &Project, hypo: &Hypo, firmware: &str) -> Vec<Case> {
    let case = |attack: &'static Attack| {
        let kernels = [attack.program, "attack"].map(|name| project.bare_program(name));
        let hypo = hypo.clone();
        let firmware = attack.firmware.unwrap_or(firmware).to_owned();
        Case {
            name: format!("attacks/{}", attack.name),
            about: format!("a guest that {} keeps no other one from the hart", attack.about),
            // They go by the clock of the wall, for half a minute each, and a busy machine can make them fail.
            long: attack.is_slow(),
            run: Box::new(move |log| run(attack, &kernels, &hypo, &firmware, log)),
        }
    };
    ATTACKS.iter().map(case).collect()
}

fn run(
    attack: &Attack,
    kernels: &[PathBuf; 2],
    hypo: &Hypo,
    firmware: &str,
    log: &mut Vec<u8>,
) -> Result<String> {
    let (runs, most) = if attack.is_slow() { (RUNS, ON_THE_WALL) } else { (1, attack.counted) };
    let mut best = u64::MAX;
    for _ in 0..runs {
        best = best.min(run_once(attack, kernels, hypo, firmware, log)?);
        if best <= most {
            return Ok(format!("the healthy guest was away for {best} us at most"));
        }
    }
    let hint = if attack.is_slow() { "; try again on a machine that has nothing else to do" } else { "" };
    bail!("the healthy guest was away for {best} us, and {most} us are allowed{hint}")
}

/// Runs it once; how long the healthy guest was away, in microseconds.
fn run_once(
    attack: &Attack,
    kernels: &[PathBuf; 2],
    hypo: &Hypo,
    firmware: &str,
    log: &mut Vec<u8>,
) -> Result<u64> {
    let folder = tempfile::tempdir().context("no place for a manifest")?;
    let path = folder.path().join("attack.toml");
    std::fs::write(&path, manifest(attack, kernels))
        .with_context(|| format!("cannot write {}", path.display()))?;
    let path = path.display().to_string();
    let mut arguments: Vec<_> = ["run", &path, "--firmware", firmware].map(String::from).into();
    if !attack.is_slow() {
        arguments.push("--icount".into());
    }
    arguments.extend(attack.disk.qemu(folder.path())?.into_iter().map(|word| format!("--qemu-arg={word}")));
    let mut run = launch::start_on_line(hypo, &arguments, Input::Pipe, hypo.limit(LIMIT), attack.line)?;
    run.leave_out_complaints();
    let begin = log.len();
    log.extend(format!("$ {}\n", run.shown).bytes());
    if attack.role == "deaf" && run.session.expect(&Regex::new("type something")?, LIMIT).is_ok() {
        // More than all queues on the way hold.
        run.session.send("typing ".repeat(1000))?;
    }
    let status = run.finish(log)?;
    let text = String::from_utf8_lossy(&log[begin..]);
    ensure!(status == RESET_STATUS, "exit status {status}");
    check(attack, &text)
}

/// The attacker's kernel is the first one.
fn manifest(attack: &Attack, [attacker, healthy]: &[PathBuf; 2]) -> String {
    let Attack { role, manifest, disk, .. } = attack;
    let looks = if attack.is_slow() { LOOKS_ON_THE_WALL } else { LOOKS_COUNTED };
    let disk = match disk {
        AttackersDisk::None => "",
        AttackersDisk::Slow => "[[vm.disk]]\nhost = 'slow'\n",
        AttackersDisk::Full => "[[vm.disk]]\nfile = 'full.img'\nsize = '16M'\n",
    };
    format!(
        "[host]\nshow = 'all'\n\
         [[vm]]\nname = 'attacker'\nkernel = {attacker:?}\nmemory = '16M'\nappend = 'attack={role}'\n{manifest}\n{disk}\
         [[vm]]\nname = 'healthy'\nkernel = {healthy:?}\nmemory = '16M'\nappend = 'attack=healthy looks={looks}'\n\
         on-reset = 'exit'\non-stop = 'exit'\n"
    )
}

/// How long the healthy guest says that it was away, if the attack took place.
fn check(attack: &Attack, text: &str) -> Result<u64> {
    // What `hypo` says of the end overtakes what is still on a slow line.
    let text = text.replace(END, "");
    let (proof, least) = attack.proof;
    let found = text.matches(proof).count();
    ensure!(found >= least, "`{proof}` is there {found} times, not {least}: the attack did not take place");
    let verdict = regex::Regex::new(r"healthy: at most (\d+) us away in (\d+) looks")?;
    let said = in_one_line(&text, "healthy");
    let away = verdict.captures_iter(&said).find_map(|found| {
        let (_, [away, looks]) = found.extract();
        // Who looks a few times only has seen nothing.
        (looks.parse::<u64>().ok()? > 10_000).then(|| away.parse().ok())?
    });
    away.context("the healthy guest has not said how long it was away")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_attack_that_did_not_take_place_shows_nothing() {
        let attack = &ATTACKS[0];
        let text = |resets: usize, healthy: &str| {
            format!("{}healthy| {healthy}\r\n", format!("hypocaust: {RESET}\r\n").repeat(resets))
        };
        let good = "healthy: at most 4012 us away in 123456 looks";
        assert_eq!(check(attack, &text(2, good)).unwrap(), 4012);
        assert_eq!(
            check(attack, &text(2, "healthy: at most 40\r\nhealthy| 12 us away in 123456 looks")).unwrap(),
            4012
        );
        assert!(check(attack, &text(1, good)).is_err());
        assert!(check(attack, &text(2, &good.replace("123456", "12"))).is_err());
        assert!(check(attack, &text(2, "")).is_err());
    }

    #[test]
    fn each_case_has_a_name_of_its_own() {
        let project = Project::load().unwrap();
        let cases = cases(&project, &Hypo::new("hypo".as_ref(), Vec::new()), "default");
        let names: std::collections::BTreeSet<_> = cases.iter().map(|case| case.name.as_str()).collect();
        assert_eq!(names.len(), ATTACKS.len());
    }
}
