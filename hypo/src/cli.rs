//! The command line: what can be asked for. Carries nothing out: `run` and its neighbours do.

use crate::firmware::Firmware;
use crate::manifest::{Disk, Load, Net};
use bundle::VirtioTransport;
use clap::builder::PossibleValue;
use clap::{Args, Parser, Subcommand, ValueEnum};
use hypo_common::size::{Address, Size};
use hypo_common::status;
use hypo_debian::guests::Asset;
use regex::bytes::Regex;
use std::ffi::OsString;
use std::path::PathBuf;

/// Runs guest kernels on the Hypocaust hypervisor under QEMU.
#[derive(Debug, Parser)]
#[command(name = "hypo", version, after_help = status::help())]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Build, pack and run guests, with the console in this terminal
    #[command(after_help = status::help())]
    Run(Box<RunOptions>),
    /// Write the boot bundle of a manifest's guests
    Pack(PackOptions),
    /// Fetch Debian packages that guests are made of into the cache
    Fetch(FetchOptions),
    /// Say what is missing on this machine and what to type
    Doctor,
    /// For hypo itself: keeps the terminal raw until standard input ends
    #[command(name = crate::keeper::SUBCOMMAND, hide = true)]
    KeepTerminal,
    /// For hypo itself: becomes a program that ends with its parent
    #[command(name = hypo_common::bound::SUBCOMMAND, hide = true)]
    Bound(BoundOptions),
}

/// Options of the hidden subcommand that starts QEMU.
#[derive(Args, Debug)]
pub struct BoundOptions {
    /// The process identifier of the parent
    pub parent: i32,
    /// The program and its arguments
    #[arg(last = true, required = true)]
    pub command: Vec<OsString>,
}

/// Options of `hypo pack`.
#[derive(Args, Debug)]
pub struct PackOptions {
    /// The manifest, a TOML file
    pub manifest: PathBuf,
    /// The bundle to write
    #[arg(short, long, value_name = "BUNDLE")]
    pub output: PathBuf,
}

/// Options of `hypo fetch`.
#[derive(Args, Debug)]
pub struct FetchOptions {
    /// What to fetch
    pub asset: Asset,
}

/// Options of `hypo run`.
#[derive(Args, Debug)]
pub struct RunOptions {
    /// minikernel, linux, debian, u-boot, or a manifest (a TOML file) [default: minikernel]
    #[arg(conflicts_with = "kernel")]
    pub guest: Option<String>,
    /// The guest, in QEMU's words.
    #[command(flatten)]
    pub vm: VmOptions,
    /// The machine.
    #[command(flatten)]
    pub host: HostOptions,
    /// When it ends.
    #[command(flatten)]
    pub run: EndOptions,
}

/// One guest, in QEMU's words.
#[derive(Args, Debug)]
#[command(next_help_heading = "The guest")]
pub struct VmOptions {
    /// Kernel: a Linux Image, an ELF, a U-Boot legacy image or a flat binary; also packed
    #[arg(long, value_name = "FILE")]
    pub kernel: Option<PathBuf>,
    /// Initial RAM disk, also as a U-Boot legacy image
    #[arg(long, value_name = "FILE")]
    pub initrd: Option<PathBuf>,
    /// Kernel command line, in place of the guest's usual one
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    pub append: Option<String>,
    /// Guest RAM, a multiple of 2M
    #[arg(long, value_name = "SIZE")]
    pub memory: Option<Size>,
    /// Virtual harts
    #[arg(long, value_name = "N")]
    pub vcpus: Option<u32>,
    /// Put a file into guest memory as it is; may be repeated
    #[arg(long, value_name = "FILE@ADDRESS")]
    pub load: Vec<Load>,
    /// Attach a raw disk image; may be repeated
    #[arg(long, value_name = "FILE[,readonly][,snapshot][,size=SIZE]")]
    pub disk: Vec<Disk>,
    /// Attach QEMU's user network; may be repeated
    #[arg(long, value_name = "user[,forward=tcp:PORT:PORT][,mac=MAC]")]
    pub net: Vec<Net>,
    /// The transport of the guests' virtio devices, as QEMU's force-legacy=false (modern) or true (legacy) [default:
    /// modern]
    #[arg(long, value_name = "modern|legacy")]
    pub virtio: Option<Transport>,
    /// Drop at the end what guests write to disks
    #[arg(long)]
    pub snapshot: bool,
    /// Begin with Debian's disk as it was made; what was written to it is lost
    #[arg(long)]
    pub fresh: bool,
    /// End the run when the guest asks for a reset
    #[arg(long)]
    pub no_reboot: bool,
    /// Whether hot pages of kernel code are rewritten [default: on]
    #[arg(long, value_name = "on|off")]
    pub rewrite: Option<OnOff>,
    /// Whether the hottest exits are served in assembly [default: on]
    #[arg(long, value_name = "on|off")]
    pub fast: Option<OnOff>,
    /// Leave out what cannot be kept exactly as on hardware
    #[arg(long)]
    pub exact: bool,
}

/// A switch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum OnOff {
    /// On.
    On,
    /// Off.
    Off,
}

impl From<OnOff> for bool {
    fn from(switch: OnOff) -> Self {
        switch == OnOff::On
    }
}

/// The transport of virtio devices as an option.
#[derive(Clone, Copy, Debug)]
pub struct Transport(pub VirtioTransport);

impl ValueEnum for Transport {
    fn value_variants<'a>() -> &'a [Self] {
        const { &[Self(VirtioTransport::ALL[0]), Self(VirtioTransport::ALL[1])] }
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(PossibleValue::new(self.0.name()).help(match self.0 {
            VirtioTransport::Modern => "Version 2, as QEMU's with `force-legacy=false`",
            VirtioTransport::Legacy => "Version 1, as QEMU's are by default",
        }))
    }
}

/// The machine that QEMU emulates, and the hypervisor on it.
#[derive(Args, Debug)]
#[command(next_help_heading = "The host")]
pub struct HostOptions {
    /// Boot the guest on QEMU directly, without the hypervisor
    #[arg(long)]
    pub native: bool,
    /// M-mode firmware: default (QEMU's own OpenSBI), opensbi-1.6 (Debian 13's, fetched), rustsbi (this project's,
    /// built), or a file
    #[arg(long, value_name = "default|opensbi-1.6|rustsbi|FILE", default_value = "default")]
    pub firmware: Firmware,
    /// Real harts [default: the machine's own number]; no effect with --native
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub harts: Option<u32>,
    /// Real RAM [default: enough for the guests]; no effect with --native
    #[arg(long, value_name = "SIZE")]
    pub host_memory: Option<Size>,
    /// QEMU's CPU model [default: rv64,h=off on virt, else the machine's own]
    #[arg(long, value_name = "MODEL")]
    pub cpu: Option<String>,
    /// QEMU's machine
    #[arg(long, value_name = "MODEL", default_value = hypo_common::qemu::VIRT)]
    pub machine: String,
    /// QEMU's program
    #[arg(long, value_name = "PATH", default_value = hypo_common::setup::QEMU)]
    pub qemu: PathBuf,
    /// Count instructions: each takes one nanosecond of the machine's time
    #[arg(long)]
    pub icount: bool,
    /// Wait for a debugger at localhost:1234 before the first instruction
    #[arg(long)]
    pub gdb: bool,
    /// One more argument for QEMU; may be repeated
    #[arg(long, value_name = "ARGUMENT", allow_hyphen_values = true)]
    pub qemu_arg: Vec<String>,
    /// The hypervisor's verbosity, 0 (errors) to 4 (everything)
    #[arg(long, value_name = "0-4")]
    pub log_level: Option<u8>,
    /// Check the shadow page tables' invariants at every Nth exit
    #[arg(long, value_name = "N")]
    pub check_every: Option<u32>,
    /// Have virtual harts lose their caches at every Nth exit
    #[arg(long, value_name = "N")]
    pub drop_caches_every: Option<u32>,
    /// Where the hypervisor lives on a host with Sv39 only, a multiple of 1 GiB
    #[arg(long, value_name = "ADDRESS")]
    pub window: Option<Address>,
}

/// When the run ends.
#[derive(Args, Debug)]
#[command(next_help_heading = "The end")]
pub struct EndOptions {
    /// End with status 0 as soon as a line of the console matches; `$` is the end of a whole line
    #[arg(long, value_name = "REGEX", allow_hyphen_values = true)]
    pub expect: Option<Regex>,
    /// End with status 34 as soon as a line of the console matches
    #[arg(long, value_name = "REGEX", allow_hyphen_values = true)]
    pub fail: Option<Regex>,
    /// End with status 124 (with --expect: 36) after this time
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..))]
    pub timeout: Option<u64>,
    /// Print the guests' memory maps and device trees and QEMU's command line, and run nothing
    #[arg(long)]
    pub dry_run: bool,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    fn run(words: &[&str]) -> Result<Box<RunOptions>, String> {
        match Cli::try_parse_from(["hypo", "run"].iter().chain(words)) {
            Ok(Cli { command: Command::Run(options) }) => Ok(options),
            Ok(_) => Err("another command".into()),
            Err(error) => Err(error.to_string()),
        }
    }

    #[test]
    fn qemus_words_are_understood() {
        let options =
            run(&["--kernel", "k", "--append", "-x y", "--memory", "64", "--load", "f@0x84000000"]).unwrap();
        assert_eq!(options.vm.append.as_deref(), Some("-x y"));
        assert_eq!(options.vm.memory, Some(Size(64 << 20)));
        assert_eq!(options.vm.load[0].address, Address(0x8400_0000));
        assert_eq!((options.vm.rewrite, options.vm.exact), (None, false));
    }

    #[test]
    fn bad_values_are_named() {
        assert!(run(&["--memory", "12Q"]).unwrap_err().contains("is not a size"));
        assert!(run(&["--expect", "("]).unwrap_err().contains("regex parse error"));
        assert!(run(&["--timeout", "0"]).unwrap_err().contains("0 is not in 1.."));
        assert!(run(&["--harts", "0"]).unwrap_err().contains("0 is not in 1.."));
        assert!(run(&["linux", "--kernel", "k"]).unwrap_err().contains("cannot be used with"));
        assert!(run(&["--fast", "no"]).unwrap_err().contains("possible values: on, off"));
        assert!(run(&["--virtio", "1"]).unwrap_err().contains("possible values: modern, legacy"));
        assert!(run(&["--load", "f"]).unwrap_err().contains("has no address"));
        assert!(run(&["--net", "lan"]).unwrap_err().contains("write user"));
        assert!(run(&["--disk", "x,size=1Q"]).unwrap_err().contains("is not a size"));
    }
}
