//! The boot bundle: what `hypo pack` writes and the hypervisor finds in its initrd slot.
//!
//! This file holds what a bundle says; `check` the rules that it keeps; `format` how it is laid out in bytes.
//! Laying out a guest's memory is the writer's work, so the hypervisor parses no kernel formats.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod check;
pub mod format;

pub use check::{ManifestError, VmError};

use alloc::string::String;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

/// Guest-physical address of the first byte of RAM, as on QEMU's `virt` machine.
pub const RAM_BASE: u64 = 0x8000_0000;
/// Bytes kept free for the guest's device tree at [`VmConfig::device_tree`].
pub const DEVICE_TREE_SLOT: u64 = 2 << 20;

/// Everything a bundle describes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// Settings of the hypervisor itself.
    pub host: HostSettings,
    /// The virtual machines, in the order of the manifest.
    pub vms: Vec<VmConfig>,
}

/// Settings of the hypervisor itself.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct HostSettings {
    /// Fresh entropy for the guests' rng-seed, mixed with the host's own.
    pub seed: [u8; 32],
    /// Where the hypervisor's window lies on a host with Sv39 only; `None` takes the default.
    /// A multiple of 1 GiB, canonical in Sv39.
    pub window: Option<u64>,
    /// Log verbosity: 0 errors, 1 warnings, 2 what starts and ends, 3 with exit counters, 4 with details.
    pub log_level: u8,
    /// Exits between two scans of the shadow tables for broken invariants; 0 is never. For tests: it is slow.
    pub check_every: u32,
}

/// What happens when a guest asks for a reset.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum OnReset {
    /// Start again from the bundle with fresh memory.
    Restart,
    /// Power the machine off with exit status 32 (`--no-reboot`).
    Exit,
}

/// One virtual machine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct VmConfig {
    /// Its name, unique in the bundle.
    pub name: String,
    /// Bytes of RAM from guest-physical 0x8000_0000; a multiple of 2 MiB.
    pub memory: u64,
    /// Virtual harts.
    pub vcpus: u32,
    /// Guest-physical address of the first instruction.
    pub entry: u64,
    /// The kernel command line.
    pub bootargs: String,
    /// What memory holds at the start; the rest is zero. Ranges do not overlap.
    pub segments: Vec<Segment>,
    /// Guest-physical range of the initial RAM disk, which is also one of the segments.
    pub initrd: Option<InitrdRange>,
    /// Guest-physical address of the device tree; 2 MiB are kept free there.
    pub device_tree: u64,
    /// What a reset does.
    pub on_reset: OnReset,
    /// How the hypervisor goes about it.
    pub switches: Switches,
}

/// Parts of the hypervisor that can be switched off for a guest, to find out whether one of them is at fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Switches {
    /// Hot pages of kernel code are copied and their privileged instructions replaced.
    pub rewrite: bool,
    /// The hottest exits are served in assembly.
    pub fast: bool,
    /// What cannot be kept exactly as on hardware is not done at all.
    pub exact: bool,
}

/// All that is fast, with the limits that docs/differences.md tells of.
impl Default for Switches {
    fn default() -> Self {
        Self { rewrite: true, fast: true, exact: false }
    }
}

/// A piece of a guest's initial memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Segment {
    /// Guest-physical address; a multiple of 8.
    pub address: u64,
    /// Offset in the bundle's payload; a multiple of 8.
    pub offset: u64,
    /// Bytes; the payload is zero-padded to a multiple of 8.
    pub len: u64,
}

/// Where the initial RAM disk lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InitrdRange {
    /// Guest-physical address.
    pub address: u64,
    /// Bytes.
    pub len: u64,
}
