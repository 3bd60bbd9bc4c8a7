//! `hypo doctor`: what this machine has and lacks, and what to type. Installs nothing.

use hypo_common::cache::Cache;
use hypo_common::error::Result;
use hypo_common::status::Status;
use hypo_common::{build, qemu, say, setup};
use hypo_debian::guests::Asset;
use std::fmt;
use std::path::Path;

/// One thing looked at.
struct Finding {
    what: String,
    /// What to type where it is missing.
    remedy: Option<String>,
    /// Whether nothing works without it.
    needed: bool,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.remedy {
            None => write!(f, "  ok       {}", self.what),
            Some(remedy) => {
                let mark = if self.needed { "MISSING" } else { "not yet" };
                write!(f, "  {mark}  {}\n             {remedy}", self.what)
            }
        }
    }
}

/// Prints the findings. The status is a failure if something needed is missing.
///
/// # Errors
/// The findings cannot be printed; what cannot be found out is a finding.
pub fn run() -> Result<Status> {
    let findings = [
        toolchain(),
        emulator(),
        firmware(),
        tools(),
        cached(Asset::Linux),
        cached(Asset::Debian),
        cached(Asset::UBoot),
        cached(Asset::OpenSbi16),
    ];
    for finding in &findings {
        say::print(finding)?;
    }
    let broken = findings.iter().any(|finding| finding.needed && finding.remedy.is_some());
    say::print(if broken { "`cargo hypo run` does what it can of this by itself." } else { "Ready." })?;
    Ok(if broken { Status::Failed } else { Status::PoweredOff })
}

fn finding(what: impl Into<String>, needed: bool, present: bool, remedy: impl FnOnce() -> String) -> Finding {
    Finding { what: what.into(), needed, remedy: (!present).then(remedy) }
}

fn toolchain() -> Finding {
    finding(format!("Rust's target {}", build::TARGET), true, setup::has_target(), setup::add_target)
}

fn emulator() -> Finding {
    let install = || format!("type: {}", setup::install_command(setup::qemu_packages()));
    let program = Path::new(setup::QEMU);
    match qemu::version(program) {
        Ok((major, minor)) => {
            let what = format!("QEMU {major}.{minor} as {}", setup::QEMU);
            finding(what, true, qemu::check_version(program).is_ok(), || {
                "install QEMU 7.2 or later".to_owned()
            })
        }
        Err(_) => finding(format!("QEMU as {}", setup::QEMU), true, false, install),
    }
}

fn firmware() -> Finding {
    let present = qemu::has_default_firmware(Path::new(setup::QEMU));
    finding("OpenSBI, QEMU's default firmware", true, present, || {
        format!("type: {}", setup::install_command(&["opensbi"]))
    })
}

fn tools() -> Finding {
    let present = ["apt-get", "dpkg-deb", "tar"].iter().all(setup::on_path);
    finding("apt-get, dpkg-deb and tar, to fetch guests with", false, present, || {
        "fetch on a Debian machine and copy its cache folder, or use --kernel with your own files".to_owned()
    })
}

fn cached(asset: Asset) -> Finding {
    let name = asset.name();
    let present = Cache::open().is_ok_and(|cache| asset.is_in(&cache));
    finding(format!("{name} in the cache"), false, present, || {
        format!("`{}` fetches it; or type: cargo hypo fetch {name}", asset.used_by())
    })
}
