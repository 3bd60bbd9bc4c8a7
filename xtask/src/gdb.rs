//! `cargo xtask gdb`: a guest under QEMU that waits for gdb, and gdb with the hypervisor's symbols.
//!
//! gdb takes the terminal, so the console goes to a file; with `--console` it is the other way round.

use crate::expect::end_group;
use crate::project::{Project, show};
use anyhow::{Context, Result};
use std::fs::File;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

/// gdb's names, the more likely first.
const GDBS: &[&str] = &["gdb-multiarch", "riscv64-linux-gnu-gdb", "riscv64-unknown-elf-gdb"];
/// Where QEMU's gdb server listens with `-s`.
const SERVER: &str = "localhost:1234";
/// Where the image, linked at 0, runs on a host with Sv57, as QEMU's default CPU is. Others: docs/debugging.md.
const WINDOW: &str = "0xff00000000000000";

/// What to run.
#[derive(clap::Args)]
pub struct Options {
    /// Keep the console in this terminal and print the gdb command for another one
    #[arg(long)]
    console: bool,
    /// What `hypo run` gets: a guest and its options
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "HYPO RUN ARGUMENTS")]
    arguments: Vec<String>,
}

/// Runs until gdb, or with `--console` the guest, has ended.
pub fn run(options: &Options) -> Result<bool> {
    let project = Project::load()?;
    let hypo = project.build_hypo()?;
    project.build_bare(&["hypocaust"])?;
    let image = project.bare_program("hypocaust");

    let mut qemu = Command::new(hypo);
    qemu.arg("run").args(&options.arguments).arg("--gdb");
    let found = GDBS.iter().find(|gdb| is_installed(gdb));
    let mut gdb = Command::new(found.unwrap_or(&GDBS[0]));
    gdb.args(["-ex", &format!("symbol-file -o {WINDOW} {}", image.display())]);
    gdb.args(["-ex", &format!("target remote {SERVER}")]);

    if options.console || found.is_none() {
        if found.is_none() {
            println!("gdb for RISC-V is missing; type: sudo apt-get install gdb-multiarch");
        }
        println!("QEMU waits for gdb; in another terminal type:\n  {}", show(&gdb));
        return Ok(qemu.status().context("hypo cannot be started")?.success());
    }

    let console = project.target_directory().join("gdb-console.log");
    let file = File::create(&console).with_context(|| format!("cannot write {}", console.display()))?;
    println!("The console goes to {}; try `tail -f` on it.", console.display());
    // In a group of its own, so that Ctrl-C in gdb stops the hypervisor and not QEMU.
    qemu.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file).process_group(0);
    let mut qemu = qemu.spawn().context("hypo cannot be started")?;
    let status = gdb.status().context("gdb cannot be started");
    // gdb's `kill` ends QEMU, its `quit` does not.
    end_group(&mut qemu);
    Ok(status?.success())
}

fn is_installed(program: &str) -> bool {
    let mut command = Command::new(program);
    command.arg("--version").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}
