//! The hypervisor as its own guest, some levels deep, with `minikernel` inside. Each level makes the next one's traps some
//! hundred times as dear, so the innermost has a host that is far too slow for its timer, and goes on all the same.

use super::runner::{Case, silent};
use crate::expect::Input;
use crate::launch::{self, Hypo};
use crate::project::Project;
use anyhow::{Context, Result, anyhow, ensure};
use hypo::image;
use regex::bytes::Regex;
use std::path::Path;
use std::time::Duration;

/// How many hypervisors there are, and how long it may take.
const DEPTHS: [(usize, Duration); 2] = [(2, Duration::from_secs(60)), (4, Duration::from_secs(400))];

/// What is typed, and what the guest's answer has in it.
const DIALOGUE: [(&str, &str); 3] =
    [("", "minikernel> "), ("run hello\r", "Hello from user mode!"), ("poweroff\r", "Goodbye")];

/// The innermost kernel's memory in MiB, which each level around it needs three times over.
const MEMORY: u32 = 16;
/// Where a hypervisor lives that has Sv39 only and is to run another one, which lives at the usual place.
const WINDOW: &str = "0xffffffc000000000";

/// The cases.
pub fn cases(project: &Project, hypo: &Hypo, firmware: &str) -> Vec<Case> {
    let case = |(depth, limit): (usize, Duration)| {
        let (kernel, hypo, firmware) =
            (project.bare_program("minikernel"), hypo.clone(), firmware.to_owned());
        Case {
            name: format!("nested/{depth}"),
            about: format!("a kernel runs in {depth} hypervisors, one in the other"),
            long: false,
            run: silent(move |log| run(depth, &kernel, &hypo, &firmware, limit, log)),
        }
    };
    DEPTHS.into_iter().map(case).collect()
}

fn run(
    depth: usize,
    kernel: &Path,
    hypo: &Hypo,
    firmware: &str,
    limit: Duration,
    log: &mut Vec<u8>,
) -> Result<()> {
    let folder = tempfile::tempdir().context("no place for bundles")?;
    let limit = hypo.limit(limit);
    let mut memory = MEMORY;
    let mut text = format!(
        "[host]\nwindow = '{WINDOW}'\n[[vm]]\nname = 'kernel'\nkernel = {kernel:?}\nmemory = '{memory}M'\n"
    );
    let mut manifest = String::new();
    for level in 1..=depth {
        let path = folder.path().join(format!("{level}.toml"));
        std::fs::write(&path, &text).with_context(|| format!("cannot write {}", path.display()))?;
        manifest = path.display().to_string();
        if level == depth {
            break;
        }
        let bundle = folder.path().join(format!("{level}.bin"));
        let pack = ["pack", &manifest, "-o", &bundle.display().to_string()].map(String::from);
        let status = launch::to_end(hypo, &pack, limit, log)?;
        ensure!(status == 0, "hypo pack ended with {status}");
        memory = 3 * memory + 32;
        let image = image::hypervisor()?;
        text = format!(
            "[[vm]]\nname = 'level{level}'\nkernel = {image:?}\ninitrd = {bundle:?}\nmemory = '{memory}M'\n"
        );
    }
    let arguments = ["run", &manifest, "--firmware", firmware].map(String::from);
    let mut run = launch::start(hypo, &arguments, Input::Pipe, limit)?;
    log.extend(format!("$ {}\n", run.shown).bytes());
    for (typed, expected) in DIALOGUE {
        run.session.send(typed)?;
        if run.session.expect(&Regex::new(expected)?, limit).is_err() {
            log.extend(run.session.abandon());
            return Err(anyhow!("{expected:?} did not come"));
        }
    }
    let status = run.finish(log)?;
    ensure!(status == 0, "exit status {status}");
    Ok(())
}
