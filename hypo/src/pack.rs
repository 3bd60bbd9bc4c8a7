//! From a manifest to a bundle: reads the files, lays the guests out, attaches their devices, writes the bytes.

use crate::attach::{Attachments, Devices};
use crate::cli::PackOptions;
use crate::hardware::host_text;
use crate::kernel::{self, Kernel};
use crate::layout::{Extra, Guest, Region};
use crate::load::load;
use crate::manifest::{Manifest, Vm};
use crate::payload::Payload;
use bundle::{DiskConfig, HostSettings, ManifestError, Switches, VmConfig, VmError};
use hypo_common::error::{Error, Result};
use hypo_common::say;
use hypo_common::status::Status;
use std::fs;
use std::io::Read;
use std::path::Path;

/// The log level where none is given: warnings and what the operator should know.
const DEFAULT_LOG_LEVEL: u8 = 2;

/// Carries out `hypo pack`. Says which disks and NICs the host has to have for the bundle.
///
/// # Errors
/// As [`Packed::new`] and [`Packed::write`].
pub fn run(options: &PackOptions) -> Result<Status> {
    let scratch = scratch_folder()?;
    let manifest = load(&options.manifest, |named| named.ready(scratch.path()))?;
    let packed = Packed::new(&manifest, Seed::for_many_boots()?)?;
    packed.write(&options.output)?;
    let told = host_text(&packed.attachments.drives, &packed.attachments.nics);
    if !told.is_empty() {
        say::print(told.trim_end())?;
    }
    Ok(Status::PoweredOff)
}

/// A folder that is gone when the program is.
///
/// # Errors
/// It cannot be made.
pub fn scratch_folder() -> Result<tempfile::TempDir> {
    let folder = tempfile::Builder::new().prefix("hypo-").tempdir();
    folder.map_err(|error| Error::new(format_args!("cannot make a temporary folder: {error}")))
}

/// Guests laid out in memory.
#[derive(Debug)]
pub struct Packed {
    /// What the hypervisor will be told.
    pub manifest: bundle::Manifest,
    /// Each guest's memory map, in the order of the manifest.
    pub regions: Vec<Vec<Region>>,
    /// What is attached to the guests, and what the host has for it.
    pub attachments: Attachments,
    payload: Payload,
}

impl Packed {
    /// Reads the files of all guests and lays them out.
    ///
    /// # Errors
    /// A file cannot be read, is no kernel, or does not fit; a disk or a network cannot be as the manifest wants it. The
    /// message names guest and file, with the place in the manifest.
    pub fn new(manifest: &Manifest, seed: Seed) -> Result<Self> {
        let attachments = Attachments::of(manifest)?;
        let mut payload = Payload::default();
        let (mut vms, mut regions) = (Vec::new(), Vec::new());
        for ((index, vm), devices) in manifest.vms.iter().enumerate().zip(&attachments.guests) {
            let at = |key: &str, error| manifest.at(&format!("vm.{index}{key}"), error);
            let guest = read_files(vm).map_err(|(key, error)| at(key, error))?;
            let laid_out = guest.regions().and_then(|map| Ok((map, guest.place(&mut payload)?)));
            let (map, memory) = laid_out.map_err(|error| {
                at(".memory", Error::sentence(format_args!("guest `{}`: {error}", vm.name)))
            })?;
            regions.push(map);
            let disks = disks(devices, &mut payload).map_err(|error| at(".disk", error))?;
            vms.push(configured(vm, memory, disks, devices));
        }
        let host = HostSettings {
            seed: seed.bytes,
            seed_is_fresh: seed.is_fresh,
            window: manifest.host.window.map(|address| address.0),
            log_level: manifest.host.log_level.unwrap_or(DEFAULT_LOG_LEVEL),
            check_every: manifest.host.check_every.unwrap_or(0),
            drop_caches_every: manifest.host.drop_caches_every.unwrap_or(0),
            show: manifest.host.show,
        };
        let switches = attachments.switches.clone();
        let packed =
            Self { manifest: bundle::Manifest { host, switches, vms }, regions, attachments, payload };
        packed
            .manifest
            .check(packed.payload_len())
            .map_err(|error| manifest.at(&place_of(&error, manifest), Error::sentence(&error)))?;
        Ok(packed)
    }

    /// How many bytes the guests' files take in the host's memory, beside the guests' own.
    pub fn payload_len(&self) -> u64 {
        self.payload.bytes().len() as u64
    }

    /// Writes the bundle to `path`, and says how many bytes it has.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write(&self, path: &Path) -> Result<u64> {
        let bytes = bundle::format::write(&self.manifest, self.payload.bytes()).map_err(Error::sentence)?;
        fs::write(path, &bytes).map_err(|error| {
            Error::file("write the bundle", path, &error)
                .remedy("name a file in a folder that is there, has room, and may be written to")
        })?;
        Ok(bytes.len() as u64)
    }
}

/// Random bytes that a bundle brings to its guests.
#[derive(Clone, Copy, Debug)]
pub struct Seed {
    bytes: [u8; 32],
    is_fresh: bool,
}

impl Seed {
    /// In place of random bytes where runs have to repeat.
    pub const FIXED: Self = Self { bytes: [0x5a; 32], is_fresh: false };

    /// For a bundle that is booted once.
    ///
    /// # Errors
    /// The system's random device cannot be read.
    pub fn for_one_boot() -> Result<Self> {
        Self::from_system(true)
    }

    /// For a bundle that may be booted again: the hypervisor warns where the host adds nothing to it.
    ///
    /// # Errors
    /// The system's random device cannot be read.
    pub fn for_many_boots() -> Result<Self> {
        Self::from_system(false)
    }

    fn from_system(is_fresh: bool) -> Result<Self> {
        let path = Path::new("/dev/urandom");
        let mut bytes = [0; 32];
        fs::File::open(path)
            .and_then(|mut file| file.read_exact(&mut bytes))
            .map_err(|error| Error::file("read", path, &error))?;
        Ok(Self { bytes, is_fresh })
    }
}

fn configured(vm: &Vm, memory: VmConfig, disks: Vec<DiskConfig>, devices: &Devices) -> VmConfig {
    VmConfig {
        name: vm.name.clone(),
        vcpus: vm.vcpus,
        bootargs: vm.append.clone(),
        weight: vm.weight,
        cap: vm.cap,
        disks,
        nets: devices.nets.clone(),
        console: vm.console,
        virtio: vm.virtio,
        on_reset: vm.on_reset,
        on_stop: vm.on_stop,
        max_restart_delay: vm.max_restart_delay.0,
        autostart: vm.autostart,
        switches: Switches { rewrite: vm.rewrite, fast: vm.fast, exact: vm.exact },
        ..memory
    }
}

fn disks(devices: &Devices, payload: &mut Payload) -> Result<Vec<DiskConfig>> {
    let config = |disk: &crate::attach::GuestDisk| {
        disk.config(|path| {
            let data = fs::read(path).map_err(|error| Error::file("read the disk image", path, &error))?;
            let offset = if disk.writes() { payload.add_own(&data) } else { payload.add(&data) };
            Ok((offset, data.len() as u64))
        })
    };
    devices.disks.iter().map(config).collect()
}

/// Where in the manifest the mistake is.
fn place_of(error: &ManifestError, manifest: &Manifest) -> String {
    let last_vm = |name: &str| manifest.vms.iter().rposition(|vm| vm.name == name).unwrap_or(0);
    let last_switch =
        |name: &str| manifest.switches.iter().rposition(|switch| switch.name == name).unwrap_or(0);
    match error {
        ManifestError::NoVms | ManifestError::TooManyVms(_) | ManifestError::SharedDisk { .. } => {
            "vm.0".into()
        }
        ManifestError::Window(_) => "host.window".into(),
        ManifestError::LogLevel(_) => "host.log-level".into(),
        ManifestError::DuplicateName(name) => format!("vm.{}.name", last_vm(name)),
        ManifestError::SwitchName(name) | ManifestError::DuplicateSwitch(name) => {
            format!("switch.{}.name", last_switch(name))
        }
        ManifestError::Uplink { name, .. } => format!("switch.{}.uplink", last_switch(name)),
        ManifestError::DuplicateMac { .. } => "switch.0".into(),
        ManifestError::Vm { name, error } => {
            let key = match error {
                VmError::Name => "name".into(),
                VmError::Memory(_) | VmError::DeviceTree(_) | VmError::OutsideRam { .. } => "memory".into(),
                VmError::Vcpus(_) => "vcpus".into(),
                VmError::Weight(_) => "weight".into(),
                VmError::Cap(_) => "cap".into(),
                VmError::RestartDelay(_) => "max-restart-delay".into(),
                VmError::Bootargs => "append".into(),
                VmError::Entry { .. } => "kernel".into(),
                VmError::Disk { number, .. } => format!("disk.{}", number - 1),
                VmError::Net { number, .. } => format!("net.{}", number - 1),
                VmError::SegmentShape(_)
                | VmError::OutsidePayload(_)
                | VmError::Overlap { .. }
                | VmError::Initrd(_)
                | VmError::Devices(_) => String::new(),
            };
            format!("vm.{}.{key}", last_vm(name))
        }
    }
}

/// The guest's files; with an error, the key of the one that cannot be used.
fn read_files(vm: &Vm) -> std::result::Result<Guest, (&'static str, Error)> {
    let read = |key: &'static str, what: &str, path: &Path| {
        read_file(path).map_err(|error| {
            let error = Error::file(&format!("read the {what} of guest `{}`,", vm.name), path, &error)
                .remedy("check the path; it has to be a file that you may read");
            (key, error)
        })
    };
    let kernel = Kernel::parse(read(".kernel", "kernel", &vm.kernel)?, vm.memory.0).map_err(|error| {
        let what = format_args!("guest `{}`: kernel `{}`: {error}", vm.name, vm.kernel.display());
        (".kernel", Error::sentence(what))
    })?;
    let mut loads = Vec::new();
    for load in &vm.load {
        let data = read(".load", "loaded file", &load.file)?;
        loads.push(Extra { name: load.file.display().to_string(), address: load.address.0, data });
    }
    let initrd = match &vm.initrd {
        Some(path) => {
            let disk = kernel::ram_disk(read(".initrd", "initial RAM disk", path)?, vm.memory.0);
            Some(disk.map_err(|error| {
                let what =
                    format_args!("guest `{}`: initial RAM disk `{}`: {error}", vm.name, path.display());
                (".initrd", Error::sentence(what))
            })?)
        }
        None => None,
    };
    Ok(Guest { memory: vm.memory.0, kernel, initrd, loads })
}

/// Reads a regular file; a device or pipe that never ends is none.
fn read_file(path: &Path) -> std::io::Result<Vec<u8>> {
    let file = fs::metadata(path)?;
    if file.is_dir() {
        return Err(std::io::Error::other("it is a directory"));
    }
    if !file.is_file() {
        return Err(std::io::Error::other("it is not a regular file"));
    }
    fs::read(path)
}
