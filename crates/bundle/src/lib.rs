//! The boot bundle: what `hypo pack` writes and the hypervisor finds in its initrd slot.
//!
//! This file holds what a bundle says, `attached` what it says of disks and networks; `check` the rules that it keeps;
//! `format` how it is laid out in bytes.
//! Laying out a guest's memory is the writer's work, so the hypervisor parses no kernel formats. A manifest's TOML file reads
//! settings into the same types, so what a setting may be, and what it is called, is here alone.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod attached;
mod check;
pub mod format;

pub use attached::{
    Attach, ConsoleConfig, DiskConfig, DiskSource, Mac, NetConfig, NicId, NoMac, Partition, SwitchConfig,
    VirtioTransport,
};
pub use check::{Bytes, DiskError, ManifestError, NetError, VmError};

use alloc::string::String;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

/// Guest-physical address of the first byte of RAM, as on QEMU's `virt` machine.
pub const RAM_BASE: u64 = 0x8000_0000;
/// Bytes kept free for the guest's device tree at [`VmConfig::device_tree`].
pub const DEVICE_TREE_SLOT: u64 = 2 << 20;
/// The most virtual machines in a bundle.
pub const MAX_VMS: usize = 32;
/// The most virtio devices of a guest, its entropy device included; as many slots as its board has.
pub const MAX_DEVICES: usize = 8;
/// The weight of a guest that asks for none.
pub const DEFAULT_WEIGHT: u32 = 100;

/// The longest delay before a restart of a guest that asks for none, and the longest that one may ask for, in milliseconds.
pub const DEFAULT_RESTART_DELAY: u32 = 60_000;
/// See [`DEFAULT_RESTART_DELAY`].
pub const MAX_RESTART_DELAY: u32 = 3_600_000;

/// Everything a bundle describes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// Settings of the hypervisor itself.
    pub host: HostSettings,
    /// The layer-2 switches between guests; [`Attach::Switch`] counts them from 0.
    pub switches: Vec<SwitchConfig>,
    /// The virtual machines, in the order of the manifest.
    pub vms: Vec<VmConfig>,
}

/// Settings of the hypervisor itself.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct HostSettings {
    /// Random bytes from whoever made the bundle, mixed with what the host has.
    pub seed: [u8; 32],
    /// The bundle is booted once, so that nobody has seen its seed before. `hypo run` makes such bundles, `hypo pack` does
    /// not.
    pub seed_is_fresh: bool,
    /// Where the hypervisor's window lies on a host with Sv39 only; `None` takes the default.
    /// A multiple of 1 GiB, canonical in Sv39.
    pub window: Option<u64>,
    /// Log verbosity: 0 errors, 1 warnings, 2 what starts and ends, 3 with exit counters, 4 with details.
    pub log_level: u8,
    /// Exits between two scans of the shadow tables for broken invariants; 0 is never. For tests: it is slow.
    pub check_every: u32,
    /// Exits between two moments at which a vCPU loses its caches, and each second time all but its serialised state; 0 is never.
    /// For tests: it is slow.
    pub drop_caches_every: u32,
    /// What the operator's console shows at the start.
    pub show: Show,
}

/// What the operator's console shows at the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Show {
    /// The first guest's console.
    #[default]
    First,
    /// All guests' output, in lines with the guest's name in front.
    All,
}

/// What happens when a guest asks for a reset.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnReset {
    /// Start again from the bundle with fresh memory.
    #[default]
    Restart,
    /// Leave the guest off, as after a power-off; the others go on.
    Stop,
    /// Power the machine off with exit status 32 (`--no-reboot`).
    Exit,
}

/// What happens when the hypervisor stops a guest that cannot go on, or a guest reports failure.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnStop {
    /// Leave it off for the operator to look at; the others go on.
    #[default]
    Stay,
    /// Start it again from the bundle with fresh memory.
    Restart,
    /// Power the machine off with the guest's exit status.
    Exit,
}

/// One virtual machine. The default is what a guest gets that asks for nothing; its name, memory, entry point and
/// device tree are yet to be filled in.
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
    /// Its share of a hart that others want, too: 1 to 10,000, in relation to their weights.
    pub weight: u32,
    /// The most of a hart that it gets, even when nobody else wants it: 1 to 100 percent.
    pub cap: Option<u32>,
    /// Its disks, in the order of their slots, from slot 0 up.
    pub disks: Vec<DiskConfig>,
    /// Its network interfaces, in the order of their slots, which follow the disks'.
    pub nets: Vec<NetConfig>,
    /// Its consoles.
    pub console: ConsoleConfig,
    /// The transport of its virtio devices.
    pub virtio: VirtioTransport,
    /// What a reset does.
    pub on_reset: OnReset,
    /// What happens when it cannot go on.
    pub on_stop: OnStop,
    /// The longest that it waits before it is started again, in milliseconds, at most [`MAX_RESTART_DELAY`]; 0 is not at
    /// all. The first time it does not wait, then twice as long each time; a minute of life begins anew.
    pub max_restart_delay: u32,
    /// Whether it runs from the start; otherwise the operator starts it.
    pub autostart: bool,
    /// How the hypervisor goes about it.
    pub switches: Switches,
}

impl Default for VmConfig {
    fn default() -> Self {
        Self {
            name: String::new(),
            memory: 0,
            vcpus: 1,
            entry: 0,
            bootargs: String::new(),
            segments: Vec::new(),
            initrd: None,
            device_tree: 0,
            weight: DEFAULT_WEIGHT,
            cap: None,
            disks: Vec::new(),
            nets: Vec::new(),
            console: ConsoleConfig::default(),
            virtio: VirtioTransport::default(),
            on_reset: OnReset::default(),
            on_stop: OnStop::default(),
            max_restart_delay: DEFAULT_RESTART_DELAY,
            autostart: true,
            switches: Switches::default(),
        }
    }
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
