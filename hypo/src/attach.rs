//! From disks and networks as users describe them to what the hypervisor and QEMU are told: finds files that are one
//! disk, gives addresses and serial numbers, and refuses what cannot be. Starts nothing and makes no file.

mod macs;

use crate::disk::{self, Identity, Wanted};
use crate::manifest::{Disk, Forward, Manifest, Source, To, Uplink, Vm, switch_index};
use block::SECTOR;
use block::gpt::Range;
use bundle::{
    Attach, ConsoleConfig, DiskConfig, DiskSource, MAX_DEVICES, Mac, NetConfig, Partition, SwitchConfig,
};
use hypo_common::error::{Error, Result};
use hypo_common::size::Size;
use macs::Macs;
use std::path::{Path, PathBuf};

/// The virtio transports of QEMU's `virt` machine.
const HOST_SLOTS: usize = 8;
/// The largest image: all of it is copied into the host's memory at each start.
const MAX_IMAGE: Size = Size(1 << 30);
/// The bytes that virtio has for a disk's serial number.
const MAX_SERIAL: usize = 20;

/// What is attached to all guests of a manifest, and what the host has for it.
#[derive(Debug, Default)]
pub struct Attachments {
    /// The disks that QEMU makes of files.
    pub drives: Vec<Drive>,
    /// The NICs that QEMU makes.
    pub nics: Vec<Nic>,
    /// The switches.
    pub switches: Vec<SwitchConfig>,
    /// Each guest's devices, in the order of the manifest.
    pub guests: Vec<Devices>,
}

/// A host disk that QEMU makes of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Drive {
    /// The file; absolute, so that a colon in it is no protocol of QEMU's.
    pub file: PathBuf,
    /// The serial number that it goes by.
    pub serial: String,
    /// Whether nobody writes to it.
    pub readonly: bool,
    /// The bytes that the file is to get, where it is not there yet.
    pub create: Option<u64>,
}

/// A host NIC that QEMU connects to its user network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Nic {
    /// The address that it goes by.
    pub mac: Mac,
    /// Ports of this machine that lead to it.
    pub forward: Vec<Forward>,
}

/// One guest's devices, in the order of their slots.
#[derive(Debug, Default)]
pub struct Devices {
    /// Disks.
    pub disks: Vec<GuestDisk>,
    /// Network interfaces.
    pub nets: Vec<NetConfig>,
}

/// A guest's disk.
#[derive(Debug)]
pub struct GuestDisk {
    /// Where its sectors are.
    pub sectors: Sectors,
    /// Whether the guest is told that it cannot write.
    pub readonly: bool,
    /// Whether what the guest writes is dropped at the end.
    pub snapshot: bool,
    /// The serial number that the guest sees.
    pub serial: String,
    /// Its sectors in the file, where there is one.
    pub range: Option<Range>,
}

/// Where a guest's sectors are.
#[derive(Debug)]
pub enum Sectors {
    /// On a host disk.
    Host {
        /// Its serial number.
        serial: String,
        /// The part of it.
        partition: Option<Partition>,
    },
    /// In a file that goes into the bundle.
    Image(PathBuf),
}

impl GuestDisk {
    /// Whether the guest's writes reach the sectors.
    pub fn writes(&self) -> bool {
        !self.readonly && !self.snapshot
    }

    /// Bytes, where a file says how many.
    pub fn capacity(&self) -> Option<u64> {
        self.range.map(|range| range.count * SECTOR)
    }

    /// What the hypervisor is told; `place` puts a file into the bundle and says where it is.
    ///
    /// # Errors
    /// As `place`.
    pub fn config(&self, place: impl FnOnce(&Path) -> Result<(u64, u64)>) -> Result<DiskConfig> {
        let source = match &self.sectors {
            Sectors::Host { serial, partition } => {
                DiskSource::Host { serial: serial.clone(), partition: partition.clone() }
            }
            Sectors::Image(path) => {
                let (offset, len) = place(path)?;
                DiskSource::Image { offset, len }
            }
        };
        let Self { readonly, snapshot, serial, .. } = self;
        Ok(DiskConfig { source, readonly: *readonly, snapshot: *snapshot, serial: serial.clone() })
    }
}

/// A disk that was looked at, with what is needed to tell who gets in its way.
struct Seen {
    owner: String,
    config: DiskConfig,
    range: Option<Range>,
}

impl Seen {
    fn conflicts_with(&self, config: &DiskConfig, range: Option<Range>) -> bool {
        let (DiskSource::Host { serial, .. }, DiskSource::Host { serial: other, .. }) =
            (&self.config.source, &config.source)
        else {
            return false;
        };
        match (self.range, range) {
            // Of a file it is known where its partitions are.
            (Some(a), Some(b)) => {
                let apart = a.first + a.count <= b.first || b.first + b.count <= a.first;
                serial == other && !apart && (self.config.writes() || config.writes())
            }
            _ => self.config.conflicts_with(config),
        }
    }
}

impl Attachments {
    /// What `manifest` attaches.
    ///
    /// # Errors
    /// A file that can be no disk, a disk that is written and has another user, an address that is used twice, an
    /// unknown switch, more devices than slots. The message has its place in the manifest.
    pub fn of(manifest: &Manifest) -> Result<Self> {
        let mut attachments = Self::default();
        let macs = Macs::of(manifest)?;
        for (index, switch) in manifest.switches.iter().enumerate() {
            let uplink = macs.uplink(index);
            if let (Some(Uplink::User(forward)), Some(mac)) = (&switch.uplink, uplink) {
                attachments.nics.push(Nic { mac, forward: forward.clone() });
            }
            attachments.switches.push(SwitchConfig { name: switch.name.clone(), uplink });
        }
        let (mut seen, mut files) = (Vec::new(), Vec::new());
        for (index, vm) in manifest.vms.iter().enumerate() {
            check_slots(vm).map_err(|error| manifest.at(&format!("vm.{index}"), error))?;
            let disks = attachments.disks(manifest, index, vm, &mut seen, &mut files)?;
            let nets = attachments.nets(manifest, index, vm, &macs)?;
            attachments.guests.push(Devices { disks, nets });
            let host = attachments.drives.len() + attachments.nics.len();
            if host > HOST_SLOTS {
                let error = Error::new(format_args!(
                    "guest `{}` needs more disk files and NICs than QEMU's machine has slots: {host}, not {HOST_SLOTS}",
                    vm.name
                ));
                let error = error
                    .remedy("put guests on a switch, share read-only files, or use `image` for small disks");
                return Err(manifest.at(&format!("vm.{index}"), error));
            }
        }
        Ok(attachments)
    }

    /// Makes the files of disks that have a size and are not there yet.
    ///
    /// # Errors
    /// One cannot be made.
    pub fn create_files(&mut self) -> Result<()> {
        for drive in &mut self.drives {
            if let Some(size) = drive.create.take() {
                disk::create(&drive.file, size)?;
            }
        }
        Ok(())
    }

    fn disks(
        &mut self,
        manifest: &Manifest,
        index: usize,
        vm: &Vm,
        seen: &mut Vec<Seen>,
        files: &mut Vec<Identity>,
    ) -> Result<Vec<GuestDisk>> {
        let mut disks = Vec::new();
        for (number, disk) in vm.disks.iter().enumerate() {
            let key = format!("vm.{index}.disk.{number}");
            let owner = format!("guest `{}`, disk {}", vm.name, number + 1);
            let (source_key, name) = match &disk.source {
                Source::File(path) => (format!("{key}.file"), path.display().to_string()),
                Source::Image(path) => (format!("{key}.image"), path.display().to_string()),
                Source::Host(serial) => (format!("{key}.host"), serial.clone()),
            };
            let attached = self
                .disk(vm, number, disk, files)
                .map_err(|error| manifest.at(&source_key, error.within(&owner)))?;
            // Each image is a copy of its own.
            if let Sectors::Host { .. } = attached.sectors {
                let config = attached.config(|_| Ok((0, 0)))?;
                if let Some(other) = seen.iter().find(|other| other.conflicts_with(&config, attached.range)) {
                    let error = Error::new(format_args!(
                        "{owner}: `{name}` is also that of {}, and one of them writes to it",
                        other.owner
                    ));
                    let error = error.remedy("make both `readonly` or `snapshot`, or give each its own disk");
                    return Err(manifest.at(&source_key, error));
                }
                seen.push(Seen { owner, config, range: attached.range });
            }
            disks.push(attached);
        }
        Ok(disks)
    }

    fn disk(&mut self, vm: &Vm, number: usize, disk: &Disk, files: &mut Vec<Identity>) -> Result<GuestDisk> {
        let write = !disk.readonly && !disk.snapshot;
        let wanted = Wanted { write, size: disk.size, partition: disk.partition.as_ref() };
        let (sectors, range) = match &disk.source {
            Source::Host(serial) => {
                (Sectors::Host { serial: serial.clone(), partition: disk.partition.clone() }, None)
            }
            Source::Image(path) => {
                // The copy is what is written.
                let image = disk::inspect(path, Wanted { write: false, ..wanted })?;
                if image.len > MAX_IMAGE.0 {
                    let what = format_args!(
                        "`{}` has {}, and an `image` has {MAX_IMAGE} at most",
                        path.display(),
                        Size(image.len)
                    );
                    return Err(Error::new(what).remedy("use `file`, which leaves the disk where it is"));
                }
                (Sectors::Image(path.clone()), Some(image.range))
            }
            Source::File(path) => {
                let image = disk::inspect(path, wanted)?;
                let known = files.iter().position(|identity| *identity == image.identity);
                let drive = match known.and_then(|at| self.drives.get_mut(at)) {
                    Some(drive) => {
                        drive.readonly &= !write;
                        drive
                    }
                    None => {
                        files.push(image.identity);
                        let serial = shortened(&format!("d{}-{}", self.drives.len(), vm.name), MAX_SERIAL);
                        let file = std::path::absolute(path)
                            .map_err(|error| Error::file("use the disk image", path, &error))?;
                        let create = image.is_new.then_some(image.len);
                        self.drives.push(Drive { file, serial, readonly: !write, create });
                        self.drives.last_mut().ok_or_else(|| Error::new("no drive"))?
                    }
                };
                let sectors =
                    Sectors::Host { serial: drive.serial.clone(), partition: disk.partition.clone() };
                (sectors, Some(image.range))
            }
        };
        // As many digits as a guest's disks take.
        let usual = || format!("{}-{}", shortened(&vm.name, MAX_SERIAL - 2), number + 1);
        let serial = disk.serial.clone().unwrap_or_else(usual);
        Ok(GuestDisk { sectors, readonly: disk.readonly, snapshot: disk.snapshot, serial, range })
    }

    fn nets(&mut self, manifest: &Manifest, index: usize, vm: &Vm, macs: &Macs) -> Result<Vec<NetConfig>> {
        let mut nets = Vec::new();
        for ((number, net), mac) in vm.nets.iter().enumerate().zip(macs.nets(index).iter().copied()) {
            let attach = match &net.to {
                To::Switch(name) => {
                    let found = switch_index(&manifest.switches, name).map_err(|error| {
                        let owner = format!("guest `{}`, net {}", vm.name, number + 1);
                        manifest.at(&format!("vm.{index}.net.{number}.switch"), error.within(owner))
                    })?;
                    Attach::Switch(found as u32)
                }
                To::Nic(nic) => Attach::HostNic(*nic),
                To::User(forward) => {
                    self.nics.push(Nic { mac, forward: forward.clone() });
                    Attach::HostNic(mac)
                }
            };
            nets.push(NetConfig { attach, mac, rate: net.rate.map(|rate| rate.0) });
        }
        Ok(nets)
    }
}

fn shortened(text: &str, len: usize) -> String {
    text.chars().take(len).collect()
}

fn check_slots(vm: &Vm) -> Result<()> {
    let consoles = vm.console.devices();
    let devices = vm.disks.len() + vm.nets.len() + consoles;
    // One is for entropy.
    if devices < MAX_DEVICES {
        return Ok(());
    }
    let and_console = if vm.console == ConsoleConfig::Virtio { " and a virtio console" } else { "" };
    Err(Error::new(format_args!(
        "guest `{}` has {} disks and {} nets{and_console}; a guest has {} slots for them",
        vm.name,
        vm.disks.len(),
        vm.nets.len(),
        MAX_DEVICES - 1
    ))
    .remedy("remove some, or spread them over several guests"))
}

#[cfg(test)]
mod tests;
