//! A manifest's TOML file: its tables and keys, and what those guests get that have a name. docs/manifest.md has every key.

use crate::attach::Attachments;
use crate::manifest::{Disk, Host, Load, Manifest, Net, Switch, Vm};
use crate::text::{Text, nearest, quoted};
use bundle::{ConsoleConfig, OnReset, OnStop, VirtioTransport};
use hypo_common::error::{Error, Result};
use hypo_common::size::{Delay, Size};
use hypo_debian::guests::{Named, Ready};
use serde::{Deserialize, Deserializer, de};
use std::path::{Path, PathBuf};

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
    console: ConsoleConfig,
    #[serde(default)]
    virtio: VirtioTransport,
    #[serde(default)]
    on_reset: OnReset,
    #[serde(default)]
    on_stop: OnStop,
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

/// Reads the manifest at `path`. `prepare` gives a guest that has a name; it is called once for each name, and only
/// for a manifest without mistakes.
///
/// # Errors
/// The file cannot be read, or is not a manifest; the message has line and column. Or `prepare` fails.
pub fn load(path: &Path, prepare: impl FnMut(Named) -> Result<Ready>) -> Result<Manifest> {
    let text = std::fs::read_to_string(path).map_err(|error| {
        Error::file("read the manifest", path, &error).remedy("give the path of a TOML file")
    })?;
    parse(Text::new(path, text), prepare)
}

fn parse(text: Text, mut prepare: impl FnMut(Named) -> Result<Ready>) -> Result<Manifest> {
    let file: File = toml::from_str(text.as_str()).map_err(|error| text.mistake(&error))?;
    let File { host, switch: switches, vm: mut tables } = file;
    tables.iter_mut().for_each(|table| table.relative_to(text.folder()));
    let mut manifest = Manifest { host, switches, vms: Vec::new(), hints: Vec::new(), text: Some(text) };
    if tables.is_empty() {
        let error = Error::new("there is no [[vm]] in the manifest")
            .remedy("add `[[vm]]` with at least `name`, and `kernel` or `guest`");
        return Err(manifest.at("", error));
    }
    let mut usual: Vec<(Named, Vm)> = Vec::new();
    for (index, table) in tables.iter().enumerate() {
        if table.kernel.is_none() && table.guest.is_none() {
            let error = Error::new(format_args!("guest `{}` has no kernel", table.name))
                .remedy("add `kernel = \"FILE\"`; or `guest = \"linux\"` for a guest that this program has");
            return Err(manifest.at(&format!("vm.{index}"), error));
        }
    }
    check_attached(&manifest, &tables)?;
    for table in tables {
        let base = match table.guest {
            None => Vm::new(&table.name, PathBuf::new()),
            Some(named) => match usual.iter().find(|(known, _)| *known == named) {
                Some((_, vm)) => vm.clone(),
                None => {
                    let prepared = prepare(named)?;
                    let vm = Vm::from(&prepared);
                    manifest.hints.extend(prepared.hint);
                    usual.push((named, vm.clone()));
                    vm
                }
            },
        };
        manifest.vms.push(table.over(base));
    }
    Ok(manifest)
}

/// Looks at what does not take the guests' files, before any of them is fetched or built.
fn check_attached(manifest: &Manifest, tables: &[VmTable]) -> Result<()> {
    let mut draft = manifest.clone();
    draft.vms = tables
        .iter()
        .map(|table| Vm {
            disks: table.disk.clone(),
            nets: table.net.clone(),
            console: table.console,
            ..Vm::new(&table.name, PathBuf::new())
        })
        .collect();
    Attachments::of(&draft).map(drop)
}

#[cfg(test)]
mod tests;
