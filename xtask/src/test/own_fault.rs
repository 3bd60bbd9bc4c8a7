//! Traps that the hypervisor itself raises: an image in which one of its instructions is spoiled has to end in its epitaph, and
//! to take the trap for no guest's exit (*own-fault*).

use super::DEFAULT_FIRMWARE;
use super::runner::{Case, silent};
use crate::expect::{Input, Session};
use crate::launch::{self, Hypo};
use crate::project::{self, Project};
use anyhow::{Context, Result, ensure};
use hypo::image;
use hypo_common::setup;
use regex::bytes::Regex;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// How long a boot may take.
const LIMIT: Duration = Duration::from_secs(60);

/// `csrw sscratch, a0` and `csrw stvec, a1`: the way into a guest, and the second puts the guest's vector in the place of the
/// hypervisor's own.
const INTO_GUEST: [u32; 2] = [0x1405_1073, 0x1055_9073];
/// An instruction that is none, by the specification.
const SPOILED: u32 = 0;

/// Where an instruction is spoiled: so many instructions behind the start of `INTO_GUEST`.
const PLACES: [(&str, usize, &str); 2] = [
    ("own-vector", 1, "a trap of the hypervisor's own ends in the epitaph"),
    ("guests-vector", 2, "so does one that goes to the vector that guests' traps go to"),
];

/// The cases, on the firmware that QEMU brings.
pub fn cases(project: &Project, hypo: &Hypo, firmware: &str) -> Vec<Case> {
    let case = |(name, behind, about): (&str, usize, &str)| {
        let (kernel, hypo) = (project.bare_program("minikernel"), hypo.clone());
        Case {
            name: format!("own-fault/{name}"),
            about: about.into(),
            long: false,
            run: silent(move |log| run(behind, &kernel, &hypo, log)),
        }
    };
    if firmware == DEFAULT_FIRMWARE { PLACES.into_iter().map(case).collect() } else { Vec::new() }
}

fn run(behind: usize, kernel: &Path, hypo: &Hypo, log: &mut Vec<u8>) -> Result<()> {
    let folder = tempfile::tempdir().context("no place for a bundle")?;
    let [manifest, bundle, spoiled] =
        ["manifest.toml", "bundle.bin", "spoiled.bin"].map(|name| folder.path().join(name));
    std::fs::write(&manifest, format!("[[vm]]\nname = 'a'\nkernel = {kernel:?}\nmemory = '16M'\n"))?;
    let arguments =
        ["pack", &manifest.display().to_string(), "-o", &bundle.display().to_string()].map(String::from);
    let status = launch::to_end(hypo, &arguments, hypo.limit(LIMIT), log)?;
    ensure!(status == 0, "hypo pack ended with {status}");
    let mut image = std::fs::read(image::hypervisor()?)?;
    spoil(&mut image, behind)?;
    std::fs::write(&spoiled, image)?;

    let mut command = Command::new(setup::QEMU);
    command.args("-M virt -cpu rv64,h=off -m 128M -display none -serial stdio -monitor none".split(' '));
    command.arg("-kernel").arg(&spoiled).arg("-initrd").arg(&bundle);
    log.extend(format!("$ {}\n", project::show(&command)).bytes());
    let mut session =
        Session::start(&mut command, Input::Pipe, hypo.limit(LIMIT)).context("QEMU cannot be started")?;
    let epitaph = Regex::new(
        r"this is a bug in the hypervisor(?s:.*)HostFault \{ cause: 2,(?s:.*)halted with status 1",
    )?;
    let heard = session.expect(&epitaph, hypo.limit(LIMIT));
    log.extend(session.abandon());
    ensure!(heard.is_ok(), "there is no epitaph that tells of an illegal instruction");
    Ok(())
}

/// Puts the spoiled instruction in the place of the one that is so many behind the way into a guest, which is there once.
fn spoil(image: &mut [u8], behind: usize) -> Result<()> {
    let way = INTO_GUEST.map(u32::to_le_bytes).concat();
    let windows = image.windows(way.len()).enumerate();
    let places: Vec<usize> = windows.filter(|(_, bytes)| *bytes == way).map(|(at, _)| at).collect();
    let [at] = places[..] else { anyhow::bail!("the way into a guest is at {places:x?}") };
    let at = at + 4 * behind;
    image.get_mut(at..at + 4).context("the image ends there")?.copy_from_slice(&SPOILED.to_le_bytes());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_instruction_is_spoiled() {
        let way = INTO_GUEST.map(u32::to_le_bytes).concat();
        let image = [&[1; 4], &way[..], &[2; 4]].concat();
        for (behind, place) in [(1, 8), (2, 12)] {
            let (mut spoiled, mut expected) = (image.clone(), image.clone());
            expected[place..place + 4].fill(0);
            spoil(&mut spoiled, behind).unwrap();
            assert_eq!(spoiled, expected);
        }
        assert!(spoil(&mut [1; 16], 0).is_err());
        assert!(spoil(&mut [&way[..], &way].concat(), 0).is_err());
    }
}
