//! The guests that a run consists of, and the TOML file that describes them. Opens no kernel: `pack` does; looks at no
//! disk: `attach` does. docs/manifest.md has every key.

mod disks;
mod nets;
mod text;

pub use disks::{Disk, Source};
pub use nets::{Forward, Net, Switch, To, Uplink, switch_index};

use crate::error::{Error, Result};
use crate::guests::{Named, Ready};
use crate::size::{Address, Delay, Size};
use bundle::{ConsoleConfig, DEFAULT_RESTART_DELAY, DEFAULT_WEIGHT, OnReset, OnStop, VirtioTransport};
use serde::{Deserialize, Deserializer, de};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use text::{Text, nearest, quoted};

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
    text: Option<Text>,
}

/// Settings of the hypervisor.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Host {
    /// Log verbosity, 0 to 4.
    pub log_level: Option<u8>,
    /// Exits between two scans of the shadow tables for broken invariants; 0, the default, is never.
    pub check_every: Option<u32>,
    /// Where the hypervisor lives on a host with Sv39 only.
    pub window: Option<Address>,
    /// What the console shows at the start.
    #[serde(default)]
    pub show: Show,
}

/// What the console shows at the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Show {
    /// The first guest's console.
    #[default]
    First,
    /// All guests' lines.
    All,
}

impl From<Show> for bundle::Show {
    fn from(show: Show) -> Self {
        match show {
            Show::First => Self::First,
            Show::All => Self::All,
        }
    }
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
    pub console: Console,
    /// The transport of its virtio devices.
    pub virtio: Virtio,
    /// What a reset does.
    pub on_reset: Reset,
    /// What happens when it cannot go on.
    pub on_stop: Stop,
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

/// The whole file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    host: Host,
    #[serde(default)]
    switch: Vec<Switch>,
    #[serde(default)]
    vm: Vec<VmTable>,
}

/// `[[vm]]`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct VmTable {
    name: String,
    #[serde(default, deserialize_with = "named")]
    guest: Option<Named>,
    kernel: Option<PathBuf>,
    initrd: Option<PathBuf>,
    append: Option<String>,
    memory: Option<Size>,
    vcpus: Option<u32>,
    weight: Option<u32>,
    cap: Option<u32>,
    #[serde(default)]
    console: Console,
    #[serde(default)]
    virtio: Virtio,
    #[serde(default)]
    on_reset: Reset,
    #[serde(default)]
    on_stop: Stop,
    max_restart_delay: Option<Delay>,
    #[serde(default = "yes")]
    autostart: bool,
    #[serde(default = "yes")]
    rewrite: bool,
    #[serde(default = "yes")]
    fast: bool,
    #[serde(default)]
    exact: bool,
    #[serde(default)]
    disk: Vec<Disk>,
    #[serde(default)]
    net: Vec<Net>,
    #[serde(default)]
    load: Vec<Load>,
}

/// A guest's consoles.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Console {
    /// The UART.
    #[default]
    Uart,
    /// A virtio console beside it.
    Virtio,
}

/// Which transport a guest's virtio devices have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Virtio {
    /// Version 2, as QEMU's with `force-legacy=false`.
    #[default]
    Modern,
    /// Version 1, as QEMU's are by default.
    Legacy,
}

/// What a guest's reset does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reset {
    /// Start again.
    #[default]
    Restart,
    /// Leave it off.
    Stop,
    /// End the run.
    Exit,
}

/// What happens when a guest cannot go on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stop {
    /// Leave it off.
    #[default]
    Stay,
    /// Start it again.
    Restart,
    /// End the run.
    Exit,
}

impl From<Console> for ConsoleConfig {
    fn from(console: Console) -> Self {
        match console {
            Console::Uart => Self::Uart,
            Console::Virtio => Self::Virtio,
        }
    }
}

impl From<Virtio> for VirtioTransport {
    fn from(virtio: Virtio) -> Self {
        match virtio {
            Virtio::Modern => Self::Modern,
            Virtio::Legacy => Self::Legacy,
        }
    }
}

impl From<Reset> for OnReset {
    fn from(reset: Reset) -> Self {
        match reset {
            Reset::Restart => Self::Restart,
            Reset::Stop => Self::Stop,
            Reset::Exit => Self::Exit,
        }
    }
}

impl From<Stop> for OnStop {
    fn from(stop: Stop) -> Self {
        match stop {
            Stop::Stay => Self::Stay,
            Stop::Restart => Self::Restart,
            Stop::Exit => Self::Exit,
        }
    }
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
            console: Console::Uart,
            virtio: Virtio::Modern,
            on_reset: Reset::Restart,
            on_stop: Stop::Stay,
            max_restart_delay: Delay(DEFAULT_RESTART_DELAY),
            autostart: true,
            rewrite: true,
            fast: true,
            exact: false,
            load: Vec::new(),
        }
    }
}

impl VmTable {
    fn relative_to(&mut self, folder: &Path) {
        let files = self.load.iter_mut().map(|load| &mut load.file);
        for path in self.kernel.iter_mut().chain(self.initrd.as_mut()).chain(files) {
            *path = folder.join(&*path);
        }
        self.disk.iter_mut().for_each(|disk| disk.relative_to(folder));
    }

    /// The guest that this makes of another one, which has what this leaves out.
    fn over(self, usual: Vm) -> Vm {
        Vm {
            name: self.name,
            kernel: self.kernel.unwrap_or(usual.kernel),
            initrd: self.initrd.or(usual.initrd),
            append: self.append.unwrap_or(usual.append),
            memory: self.memory.unwrap_or(usual.memory),
            vcpus: self.vcpus.unwrap_or(usual.vcpus),
            weight: self.weight.unwrap_or(usual.weight),
            cap: self.cap.or(usual.cap),
            disks: [usual.disks, self.disk].concat(),
            // A guest that comes with a network is content with another one.
            nets: if self.net.is_empty() { usual.nets } else { self.net },
            console: self.console,
            virtio: self.virtio,
            on_reset: self.on_reset,
            on_stop: self.on_stop,
            max_restart_delay: self.max_restart_delay.unwrap_or(usual.max_restart_delay),
            autostart: self.autostart,
            rewrite: self.rewrite,
            fast: self.fast,
            exact: self.exact,
            load: [usual.load, self.load].concat(),
        }
    }
}

fn yes() -> bool {
    true
}

fn named<'de, D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Option<Named>, D::Error> {
    let name = String::deserialize(deserializer)?;
    let known = Named::names();
    match (Named::from_name(&name), nearest(&name, &known)) {
        (Some(named), _) => Ok(Some(named)),
        (None, Some(near)) => {
            Err(de::Error::custom(format_args!("there is no guest named `{name}`; write \"{near}\"")))
        }
        (None, None) => Err(de::Error::custom(format_args!(
            "there is no guest named `{name}`; the named guests are {}",
            quoted(&known)
        ))),
    }
}

impl Manifest {
    /// A manifest of one guest.
    pub fn of(vm: Vm) -> Self {
        Self { host: Host::default(), switches: Vec::new(), vms: vec![vm], hints: Vec::new(), text: None }
    }

    /// Reads the manifest at `path`. `prepare` gives a guest that has a name; it is called once for each name, and only
    /// for a manifest without mistakes.
    ///
    /// # Errors
    /// The file cannot be read, or is not a manifest; the message has line and column. Or `prepare` fails.
    pub fn load(path: &Path, prepare: impl FnMut(Named) -> Result<Ready>) -> Result<Self> {
        let text = std::fs::read_to_string(path).map_err(|error| {
            Error::file("read the manifest", path, &error).remedy("give the path of a TOML file")
        })?;
        Self::parse(Text::new(path, text), prepare)
    }

    fn parse(text: Text, mut prepare: impl FnMut(Named) -> Result<Ready>) -> Result<Self> {
        let file: File = toml::from_str(text.as_str()).map_err(|error| text.mistake(&error))?;
        let File { host, switch: switches, vm: mut tables } = file;
        tables.iter_mut().for_each(|table| table.relative_to(text.folder()));
        let mut manifest = Self { host, switches, vms: Vec::new(), hints: Vec::new(), text: Some(text) };
        if tables.is_empty() {
            let error = Error::new("there is no [[vm]] in the manifest")
                .remedy("add `[[vm]]` with at least `name`, and `kernel` or `guest`");
            return Err(manifest.at("", error));
        }
        let mut ready: Vec<(Named, Ready)> = Vec::new();
        for (index, table) in tables.iter().enumerate() {
            if table.kernel.is_none() && table.guest.is_none() {
                let error = Error::new(format_args!("guest `{}` has no kernel", table.name)).remedy(
                    "add `kernel = \"FILE\"`; or `guest = \"linux\"` for a guest that this program has",
                );
                return Err(manifest.at(&format!("vm.{index}"), error));
            }
        }
        manifest.check_attached(&tables)?;
        for table in tables {
            let usual = match table.guest {
                None => Vm::new(&table.name, PathBuf::new()),
                Some(named) => match ready.iter().find(|(known, _)| *known == named) {
                    Some((_, ready)) => ready.vm.clone(),
                    None => {
                        let prepared = prepare(named)?;
                        manifest.hints.extend(prepared.hint.clone());
                        let vm = prepared.vm.clone();
                        ready.push((named, prepared));
                        vm
                    }
                },
            };
            manifest.vms.push(table.over(usual));
        }
        Ok(manifest)
    }

    /// Looks at what does not take the guests' files, before any of them is fetched or built.
    fn check_attached(&self, tables: &[VmTable]) -> Result<()> {
        let mut draft = self.clone();
        draft.vms = tables
            .iter()
            .map(|table| Vm {
                disks: table.disk.clone(),
                nets: table.net.clone(),
                console: table.console,
                ..Vm::new(&table.name, PathBuf::new())
            })
            .collect();
        crate::attach::Attachments::of(&draft).map(drop)
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

#[cfg(test)]
mod tests;
