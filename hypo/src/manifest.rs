//! The guests that a run consists of. Reads no file: `load` does; opens no kernel: `pack` does; looks at no disk: `attach`
//! does. docs/manifest.md has every key. What guests' settings are called is decided by `bundle`, whose types these are.

mod disks;
mod nets;

pub use disks::{Disk, Source};
pub use nets::{Forward, Net, Switch, To, Uplink, switch_index};

use crate::text::Text;
use bundle::{ConsoleConfig, DEFAULT_RESTART_DELAY, DEFAULT_WEIGHT, OnReset, OnStop, Show, VirtioTransport};
use hypo_common::error::Error;
use hypo_common::size::{Address, Delay, Size};
use hypo_debian::guests::Ready;
use serde::Deserialize;
use std::path::PathBuf;
use std::str::FromStr;

/// A guest's RAM where nothing else is said.
pub const DEFAULT_MEMORY: Size = Size(512 << 20);

/// A manifest, read.
#[derive(Clone, Debug, PartialEq)]
pub struct Manifest {
    /// Settings of the hypervisor.
    pub host: Host,
    /// The switches between guests.
    pub switches: Vec<Switch>,
    /// The guests.
    pub vms: Vec<Vm>,
    /// What the operator should know at the start.
    pub hints: Vec<String>,
    /// The file that it was read from.
    pub(crate) text: Option<Text>,
}

/// Settings of the hypervisor.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Host {
    /// Log verbosity, 0 to 4.
    pub log_level: Option<u8>,
    /// Exits between two scans of the shadow tables for broken invariants; 0, the default, is never.
    pub check_every: Option<u32>,
    /// Exits between two moments at which a vCPU loses its caches; 0, the default, is never.
    pub drop_caches_every: Option<u32>,
    /// Where the hypervisor lives on a host with Sv39 only.
    pub window: Option<Address>,
    /// What the console shows at the start.
    #[serde(default)]
    pub show: Show,
}

/// One guest.
#[derive(Clone, Debug, PartialEq)]
pub struct Vm {
    /// Its name, unique in the manifest.
    pub name: String,
    /// The kernel: a Linux `Image`, an ELF or a flat binary, any of them also gzip-ed.
    pub kernel: PathBuf,
    /// The initial RAM disk.
    pub initrd: Option<PathBuf>,
    /// The kernel command line.
    pub append: String,
    /// RAM.
    pub memory: Size,
    /// Virtual harts.
    pub vcpus: u32,
    /// Its share of the processor, beside the others'.
    pub weight: u32,
    /// The most that it gets of a hart, in percent.
    pub cap: Option<u32>,
    /// Its disks.
    pub disks: Vec<Disk>,
    /// Its network interfaces.
    pub nets: Vec<Net>,
    /// Its consoles.
    pub console: ConsoleConfig,
    /// The transport of its virtio devices.
    pub virtio: VirtioTransport,
    /// What a reset does.
    pub on_reset: OnReset,
    /// What happens when it cannot go on.
    pub on_stop: OnStop,
    /// The longest that it waits before it is started again.
    pub max_restart_delay: Delay,
    /// Whether it runs from the start.
    pub autostart: bool,
    /// Whether hot pages of kernel code are rewritten.
    pub rewrite: bool,
    /// Whether the hottest exits are served in assembly.
    pub fast: bool,
    /// Whether what cannot be kept exactly as on hardware is left out.
    pub exact: bool,
    /// More files to put into memory.
    pub load: Vec<Load>,
}

/// A file that is put into memory as it is. On the command line: `FILE@ADDRESS`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Load {
    /// The file.
    pub file: PathBuf,
    /// Guest-physical address, a multiple of 8.
    pub address: Address,
}

impl FromStr for Load {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let (file, address) =
            text.rsplit_once('@').ok_or_else(|| format!("`{text}` has no address; write FILE@0x84000000"))?;
        Ok(Self { file: file.into(), address: address.parse()? })
    }
}

impl Vm {
    /// A guest of this name and kernel with the defaults for everything else.
    pub fn new(name: &str, kernel: PathBuf) -> Self {
        Self {
            name: name.to_owned(),
            kernel,
            initrd: None,
            append: String::new(),
            memory: DEFAULT_MEMORY,
            vcpus: 1,
            weight: DEFAULT_WEIGHT,
            cap: None,
            disks: Vec::new(),
            nets: Vec::new(),
            console: ConsoleConfig::Uart,
            virtio: VirtioTransport::Modern,
            on_reset: OnReset::Restart,
            on_stop: OnStop::Stay,
            max_restart_delay: Delay(DEFAULT_RESTART_DELAY),
            autostart: true,
            rewrite: true,
            fast: true,
            exact: false,
            load: Vec::new(),
        }
    }
}

/// A guest that has a name, with the defaults for everything that it does not ask for.
impl From<&Ready> for Vm {
    fn from(ready: &Ready) -> Self {
        let loads = ready.loads.iter().map(|(file, address)| Load { file: file.clone(), address: *address });
        let network = ready.has_network.then(|| Net { to: To::User(Vec::new()), mac: None, rate: None });
        Self {
            initrd: ready.initrd.clone(),
            append: ready.append.clone(),
            memory: ready.memory.unwrap_or(DEFAULT_MEMORY),
            disks: ready.disk.iter().cloned().map(Disk::file).collect(),
            nets: network.into_iter().collect(),
            load: loads.collect(),
            ..Self::new(ready.name, ready.kernel.clone())
        }
    }
}

impl Manifest {
    /// A manifest of one guest.
    pub fn of(vm: Vm) -> Self {
        Self { host: Host::default(), switches: Vec::new(), vms: vec![vm], hints: Vec::new(), text: None }
    }

    /// The error with its place in the file: `key` is as in `vm.1.disk.0.file`. As it is without a file.
    pub fn at(&self, key: &str, error: Error) -> Error {
        match &self.text {
            Some(text) => text.at(key, error),
            None => error,
        }
    }

    /// Forgets the file, for it no longer says what the guests are.
    pub fn detach(&mut self) {
        self.text = None;
    }
}
