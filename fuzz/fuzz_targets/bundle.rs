//! The boot bundle: arbitrary bytes, manifests that no `hypo pack` would write, and damaged bundles.
#![no_main]

use bundle::format::{read, write};
use bundle::{
    Attach, ConsoleConfig, DiskConfig, DiskSource, HostSettings, InitrdRange, Mac, Manifest, NetConfig, OnReset, Partition,
    RAM_BASE, Segment, SwitchConfig, VmConfig,
};
use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;

const PAYLOAD: [u8; 8192] = [0xa5; 8192];

#[derive(Arbitrary, Debug)]
struct Input {
    bytes: Vec<u8>,
    seed: [u8; 32],
    window: Option<u64>,
    log_level: u8,
    switches: Vec<(String, Option<[u8; 6]>)>,
    vms: Vec<Vm>,
    /// Which byte of the bundle is damaged, and how.
    damage: (u16, u8),
}

#[derive(Arbitrary, Debug)]
struct Vm {
    name: String,
    blocks: Number,
    vcpus: u32,
    entry: Number,
    bootargs: String,
    segments: Vec<(Number, Number, Number)>,
    initrd: Option<u8>,
    device_tree: Number,
    restarts: bool,
    weight: u32,
    cap: Option<u32>,
    disks: Vec<Disk>,
    nets: Vec<Net>,
    virtio_console: bool,
}

#[derive(Arbitrary, Debug)]
struct Disk {
    source: Source,
    readonly: bool,
    snapshot: bool,
    serial: String,
}

#[derive(Arbitrary, Debug)]
enum Source {
    Host(String),
    Numbered(String, u32),
    Named(String, String),
    Image(Number, Number),
}

#[derive(Arbitrary, Debug)]
struct Net {
    switch: Option<u8>,
    nic: [u8; 6],
    mac: [u8; 6],
    rate: Option<u64>,
}

/// A quantity: most often one that may well be allowed.
#[derive(Arbitrary, Debug, Clone, Copy)]
enum Number {
    Steps(u16),
    Any(u64),
}

impl Number {
    fn scaled(self, base: u64, step: u64) -> u64 {
        match self {
            Self::Steps(steps) => base + step * u64::from(steps),
            Self::Any(value) => value,
        }
    }
}

impl Vm {
    fn config(self) -> VmConfig {
        let segments: Vec<Segment> = self
            .segments
            .into_iter()
            .map(|(address, offset, len)| Segment {
                address: address.scaled(RAM_BASE, 8),
                offset: offset.scaled(0, 8),
                len: len.scaled(0, 1),
            })
            .collect();
        let initrd = self.initrd.map(|index| match segments.get(usize::from(index)) {
            Some(segment) => InitrdRange { address: segment.address, len: segment.len },
            None => InitrdRange { address: RAM_BASE, len: index.into() },
        });
        VmConfig {
            name: self.name,
            memory: self.blocks.scaled(0, 2 << 20),
            vcpus: self.vcpus,
            entry: self.entry.scaled(RAM_BASE, 2),
            bootargs: self.bootargs,
            segments,
            initrd,
            device_tree: self.device_tree.scaled(RAM_BASE, 4096),
            weight: self.weight,
            cap: self.cap,
            disks: self.disks.into_iter().map(Disk::config).collect(),
            nets: self.nets.into_iter().map(Net::config).collect(),
            console: if self.virtio_console { ConsoleConfig::Virtio } else { ConsoleConfig::Uart },
            on_reset: if self.restarts { OnReset::Restart } else { OnReset::Exit },
            ..VmConfig::default()
        }
    }
}

impl Disk {
    fn config(self) -> DiskConfig {
        let source = match self.source {
            Source::Host(serial) => DiskSource::Host { serial, partition: None },
            Source::Numbered(serial, n) => DiskSource::Host { serial, partition: Some(Partition::Number(n)) },
            Source::Named(serial, name) => DiskSource::Host { serial, partition: Some(Partition::Name(name)) },
            Source::Image(offset, len) => DiskSource::Image { offset: offset.scaled(0, 4096), len: len.scaled(0, 512) },
        };
        DiskConfig { source, readonly: self.readonly, snapshot: self.snapshot, serial: self.serial }
    }
}

impl Net {
    fn config(self) -> NetConfig {
        let attach = self.switch.map_or(Attach::HostNic(Mac(self.nic)), |index| Attach::Switch(index.into()));
        NetConfig { attach, mac: Mac(self.mac), rate: self.rate }
    }
}

fuzz_target!(|input: Input| {
    let _ = read(&words(&input.bytes));

    let switch = |(name, uplink): (String, Option<[u8; 6]>)| SwitchConfig { name, uplink: uplink.map(Mac) };
    let switches = input.switches.into_iter().map(switch).collect();
    let vms = input.vms.into_iter().map(Vm::config).collect();
    let host = HostSettings { seed: input.seed, window: input.window, log_level: input.log_level, ..Default::default() };
    let manifest = Manifest { host, switches, vms };
    let Ok(mut written) = write(&manifest, &PAYLOAD) else { return };
    manifest.vms.iter().for_each(assert_inside);
    let whole = words(&written);
    let (read_back, payload) = read(&whole).expect("what was written can be read");
    assert_eq!(read_back, manifest);
    assert_eq!(payload, words(&PAYLOAD));

    let (place, difference) = input.damage;
    let place = usize::from(place) % written.len();
    written[place] ^= difference;
    if let Ok(damaged) = read(&words(&written)) {
        assert_eq!(damaged, (manifest, payload), "damage at {place} went unnoticed");
    }
});

/// What the hypervisor relies on when it fills a guest's memory and serves its disks.
fn assert_inside(vm: &VmConfig) {
    let inside = |address: u64, len: u64| {
        let end = address.checked_add(len).expect("ends within the address space");
        assert!(address >= RAM_BASE && end <= RAM_BASE + vm.memory);
    };
    inside(vm.entry, 2);
    inside(vm.device_tree, bundle::DEVICE_TREE_SLOT);
    let in_payload = |offset: u64, len: u64| {
        let end = offset.checked_add(len).expect("ends within the payload");
        assert!(end <= PAYLOAD.len() as u64);
    };
    for segment in &vm.segments {
        inside(segment.address, segment.len);
        in_payload(segment.offset, segment.len);
    }
    for disk in &vm.disks {
        if let DiskSource::Image { offset, len } = disk.source {
            in_payload(offset, len);
        }
    }
}

/// The bundle as memory holds it; bytes that fill no word are cut off.
fn words(bytes: &[u8]) -> Vec<u64> {
    bytes.as_chunks().0.iter().map(|word| u64::from_ne_bytes(*word)).collect()
}
