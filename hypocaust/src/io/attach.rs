//! From the bundle's description of disks to disks: which disk of the host, which part of it, and whether all of them can
//! be had together.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use block::gpt::{Range, Which};
use block::sharing::{self, Attachment};
use block::{Disk, Overlay, SECTOR, Writes};
use bundle::{DiskConfig, DiskSource, Manifest, Partition};
use devices::virtio::{self, Slot};
use entropy::{Purpose, Root};
use hart::Hart;
use hart::memory::HostMemory;
use memory::PAGE_SIZE;
use vmm::footprint::{MOST_KEPT, RESERVE};
use world::Interrupts;
use world::host::{HostAccess, Level};
use world::io::disks::{Disks, GuestDisk, HostDisk};

use super::reader::{self, Reader};
use crate::real::{Disk as Driver, Real};
use crate::stage::Stage;

/// Finds and checks everything that the guests' disks are made of.
///
/// # Errors
/// One line that names the guest and the disk, and says what to do.
pub fn open(
    stage: &Stage,
    hart: &Hart,
    host: &mut HostAccess<Real>,
    interrupts: Option<&Interrupts<Real>>,
    manifest: &Manifest,
    payload: &'static [u64],
    memory: &mut HostMemory,
) -> Result<Disks<Real>, String> {
    let configs = || manifest.vms.iter().flat_map(|vm| vm.disks.iter());
    let wanted: Vec<&str> = configs().filter_map(host_serial).collect();
    let mut reader = match interrupts {
        _ if wanted.is_empty() => None,
        Some(interrupts) => Some(Reader::new(stage, hart, host, interrupts, memory)?),
        None => return Err("guests want disks of the host, and the host has no interrupt controller".into()),
    };
    let mut hosts = match &mut reader {
        Some(reader) => reader.open(stage, memory, &wanted)?,
        None => Vec::new(),
    };
    let mut guests = Vec::with_capacity(manifest.vms.len());
    let mut attachments: Vec<(Attachment, String)> = Vec::new();
    for vm in &manifest.vms {
        let mut disks = Vec::with_capacity(vm.disks.len());
        for (number, config) in (1..).zip(&vm.disks).collect::<Vec<_>>().into_iter().rev() {
            let name = format!("guest `{}`, disk {number}", vm.name);
            let made = match (&config.source, &mut reader) {
                (DiskSource::Image { offset, len }, _) => Ok(image(config, *offset, *len, payload)),
                (DiskSource::Host { serial, partition }, Some(reader)) => {
                    on_host(config, serial, partition.as_ref(), &mut hosts, reader)
                }
                (DiskSource::Host { .. }, None) => Err(String::new()),
            };
            let (disk, attachment) = made.map_err(|why| format!("{name}: {why}"))?;
            attachments.extend(attachment.map(|attachment| (attachment, name)));
            disks.push(GuestDisk::new(
                number,
                source(config),
                disk,
                attachment.map(|attachment| attachment.host),
            ));
        }
        guests.push(disks);
    }
    let all: Vec<Attachment> = attachments.iter().map(|(attachment, _)| *attachment).collect();
    if let Some((first, second)) = sharing::conflict(&all) {
        let [(_, first), (_, second)] = [&attachments[first], &attachments[second]];
        return Err(format!(
            "{first} and {second} are the same sectors, which one of them writes; make both readonly or snapshot"
        ));
    }
    Ok(Disks::new(hosts, guests))
}

/// What a disk is made of, for the operator.
fn source(config: &DiskConfig) -> String {
    match &config.source {
        DiskSource::Image { .. } => "an image".into(),
        DiskSource::Host { serial, partition: None } => format!("`{serial}`"),
        DiskSource::Host { serial, partition: Some(partition) } => {
            format!("`{serial}`, partition {partition}")
        }
    }
}

fn host_serial(config: &DiskConfig) -> Option<&str> {
    match &config.source {
        DiskSource::Host { serial, .. } => Some(serial),
        DiskSource::Image { .. } => None,
    }
}

fn image(config: &DiskConfig, offset: u64, len: u64, payload: &'static [u64]) -> (Disk, Option<Attachment>) {
    let first = (offset / 8) as usize;
    let words = payload.get(first..first + (len / 8) as usize).unwrap_or(&[]);
    (Disk::of_image(words, config.readonly), None)
}

fn on_host(
    config: &DiskConfig,
    serial: &str,
    partition: Option<&Partition>,
    hosts: &mut [HostDisk<Driver>],
    reader: &mut Reader,
) -> Result<(Disk, Option<Attachment>), String> {
    let Some((index, disk)) = hosts.iter_mut().enumerate().find(|(_, disk)| disk.serial == serial) else {
        return Err(format!(
            "the host has no disk with the serial number `{serial}`; attach one to QEMU, or correct the manifest"
        ));
    };
    let abilities = *disk.device.0.abilities();
    if u64::from(abilities.block_size) != SECTOR {
        return Err(format!(
            "the host's disk `{serial}` has blocks of {} bytes, and only {SECTOR} are supported",
            abilities.block_size
        ));
    }
    if abilities.readonly && config.writes() {
        return Err(format!(
            "the host's disk `{serial}` cannot be written; make the guest's disk readonly or snapshot"
        ));
    }
    let range = match partition {
        None => Range { first: 0, count: abilities.capacity },
        Some(partition) => {
            let which = match partition {
                Partition::Number(number) => Which::Number(*number),
                Partition::Name(name) => Which::Name(name),
            };
            reader.partition(disk, which).map_err(|why| {
                format!("partition {partition} of the host's disk `{serial}` cannot be used: {why}")
            })?
        }
    };
    let writes = if config.readonly {
        Writes::Refused
    } else if config.snapshot {
        Writes::Kept
    } else {
        Writes::ToHost
    };
    let attachment = Attachment { host: index, range, writes: config.writes() };
    Ok((Disk::on_host(range, reader::abilities(disk, reader.zeros), writes), Some(attachment)))
}

/// The guests' side of these disks, for the first slots of a board. Guests go through their slots from the last to the
/// first, as QEMU's tree lists them, and so find the first disk first.
pub fn slots(disks: &[GuestDisk], configs: &[DiskConfig]) -> Vec<Slot> {
    let shown = disks.iter().zip(configs.iter().rev()).map(|(GuestDisk { disk, .. }, config)| {
        let mut serial = [0; virtio::block::SERIAL];
        serial.iter_mut().zip(config.serial.bytes()).for_each(|(to, from)| *to = from);
        Slot::Block(virtio::block::Block::new(virtio::block::Disk {
            sectors: disk.capacity(),
            read_only: disk.is_readonly(),
            discard: disk.has_discard(),
            write_zeroes: !disk.is_readonly(),
            serial,
        }))
    });
    shown.collect()
}

/// Gives the disks whose writes are kept in RAM the memory for that, once guests have theirs.
///
/// # Errors
/// Where there is none.
pub fn give_room(
    disks: &mut Disks<Real>,
    manifest: &Manifest,
    host: &mut HostAccess<Real>,
    memory: &mut HostMemory,
    random: &Root,
) -> Result<(), String> {
    for (guest, (vm, disks)) in manifest.vms.iter().zip(disks.all()).enumerate() {
        let mut keys = random.stream(Purpose::HashTables, guest);
        for GuestDisk { disk, number, .. } in disks {
            if !disk.keeps_writes() {
                continue;
            }
            let wanted = disk.capacity().min(MOST_KEPT / SECTOR);
            let mut sectors = wanted;
            let words = loop {
                let size = (8 * Overlay::words_for(sectors)) as u64;
                let fits = size + RESERVE <= memory.available();
                if let Some((_, words)) = fits.then(|| memory.take_words(size, PAGE_SIZE)).flatten() {
                    break words;
                }
                sectors /= 2;
                if sectors < 128 && sectors < wanted {
                    return Err(format!(
                        "guest `{}`, disk {number}: the host has no memory for what is written to it; give QEMU \
                         more with --host-memory",
                        vm.name
                    ));
                }
            };
            if sectors < wanted {
                let message = format_args!(
                    "guest `{}`, disk {number}: there is room for {} KiB of what is written",
                    vm.name,
                    (sectors * SECTOR) >> 10
                );
                host.say(Level::Info, message);
            }
            disk.give_room(Overlay::new(words, keys.next_u64()));
        }
    }
    Ok(())
}
