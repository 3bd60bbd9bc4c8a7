//! Gets hold of what this machine lacks: Rust's bare-metal target, QEMU, Debian's tools. Installs where that
//! needs no password; otherwise says what to type.

use crate::build::{self, TARGET};
use crate::error::{Error, Result};
use crate::{qemu, say};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The QEMU that is used unless another is named.
pub const QEMU: &str = "qemu-system-riscv64";

/// Makes sure that Rust can build for the bare machine.
///
/// # Errors
/// The target is missing and rustup cannot add it.
pub fn ensure_target() -> Result<()> {
    if has_target() {
        return Ok(());
    }
    say::tell(format_args!("adding Rust's target {TARGET}"));
    let mut command = Command::new("rustup");
    command.args(["target", "add", TARGET]).current_dir(build::workspace());
    let added = command.stdin(Stdio::null()).status().is_ok_and(|status| status.success());
    if added && has_target() {
        return Ok(());
    }
    Err(Error::new(format_args!("Rust's target {TARGET} is missing and could not be added"))
        .remedy(add_target()))
}

/// What to type for [`ensure_target`].
pub fn add_target() -> String {
    format!("install rustup, then type: rustup target add {TARGET}")
}

/// Whether Rust can build for the bare machine. Asks the compiler, so it holds without rustup, too.
pub fn has_target() -> bool {
    let compiler = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let mut command = Command::new(compiler);
    command.args(["--print", "target-libdir", "--target", TARGET]).current_dir(build::workspace());
    command.stderr(Stdio::null()).output().is_ok_and(|output| {
        let folder = String::from_utf8_lossy(&output.stdout);
        output.status.success() && Path::new(folder.trim()).is_dir()
    })
}

/// Makes sure that the QEMU at `program` starts, is new enough, and has its own firmware if that is needed.
///
/// # Errors
/// Something is missing and could not be installed, or QEMU is too old.
pub fn ensure_qemu(program: &Path, own_firmware: bool) -> Result<()> {
    let usual = program == Path::new(QEMU);
    if usual && !on_path(QEMU) {
        install(qemu_packages())?;
    }
    qemu::check_version(program)?;
    if own_firmware && usual && !qemu::has_default_firmware(program) {
        install(&["opensbi"])?;
    }
    Ok(())
}

/// The packages that QEMU comes in: Debian 13 gave RISC-V a package of its own.
pub fn qemu_packages() -> &'static [&'static str] {
    let has_own = Command::new("apt-cache").args(["show", "qemu-system-riscv"]).output();
    if has_own.is_ok_and(|output| output.status.success() && !output.stdout.is_empty()) {
        &["qemu-system-riscv", "opensbi"]
    } else {
        &["qemu-system-misc", "opensbi"]
    }
}

/// Makes sure that each of these programs can be started; each comes with the package that has it.
///
/// # Errors
/// One is missing and its package could not be installed.
pub fn ensure_programs(programs: &[(&str, &'static str)]) -> Result<()> {
    let missing: Vec<&str> =
        programs.iter().filter(|(program, _)| !on_path(program)).map(|(_, package)| *package).collect();
    if missing.is_empty() { Ok(()) } else { install(&missing) }
}

/// The path of a program for administrators, such as `mke2fs`, which a user's `PATH` need not lead to.
///
/// # Errors
/// It is missing and its package could not be installed.
pub fn system_program(name: &str, package: &'static str) -> Result<PathBuf> {
    let find = || {
        let folders = std::env::var_os("PATH").unwrap_or_default();
        let folders = std::env::split_paths(&folders).chain(["/usr/sbin".into(), "/sbin".into()]);
        folders.map(|folder: PathBuf| folder.join(name)).find(|path| path.is_file())
    };
    if let Some(path) = find() {
        return Ok(path);
    }
    install(&[package])?;
    find().ok_or_else(|| Error::new(format_args!("the package {package} brought no program `{name}`")))
}

/// Installs Debian packages.
///
/// # Errors
/// There is no apt, no right to use it, or it fails; the message has the command to type.
pub fn install(packages: &[&str]) -> Result<()> {
    let names = packages.join(" ");
    let by_hand = install_command(packages);
    if !on_path("apt-get") {
        return Err(Error::new(format_args!("missing on this machine: {names}"))
            .remedy("install them with your system's package manager (these are Debian's names)"));
    }
    let root = rustix::process::geteuid().is_root();
    let sudo = !root && succeeds(Command::new("sudo").args(["-n", "true"]));
    if !root && !sudo {
        return Err(Error::new(format_args!("missing on this machine: {names}"))
            .remedy(format_args!("type: {by_hand}")));
    }
    say::tell(format_args!("installing {names} with apt-get"));
    let apt = |arguments: &[&str]| {
        let words: &[&str] = if sudo { &["sudo", "-n", "env"] } else { &["env"] };
        let mut words =
            words.iter().chain(&["DEBIAN_FRONTEND=noninteractive", "apt-get", "-qq"]).chain(arguments);
        words.next().is_some_and(|program| succeeds(Command::new(program).args(words)))
    };
    let install = [&["install", "-y", "--no-install-recommends"], packages].concat();
    // A fresh container has no package lists yet.
    if apt(&install) || (apt(&["update"]) && apt(&install)) {
        return Ok(());
    }
    Err(Error::new(format_args!("apt-get could not install {names}"))
        .remedy(format_args!("see what it says to: {by_hand}")))
}

/// What to type to install Debian packages.
pub fn install_command(packages: &[&str]) -> String {
    format!("sudo apt-get update && sudo apt-get install {}", packages.join(" "))
}

/// Whether a program of this name is on the path.
pub fn on_path(program: impl AsRef<OsStr>) -> bool {
    let folders = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&folders).any(|folder| folder.join(program.as_ref()).is_file())
}

fn succeeds(command: &mut Command) -> bool {
    let quiet = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    quiet.status().is_ok_and(|status| status.success())
}
