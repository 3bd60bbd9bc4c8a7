//! The devices that QEMU is given, in its words: the host's, which the hypervisor drives, and a guest's own where it
//! runs without the hypervisor. Decides nothing: `attach` does.

use crate::attach::{Devices, Drive, Nic, Sectors};
use crate::manifest::{Forward, Manifest, To, Uplink};
use bundle::{ConsoleConfig, MAX_DEVICES, Mac, VirtioTransport};
use hypo_common::error::{Error, Result};
use hypo_common::qemu::{Words, escaped};
use hypo_common::size::Size;
use std::ffi::OsString;
use std::fmt::Write;
use std::path::Path;

/// What QEMU calls its drives, with the number behind.
pub const DRIVE: &str = "disk";

/// QEMU's words for the host's disks and NICs.
pub fn host_words(drives: &[Drive], nics: &[Nic]) -> Words {
    let mut words = Vec::new();
    for (number, drive) in drives.iter().enumerate() {
        let mode = if drive.readonly { ",readonly=on" } else { "" };
        words.extend(drive_words(number, &drive.file, mode, &drive.serial, ""));
    }
    for (number, nic) in nics.iter().enumerate() {
        words.extend(net_words(number, &user_network(&nic.forward), nic.mac, ""));
    }
    Words { words, drives: drives.iter().map(|drive| drive.file.clone()).collect() }
}

/// QEMU's words for what a lone guest of the manifest has without the hypervisor: the same devices in the same slots.
///
/// # Errors
/// Something that QEMU cannot attach: a part of a disk, a disk or a NIC that only the host has.
pub fn native_words(manifest: &Manifest, devices: &Devices, drives: &[Drive]) -> Result<Words> {
    let vm = manifest.vms.first().ok_or_else(|| Error::new("there is no guest"))?;
    let refused = |what: &str| {
        Error::usage(format_args!("guest `{}`: without the hypervisor there is no {what}", vm.name))
            .remedy("leave --native out, or give the guest a whole file or QEMU's user network")
    };
    let bus = |slot: usize| format!(",bus=virtio-mmio-bus.{slot}");
    // The last one of a kind is in the first slot: the tree lists slots from the last to the first, and so Linux finds the
    // first one first.
    let (disks, nets) = (devices.disks.len(), vm.nets.len());
    let disk_bus = |number: usize| bus(disks - 1 - number);
    let net_bus = |number: usize| bus(disks + nets - 1 - number);
    let mut others = (disks + nets..MAX_DEVICES).map(bus);
    let mut other_bus = || others.next().unwrap_or_default();
    let is_legacy = vm.virtio == VirtioTransport::Legacy;
    let mut words: Vec<OsString> =
        vec!["-global".into(), format!("virtio-mmio.force-legacy={is_legacy}").into()];
    let mut files = Vec::new();
    for (number, disk) in devices.disks.iter().enumerate() {
        let file = match &disk.sectors {
            Sectors::Host { serial, partition: None } => {
                let drive = drives.iter().find(|drive| drive.serial == *serial);
                &drive.ok_or_else(|| refused("disk of the host's"))?.file
            }
            Sectors::Host { .. } => return Err(refused("partition of a disk")),
            Sectors::Image(path) => {
                &std::path::absolute(path).map_err(|error| Error::file("use the disk image", path, &error))?
            }
        };
        let mode = match (disk.readonly, disk.snapshot, &disk.sectors) {
            (true, ..) => ",readonly=on",
            // What is written to an image in the bundle is dropped, too.
            (false, true, _) | (false, false, Sectors::Image(_)) => ",snapshot=on",
            (false, false, Sectors::Host { .. }) => "",
        };
        words.extend(drive_words(number, file, mode, &disk.serial, &disk_bus(number)));
        files.push(file.clone());
    }
    for (number, (net, config)) in vm.nets.iter().zip(&devices.nets).enumerate() {
        let backend = match &net.to {
            To::User(forward) => user_network(forward),
            To::Switch(name) => match manifest.switches.iter().zip(0..).find(|(it, _)| it.name == *name) {
                Some((switch, hub)) => match &switch.uplink {
                    Some(Uplink::User(forward)) => user_network(forward),
                    Some(Uplink::Nic(_)) => return Err(refused("NIC of the host's")),
                    // Only this guest's interfaces are there.
                    None => format!("hubport,hubid={hub}"),
                },
                None => return Err(refused("switch of this name")),
            },
            To::Nic(_) => return Err(refused("NIC of the host's")),
        };
        words.extend(net_words(number, &backend, config.mac, &net_bus(number)));
    }
    if vm.console == ConsoleConfig::Virtio {
        words.extend(["-device".into(), format!("virtio-serial-device{}", other_bus()).into()]);
        words.extend(
            ["-chardev", "null,id=console0", "-device", "virtconsole,chardev=console0"].map(Into::into),
        );
    }
    words.extend(["-device".into(), format!("virtio-rng-device{}", other_bus()).into()]);
    Ok(Words { words, drives: files })
}

fn drive_words(number: usize, file: &Path, mode: &str, serial: &str, bus: &str) -> [OsString; 4] {
    // Errors of this machine's are the guest's to see. Unless told so, QEMU stops the machine when a disk is full.
    let errors = "werror=report,rerror=report";
    let mut drive =
        OsString::from(format!("if=none,id={DRIVE}{number},format=raw,discard=unmap,{errors}{mode},file="));
    drive.push(escaped(file));
    let serial = serial.replace(',', ",,");
    let device = format!("virtio-blk-device,drive={DRIVE}{number},serial={serial}{bus}");
    ["-drive".into(), drive, "-device".into(), device.into()]
}

fn net_words(number: usize, backend: &str, mac: Mac, bus: &str) -> [OsString; 4] {
    let device = format!("virtio-net-device,netdev=net{number},mac={mac}{bus}");
    ["-netdev".into(), format!("{backend},id=net{number}").into(), "-device".into(), device.into()]
}

fn user_network(forward: &[Forward]) -> String {
    let ports: String = forward.iter().map(|forward| format!(",hostfwd={forward}")).collect();
    format!("user{ports}")
}

/// The host's disks and NICs as lines of text, for who has to provide them.
pub fn host_text(drives: &[Drive], nics: &[Nic]) -> String {
    let mut text = String::new();
    for Drive { file, serial, readonly, create } in drives {
        let mode = if *readonly { ", read-only" } else { "" };
        let made = create.map(|size| format!(", made with {}", Size(size))).unwrap_or_default();
        // Writing to a string does not fail.
        let _ = writeln!(text, "  disk with serial number {serial}: {}{mode}{made}", file.display());
    }
    for Nic { mac, .. } in nics {
        let _ = writeln!(text, "  NIC with address {mac}");
    }
    text
}
