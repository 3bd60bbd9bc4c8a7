//! What guests get of randomness on a machine whose firmware gives none: each life of each guest, in each boot of one
//! bundle, has to get something else (*own-randomness*). QEMU's `sifive_u` is such a machine.

use super::runner::{Case, silent};
use super::setting::DEFAULT_FIRMWARE;
use super::worlds::in_one_line;
use crate::expect::{Input, Session};
use crate::launch::{self, Hypo};
use crate::project::{self, Project};
use anyhow::{Context, Result, ensure};
use hypo::image;
use hypo_common::setup;
use regex::bytes::Regex;
use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// Seconds for one boot.
const LIMIT: Duration = Duration::from_secs(60);
/// Boots of the bundle, its guests, and the lives of each that are looked at.
const BOOTS: usize = 2;
const GUESTS: [&str; 2] = ["a", "b"];
const LIVES: usize = 2;

/// What the hypervisor says where nobody gives it anything.
const WARNING: &str = "hypocaust: the host has no source of randomness";

/// The case, on the firmware that QEMU brings for this machine.
pub fn case(project: &Project, hypo: &Hypo, firmware: &str) -> Option<Case> {
    let (kernel, hypo) = (project.bare_program("randomness"), hypo.clone());
    (firmware == DEFAULT_FIRMWARE).then(|| Case {
        name: "randomness/sifive_u".into(),
        about: "no two lives of a guest, guests, or boots of one bundle get the same random numbers".into(),
        long: false,
        run: silent(move |log| run(&kernel, &hypo, log)),
    })
}

fn run(kernel: &Path, hypo: &Hypo, log: &mut Vec<u8>) -> Result<()> {
    let folder = tempfile::tempdir().context("no place for a bundle")?;
    let [manifest, bundle] = ["manifest.toml", "bundle.bin"].map(|name| folder.path().join(name));
    let guest = |name| format!("[[vm]]\nname = '{name}'\nkernel = {kernel:?}\nmemory = '8M'\n");
    let text = format!("[host]\nshow = 'all'\n{}", GUESTS.map(guest).concat());
    std::fs::write(&manifest, text).with_context(|| format!("cannot write {}", manifest.display()))?;
    let arguments =
        ["pack", &manifest.display().to_string(), "-o", &bundle.display().to_string()].map(String::from);
    let status = launch::to_end(hypo, &arguments, hypo.limit(LIMIT), log)?;
    ensure!(status == 0, "hypo pack ended with {status}");
    let mut boots = Vec::new();
    for _ in 0..BOOTS {
        boots.push(boot(&image::hypervisor()?, &bundle, hypo.limit(LIMIT), log)?);
    }
    check(&boots)
}

/// Boots the bundle until each guest has told of enough lives; gives what was said.
fn boot(image: &Path, bundle: &Path, limit: Duration, log: &mut Vec<u8>) -> Result<String> {
    let mut command = Command::new(setup::QEMU);
    command.args("-M sifive_u -smp 2 -m 256M -display none -serial stdio -monitor none".split(' '));
    command.arg("-kernel").arg(image).arg("-initrd").arg(bundle);
    log.extend(format!("$ {}\n", project::show(&command)).bytes());
    let mut session = Session::start(&mut command, Input::Pipe, limit).context("QEMU cannot be started")?;
    let enough =
        Regex::new(&format!(r"(?s)(a\| device.*b\| device.*|b\| device.*a\| device.*){{{}}}", LIVES + 1))?;
    let heard = session.expect(&enough, limit);
    let said = session.abandon();
    log.extend(&said);
    ensure!(heard.is_ok(), "each guest has to start {} times; the log shows how often it did", LIVES + 1);
    Ok(String::from_utf8_lossy(&said).into_owned())
}

/// Whether all values differ, there are enough, and the operator was warned.
fn check(boots: &[String]) -> Result<()> {
    let mut seen = BTreeSet::new();
    for text in boots {
        ensure!(text.contains(WARNING), "the operator is not warned");
        for guest in GUESTS {
            let said = in_one_line(text, guest);
            ensure!(!said.contains("FAILED"), "guest {guest} has failed: {said}");
            for source in ["seed", "device"] {
                let mut count = 0;
                let value = regex::Regex::new(&format!("{source} ([0-9a-f]{{32}})"))?;
                for (line, [number]) in value.captures_iter(&said).map(|found| found.extract()) {
                    ensure!(seen.insert(number.to_owned()), "`{line}` was given twice");
                    count += 1;
                }
                ensure!(count >= LIVES, "guest {guest} has told of {count} values of `{source}`");
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn boots() -> Vec<String> {
        let mut number = 0_u128;
        let mut next = || {
            number += 1;
            number
        };
        let mut life =
            |guest: &str| format!("{guest}| seed {:032x}\n{guest}| device {:032x}\n", next(), next());
        let mut boot = || {
            format!("{WARNING}\n{}", (0..LIVES).map(|_| GUESTS.map(&mut life).concat()).collect::<String>())
        };
        vec![boot(), boot()]
    }

    #[test]
    fn values_that_come_twice_or_not_at_all_are_found() {
        let good = boots();
        assert!(check(&good).is_ok());
        let with =
            |from: &str, to: &str| check(&good.iter().map(|text| text.replace(from, to)).collect::<Vec<_>>());
        assert!(with(&format!("{:032x}", 9), &format!("{:032x}", 1)).is_err(), "the same seed in two boots");
        assert!(
            with(&format!("{:032x}", 4), &format!("{:032x}", 2)).is_err(),
            "two guests' devices give the same"
        );
        assert!(with("a| device", "b| device").is_err(), "one guest has nothing");
        assert!(with(WARNING, "").is_err());
        assert!(with("b| seed", "b| FAILED").is_err());
        assert!(with("a| device 0000", "a| device 00\nb| ok\na| 00").is_ok(), "lines in pieces are read");
    }
}
