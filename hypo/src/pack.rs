//! From a manifest to a bundle: reads the files, lays the guests out, writes the bytes.

use crate::error::{Error, Result};
use crate::kernel::Kernel;
use crate::layout::{Extra, Guest, Payload, Region};
use crate::manifest::{Manifest, Vm};
use bundle::{HostSettings, Switches};
use std::fs;
use std::io::Read;
use std::path::Path;

/// The log level where none is given: warnings and what the operator should know.
const DEFAULT_LOG_LEVEL: u8 = 2;

/// Guests laid out in memory.
#[derive(Debug)]
pub struct Packed {
    /// What the hypervisor will be told.
    pub manifest: bundle::Manifest,
    /// Each guest's memory map, in the order of the manifest.
    pub regions: Vec<Vec<Region>>,
    payload: Payload,
}

impl Packed {
    /// Reads the files of all guests and lays them out.
    ///
    /// # Errors
    /// A file cannot be read, is no kernel, or does not fit; the message names guest and file.
    pub fn new(manifest: &Manifest, seed: [u8; 32]) -> Result<Self> {
        let mut payload = Payload::default();
        let (mut vms, mut regions) = (Vec::new(), Vec::new());
        for vm in &manifest.vms {
            let guest = read_files(vm)?;
            let place = |error| Error::new(format_args!("guest `{}`: {error}", vm.name));
            regions.push(guest.regions().map_err(place)?);
            vms.push(guest.place(&mut payload).map_err(place)?);
        }
        let host = HostSettings {
            seed,
            window: manifest.host.window.map(|address| address.0),
            log_level: manifest.host.log_level.unwrap_or(DEFAULT_LOG_LEVEL),
            check_every: manifest.host.check_every.unwrap_or(0),
        };
        let packed =
            Self { manifest: bundle::Manifest { host, switches: Vec::new(), vms }, regions, payload };
        packed.manifest.check(packed.payload.0.len() as u64).map_err(Error::new)?;
        Ok(packed)
    }

    /// How many bytes the guests' files take in the host's memory, beside the guests' own.
    pub fn payload_len(&self) -> u64 {
        self.payload.0.len() as u64
    }

    /// Writes the bundle to `path`.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write(&self, path: &Path) -> Result<()> {
        let bytes = bundle::format::write(&self.manifest, &self.payload.0).map_err(Error::new)?;
        fs::write(path, bytes).map_err(|error| {
            Error::file("write the bundle", path, &error)
                .remedy("name a file in a folder that is there and may be written to")
        })
    }
}

/// Entropy for the guests.
///
/// # Errors
/// The system's random device cannot be read.
pub fn fresh_seed() -> Result<[u8; 32]> {
    let path = Path::new("/dev/urandom");
    let mut seed = [0; 32];
    fs::File::open(path)
        .and_then(|mut file| file.read_exact(&mut seed))
        .map_err(|error| Error::file("read", path, &error))?;
    Ok(seed)
}

fn read_files(vm: &Vm) -> Result<Guest> {
    let read = |what: &str, path: &Path| {
        read_file(path).map_err(|error| {
            Error::file(&format!("read the {what} of guest `{}`,", vm.name), path, &error)
                .remedy("check the path; it has to be a file that you may read")
        })
    };
    let kernel = Kernel::parse(read("kernel", &vm.kernel)?).map_err(|error| {
        Error::new(format_args!("guest `{}`: kernel `{}`: {error}", vm.name, vm.kernel.display()))
    })?;
    let mut loads = Vec::new();
    for load in &vm.load {
        let data = read("loaded file", &load.file)?;
        loads.push(Extra { name: load.file.display().to_string(), address: load.address.0, data });
    }
    Ok(Guest {
        name: vm.name.clone(),
        memory: vm.memory.0,
        vcpus: vm.vcpus,
        bootargs: vm.append.clone(),
        on_reset: vm.on_reset.into(),
        switches: Switches { rewrite: vm.rewrite, fast: vm.fast, exact: vm.exact },
        kernel,
        initrd: vm.initrd.as_deref().map(|path| read("initial RAM disk", path)).transpose()?,
        loads,
    })
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
