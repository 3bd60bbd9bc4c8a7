//! Several guests of ours on one hart: that each gets its share of it, and nothing of another's. Each case writes a
//! manifest, runs it with counted instructions, and looks at what the guests say. `poison` looks for what others have left in
//! registers and memory: *own-units*, *zeroed-ram*. At each change of guests the hypervisor looks at its own sstatus, and panics
//! unless it is as it should be: *interrupts-off*, *plain-sstatus*.

use super::runner::{Case, silent};
use crate::expect::Input;
use crate::launch::{self, Hypo};
use crate::project::Project;
use anyhow::{Context, Result, ensure};
use regex::bytes::Regex;
use std::fmt::Write;
use std::path::PathBuf;
use std::time::Duration;

/// A guest of a case.
struct Guest {
    name: &'static str,
    /// What the program is told to do, after its name and a `=`; nothing where it knows.
    role: &'static str,
    /// The rest of its manifest.
    manifest: &'static str,
    /// What it has to get of the hart, in percent; 0 where that is nothing to look at.
    percent: f64,
}

const fn guest(name: &'static str, role: &'static str, manifest: &'static str) -> Guest {
    Guest { name, role, manifest, percent: 0.0 }
}

/// One that counts what it gets.
const fn spin(name: &'static str, manifest: &'static str, percent: f64) -> Guest {
    Guest { percent, ..guest(name, "spin", manifest) }
}

struct World {
    name: &'static str,
    about: &'static str,
    /// The program in `guests/features`.
    program: &'static str,
    cpu: &'static [&'static str],
    guests: &'static [Guest],
    check: fn(&World, &str) -> Result<()>,
}

const WORLDS: &[World] = &[
    World {
        name: "shares",
        about: "eight guests that work all the time share a hart by weight",
        program: "share",
        cpu: &["rv64,h=off"],
        guests: &[
            spin("a", "weight = 50", 2.5),
            spin("b", "weight = 100", 5.0),
            spin("c", "weight = 100", 5.0),
            spin("d", "weight = 200", 10.0),
            spin("e", "weight = 200", 10.0),
            spin("f", "weight = 300", 15.0),
            spin("g", "weight = 400", 20.0),
            spin("h", "weight = 650", 32.5),
        ],
        check: shares,
    },
    World {
        name: "greed",
        about: "guests that trap, storm, are late or nap get no more than their shares, and a cap holds",
        program: "share",
        cpu: &["rv64,h=off", "rv64,h=off,sstc=off"],
        guests: &[
            spin("a", "weight = 100", 9.0),
            guest("b", "traps", "weight = 100"),
            spin("c", "weight = 200", 18.0),
            guest("d", "interrupts", "weight = 100"),
            spin("e", "weight = 300", 27.0),
            guest("f", "past", "weight = 100"),
            spin("g", "weight = 10000\ncap = 10", 10.0),
            guest("h", "naps", "weight = 200"),
        ],
        check: shares,
    },
    World {
        name: "poison",
        about: "what one guest leaves in memory and registers turns up in no other and in no later life",
        program: "poison",
        cpu: &["rv64,h=off", "rv64,h=off,v=true,vlen=256,elen=64", "rv64,h=off,sstc=off"],
        guests: &[
            guest("a", "a", ""),
            guest("none", "-", ""),
            guest("b", "b", "fast = false\nrewrite = false"),
            guest("c", "c", ""),
        ],
        check: lives,
    },
    World {
        name: "console",
        about: "a virtio console and the UART are one terminal: what is typed goes to the one that was written to last",
        program: "console",
        cpu: &["rv64,h=off"],
        guests: &[guest("a", "", "console = 'virtio'")],
        check: speaks,
    },
    World {
        name: "legacy-console",
        about: "the same on legacy virtio transports",
        program: "console",
        cpu: &["rv64,h=off"],
        guests: &[guest("a", "", "console = 'virtio'\nvirtio = 'legacy'")],
        check: speaks,
    },
];

/// What is typed once a text is there, in the worlds in which something is.
const TYPED: &[(&str, &[(&str, &str)])] = &[
    ("console", &[("virtio: type something", "v"), ("uart: type something", "u")]),
    ("legacy-console", &[("virtio: type something", "v"), ("uart: type something", "u")]),
];

/// How long a case may take.
const LIMIT: Duration = Duration::from_secs(600);

/// The cases.
pub fn cases(project: &Project, hypo: &Hypo, firmware: &str) -> Vec<Case> {
    let mut cases = Vec::new();
    for world in WORLDS {
        for (n, cpu) in world.cpu.iter().enumerate() {
            let kernel = project.bare_program(world.program);
            let (hypo, firmware) = (hypo.clone(), firmware.to_owned());
            cases.push(Case {
                name: format!("worlds/{}/{cpu}", world.name),
                about: world.about.into(),
                // Ten billion instructions each: on one processor model by default.
                long: n > 0 && world.program == "share",
                run: silent(move |log| run(world, &kernel, cpu, &hypo, &firmware, log)),
            });
        }
    }
    cases
}

fn run(
    world: &World,
    kernel: &PathBuf,
    cpu: &str,
    hypo: &Hypo,
    firmware: &str,
    log: &mut Vec<u8>,
) -> Result<()> {
    let folder = tempfile::tempdir().context("no place for a manifest")?;
    let path = folder.path().join("world.toml");
    std::fs::write(&path, manifest(world, kernel))
        .with_context(|| format!("cannot write {}", path.display()))?;
    let path = path.display().to_string();
    let arguments = ["run", &path, "--icount", "--cpu", cpu, "--firmware", firmware].map(String::from);
    let mut run = launch::start(hypo, &arguments, Input::Pipe, hypo.limit(LIMIT))?;
    log.extend(format!("$ {}\n", run.shown).bytes());
    let typed = TYPED.iter().filter(|(name, _)| *name == world.name).flat_map(|(_, typed)| *typed);
    for (expected, keys) in typed {
        // What does not come is in the log, and missed below.
        if run.session.expect(&Regex::new(expected)?, LIMIT).is_ok() {
            run.session.send(keys)?;
        }
    }
    let status = run.finish(log)?;
    ensure!(status == 0, "exit status {status}");
    (world.check)(world, &String::from_utf8_lossy(log))
}

fn manifest(world: &World, kernel: &PathBuf) -> String {
    let mut text = "[host]\nshow = 'all'\n".to_owned();
    for Guest { name, role, manifest, .. } in world.guests {
        let append = if role.is_empty() { String::new() } else { format!("{}={role}", world.program) };
        // Writing to a string does not fail.
        let _ = writeln!(
            text,
            "[[vm]]\nname = '{name}'\nkernel = {kernel:?}\nmemory = '16M'\nappend = '{append}'\n{manifest}"
        );
    }
    text
}

/// The time in which guests count rounds, in instructions, and those of a round.
const WINDOW: f64 = 10e9;
const ROUND: f64 = 2.0;
/// How far a guest may be from its share.
const TOLERANCE: f64 = 0.05;

/// Each guest that works got what it has to, as it counted itself, and was told that others had the rest.
fn shares(world: &World, text: &str) -> Result<()> {
    for Guest { name, percent, .. } in world.guests.iter().filter(|guest| guest.percent > 0.0) {
        let (rounds, stolen) = lines(text, name)
            .find_map(said)
            .with_context(|| format!("guest {name} has not said what it got and what was stolen"))?;
        let got = 100.0 * rounds * ROUND / WINDOW;
        let (least, most) = (percent * (1.0 - TOLERANCE), percent * (1.0 + TOLERANCE));
        ensure!((least..=most).contains(&got), "guest {name} got {got:.2} % of the hart, not {percent} %");
        let all = got + 100.0 * stolen / WINDOW;
        ensure!(
            (98.0..101.0).contains(&all),
            "guest {name} got {got:.2} %, and {all:.2} % with what was stolen"
        );
    }
    Ok(())
}

/// The rounds of a guest that works, and the nanoseconds that were stolen from it.
fn said(line: &str) -> Option<(f64, f64)> {
    let (rounds, rest) = line.strip_prefix("share spin: ")?.split_once(" rounds, ")?;
    Some((rounds.parse().ok()?, rest.strip_suffix(" ns stolen, 0")?.parse().ok()?))
}

/// Both consoles have spoken, and their checks hold.
fn speaks(_: &World, text: &str) -> Result<()> {
    for said in ["virtio: type something", "uart: type something", "features/console: 6 checks, 0 failed"] {
        ensure!(lines(text, "a").any(|line| line == said), "`{said}` was not said");
    }
    Ok(())
}

/// All checks of all lives hold, and there were several.
fn lives(world: &World, text: &str) -> Result<()> {
    for Guest { name, .. } in world.guests {
        let failed = lines(text, name).find(|line| line.starts_with("FAILED"));
        ensure!(failed.is_none(), "guest {name}: {}", failed.unwrap_or_default());
        let lives = lines(text, name).filter(|line| line.starts_with("ok memory_is_zero")).count();
        ensure!(lives >= 3, "guest {name} lived {lives} times only");
    }
    Ok(())
}

/// What a guest has said, line by line.
pub fn lines<'a>(text: &'a str, guest: &str) -> impl Iterator<Item = &'a str> {
    let name = format!("{guest}| ");
    text.lines().filter_map(move |line| line.trim_end_matches('\r').strip_prefix(name.as_str()))
}

/// What a guest has said, as if in one line: where another one has completed a line meanwhile, that is broken anywhere.
pub fn in_one_line(text: &str, guest: &str) -> String {
    lines(text, guest).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guest_that_got_too_little_too_much_or_says_nothing_fails() {
        let world = &WORLDS[0];
        let text = |factor: f64| {
            let line = |guest: &Guest| {
                let got = factor * guest.percent * 1e8;
                let (rounds, stolen) = ((got / ROUND) as u64, (WINDOW - got) as u64);
                format!("{}| share spin: {rounds} rounds, {stolen} ns stolen, 0\r\n", guest.name)
            };
            world.guests.iter().map(line).collect::<String>()
        };
        assert!(shares(world, &text(0.96)).is_ok() && shares(world, &text(1.04)).is_ok());
        assert!(shares(world, &text(0.94)).is_err() && shares(world, &text(1.06)).is_err());
        assert!(shares(world, &text(1.0).replace("e| ", "x| ")).is_err());
        assert!(shares(world, &text(1.0).replace(", 9", ", 8")).is_err(), "not all of the time is told of");
        assert!(shares(world, &text(1.0).replace("stolen, 0", "stolen, -2")).is_err());
    }

    #[test]
    fn one_failed_check_fails_all() {
        let world = &WORLDS[2];
        let text: String = world
            .guests
            .iter()
            .map(|guest| format!("{}| ok memory_is_zero\n", guest.name).repeat(3))
            .collect();
        assert!(lives(world, &text).is_ok());
        assert!(lives(world, &format!("{text}b| FAILED memory_is_zero: got 1\n")).is_err());
        assert!(lives(world, &text.replacen("c| ok", "", 1)).is_err(), "two lives");
    }
}
