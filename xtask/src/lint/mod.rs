//! `cargo xtask lint`: the rules that a machine can check. Changes nothing but rustup's components.
//!
//! Every step runs even when an earlier one failed, so that one run names all there is to mend.

mod arrows;
mod circles;
mod invariants;
mod sealed;
mod sources;

use crate::project::{Project, run as run_command};
use anyhow::{Result, bail};
use hypo_common::build::TARGET;
use hypo_common::setup;
use std::process::{Command, Stdio};
use std::time::Instant;

/// Crates that must not panic, whatever their input, which is a guest's or on its way to one: *no-guest-panic*. The only place
/// where this is asked for.
const GUEST_PATHS: &[&str] = &[
    "block",
    "bundle",
    "devices",
    "isa",
    "lifecycle",
    "memory",
    "mmu",
    "monitor",
    "net",
    "rewrite",
    "scheduler",
    "sync",
    "vhart",
    "vmm",
    "world",
];

/// What can panic, as clippy names it. Arithmetic is not here: it is checked at run time, and its lint
/// cannot tell a guest's value from ours.
const PANICS: &[&str] = &[
    "clippy::expect_used",
    "clippy::indexing_slicing",
    "clippy::panic",
    "clippy::panic_in_result_fn",
    "clippy::string_slice",
    "clippy::todo",
    "clippy::unimplemented",
    "clippy::unreachable",
    "clippy::unwrap_used",
];

/// Runs every step; true when nothing is to be mended.
pub fn run() -> Result<bool> {
    let project = Project::load()?;
    add_components()?;
    let mut failed = Vec::new();
    let mut step = |name: &'static str, check: &dyn Fn() -> Result<()>| {
        let start = Instant::now();
        let result = check();
        let seconds = start.elapsed().as_secs_f32();
        match result {
            Ok(()) => println!("lint: {name}: ok ({seconds:.1} s)"),
            Err(error) => {
                println!("lint: {name}: FAILED ({seconds:.1} s)\n{error:#}");
                failed.push(name);
            }
        }
    };
    step("formatting", &|| run_command(&mut project.cargo(&["fmt", "--all", "--check"])));
    step("crate arrows", &|| arrows::check(&project));
    step("circles of files", &|| circles::check(&project));
    step("unsafe code", &|| sources::unsafe_only_where_it_may_be(&project));
    step("who moves the pc", &|| sources::one_file_moves_the_pc(&project));
    step("invariants", &|| invariants::check(&project));
    step("numbers in assembly", &|| sources::no_numbers_in_assembly(&project));
    step("length of files", &|| sources::warn_of_long_rooms(&project));
    step("clippy, host crates", &|| clippy_host(&project));
    step("clippy, bare-metal crates", &|| clippy_bare(&project));
    step("no panics on guest paths", &|| panics(&project));
    step("wild addresses from safe code", &|| sealed::check(&project));
    if failed.is_empty() {
        println!("lint: all ok");
    } else {
        println!("lint: failed: {}", failed.join(", "));
    }
    Ok(failed.is_empty())
}

fn clippy_host(project: &Project) -> Result<()> {
    let options = ["--quiet", "--all-targets", "--features", "devices/qemu", "--", "-Dwarnings"];
    run_command(project.cargo(&["clippy"]).args(options))
}

/// One package at a time, as they are built: see `Project::build_bare`.
fn clippy_bare(project: &Project) -> Result<()> {
    project.bare_packages().try_for_each(|package| {
        let options = ["--quiet", "--target", TARGET, "--package", package.name.as_str(), "--", "-Dwarnings"];
        run_command(project.cargo(&["clippy"]).args(options))
    })
}

/// Only library code: a test may unwrap.
fn panics(project: &Project) -> Result<()> {
    let mut command = project.cargo(&["clippy", "--quiet", "--lib", "--no-deps"]);
    for package in GUEST_PATHS {
        command.args(["--package", package]);
    }
    command.arg("--");
    for lint in PANICS {
        command.arg(format!("-D{lint}"));
    }
    run_command(&mut command)
}

/// Adds what rustup has and this machine lacks; without rustup, says what is needed.
fn add_components() -> Result<()> {
    setup::ensure_target()?;
    for (tool, component) in [("cargo-fmt", "rustfmt"), ("cargo-clippy", "clippy")] {
        if answers(tool) {
            continue;
        }
        println!("lint: adding {component}");
        if run_command(Command::new("rustup").args(["component", "add", component])).is_err() {
            bail!("{component} is missing; type: rustup component add {component}");
        }
    }
    Ok(())
}

fn answers(tool: &str) -> bool {
    let mut command = Command::new(tool);
    command.arg("--version").stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}
