//! The rules for disks, network interfaces and switches: each by itself, and that no two guests get in each other's
//! way through them.

use super::{Bytes, ManifestError, VmError, is_name};
use crate::{
    Attach, DiskConfig, DiskSource, MAX_DEVICES, Mac, Manifest, NetConfig, Partition, SwitchConfig, VmConfig,
};
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use memory::PAGE_SIZE;
use thiserror::Error;

/// Bytes in a sector, virtio's smallest piece of a disk.
const SECTOR: u64 = 512;
/// The bytes that virtio has for a disk's serial number.
const MAX_SERIAL: usize = 20;
/// The UTF-16 units that a GPT has for a partition's name.
const MAX_PARTITION_NAME: usize = 36;
/// The lowest rate: a frame of full length takes a second and a half.
const MIN_RATE: u64 = 1024;

/// What is wrong with a disk's description.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum DiskError {
    /// A serial number is empty, too long or not printable.
    #[error("the serial number `{0}` is not possible; use 1 to {MAX_SERIAL} printable ASCII characters")]
    Serial(String),
    /// A partition's number is 0, or its name is empty or too long.
    #[error(
        "a partition {0} is not possible; use a number from 1 up, or a name of 1 to {MAX_PARTITION_NAME} characters"
    )]
    Partition(Partition),
    /// An image is empty or ends in a part of a sector.
    #[error("an image of {size} is not possible; use a multiple of {SECTOR} bytes, at least {SECTOR}", size = Bytes(*.0))]
    Length(u64),
    /// An image starts within a page, or has bytes beyond the end of the payload.
    #[error("the image at {0:#x} of the payload is misplaced; pack the bundle again")]
    Place(u64),
}

/// What is wrong with a network interface's description.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum NetError {
    /// There is no such switch.
    #[error("there is no switch {0}; pack the bundle again")]
    Switch(u32),
    /// The address is a group's or zero.
    #[error("{0} is no interface's address: it is a group's or zero; take one that starts with 52:54:00")]
    Mac(Mac),
    /// The rate is so low that hardly a frame would pass.
    #[error("a rate of {rate} per second is too low; use at least {least}", rate = Bytes(*.0), least = Bytes(MIN_RATE))]
    Rate(u64),
}

impl VmConfig {
    pub(super) fn check_devices(&self, payload_len: u64) -> Result<(), VmError> {
        let devices = self.disks.len() + self.nets.len() + self.console.devices();
        // One slot is for entropy.
        if devices >= MAX_DEVICES {
            return Err(VmError::Devices(devices));
        }
        for (disk, number) in self.disks.iter().zip(1..) {
            disk.check(payload_len).map_err(|error| VmError::Disk { number, error })?;
        }
        for (net, number) in self.nets.iter().zip(1..) {
            net.check().map_err(|error| VmError::Net { number, error })?;
        }
        Ok(())
    }
}

impl DiskConfig {
    /// Whether one of the two writes what the other uses, as far as can be told without their partition tables.
    pub fn conflicts_with(&self, other: &Self) -> bool {
        (self.writes() || other.writes()) && overlap(&self.source, &other.source)
    }

    fn check(&self, payload_len: u64) -> Result<(), DiskError> {
        check_serial(&self.serial)?;
        match &self.source {
            DiskSource::Host { serial, partition } => {
                check_serial(serial)?;
                match partition {
                    Some(partition) if !partition.is_possible() => {
                        Err(DiskError::Partition(partition.clone()))
                    }
                    _ => Ok(()),
                }
            }
            DiskSource::Image { offset, len } => {
                if *len == 0 || !len.is_multiple_of(SECTOR) {
                    return Err(DiskError::Length(*len));
                }
                let inside = offset.checked_add(*len).is_some_and(|end| end <= payload_len);
                if inside && offset.is_multiple_of(PAGE_SIZE) {
                    Ok(())
                } else {
                    Err(DiskError::Place(*offset))
                }
            }
        }
    }
}

fn check_serial(serial: &str) -> Result<(), DiskError> {
    let printable = serial.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic());
    if (1..=MAX_SERIAL).contains(&serial.len()) && printable {
        Ok(())
    } else {
        Err(DiskError::Serial(serial.into()))
    }
}

impl Partition {
    fn is_possible(&self) -> bool {
        match self {
            Self::Number(number) => *number > 0,
            Self::Name(name) => (1..=MAX_PARTITION_NAME).contains(&name.encode_utf16().count()),
        }
    }

    /// Whether it cannot be told from the bundle alone that they are two.
    fn may_be(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Number(a), Self::Number(b)) => a == b,
            (Self::Name(a), Self::Name(b)) => a == b,
            // Only the table on the disk says which number has which name.
            (Self::Number(_), Self::Name(_)) | (Self::Name(_), Self::Number(_)) => false,
        }
    }
}

impl NetConfig {
    fn check(&self) -> Result<(), NetError> {
        if !self.mac.is_unicast() {
            return Err(NetError::Mac(self.mac));
        }
        if let Attach::HostNic(nic) = self.attach
            && !nic.is_unicast()
        {
            return Err(NetError::Mac(nic));
        }
        match self.rate {
            Some(rate) if rate < MIN_RATE => Err(NetError::Rate(rate)),
            _ => Ok(()),
        }
    }
}

impl Manifest {
    pub(super) fn check_switches(&self) -> Result<(), ManifestError> {
        let mut names = BTreeSet::new();
        for SwitchConfig { name, uplink } in &self.switches {
            if !is_name(name) {
                return Err(ManifestError::SwitchName(name.clone()));
            }
            if !names.insert(name.as_str()) {
                return Err(ManifestError::DuplicateSwitch(name.clone()));
            }
            if let Some(uplink) = *uplink
                && !uplink.is_unicast()
            {
                return Err(ManifestError::Uplink { name: name.clone(), uplink });
            }
        }
        for vm in &self.vms {
            for (net, number) in vm.nets.iter().zip(1..) {
                if let Attach::Switch(index) = net.attach
                    && index as usize >= self.switches.len()
                {
                    let error = VmError::Net { number, error: NetError::Switch(index) };
                    return Err(ManifestError::Vm { name: vm.name.clone(), error });
                }
            }
        }
        Ok(())
    }

    /// Each address belongs to one interface, and each host NIC to one user.
    pub(super) fn check_macs(&self) -> Result<(), ManifestError> {
        let mut owners: BTreeMap<Mac, String> = BTreeMap::new();
        let mut take = |mac, second: String| match owners.get(&mac) {
            Some(first) => Err(ManifestError::DuplicateMac { first: first.clone(), second, mac }),
            None => {
                owners.insert(mac, second);
                Ok(())
            }
        };
        for switch in &self.switches {
            if let Some(uplink) = switch.uplink {
                take(uplink, format!("the uplink of switch `{}`", switch.name))?;
            }
        }
        for vm in &self.vms {
            for (net, number) in vm.nets.iter().zip(1..) {
                take(net.mac, format!("guest `{}`, net {number},", vm.name))?;
                match net.attach {
                    // The guest may go by the address of the NIC that it was given.
                    Attach::HostNic(nic) if nic != net.mac => {
                        take(nic, format!("the host NIC of guest `{}`, net {number},", vm.name))?;
                    }
                    _ => {}
                }
            }
        }
        Ok(())
    }

    /// What is written through one disk is used through no other.
    pub(super) fn check_sharing(&self) -> Result<(), ManifestError> {
        let disks: Vec<(&VmConfig, usize, &DiskConfig)> = self
            .vms
            .iter()
            .flat_map(|vm| vm.disks.iter().zip(1..).map(move |(disk, n)| (vm, n, disk)))
            .collect();
        let name = |(vm, number, _): &(&VmConfig, usize, &DiskConfig)| {
            format!("guest `{}`, disk {number},", vm.name)
        };
        // A few hundred at most, by the number of guests and slots.
        for (index, first) in disks.iter().enumerate() {
            for second in disks.iter().skip(index + 1) {
                if first.2.conflicts_with(second.2) {
                    return Err(ManifestError::SharedDisk { first: name(first), second: name(second) });
                }
            }
            if let DiskSource::Image { offset, len } = first.2.source
                && first.2.writes()
                && self
                    .vms
                    .iter()
                    .flat_map(|vm| &vm.segments)
                    .any(|s| s.offset < offset + len && offset < s.offset + s.len)
            {
                let second = String::from("what a guest's memory starts with");
                return Err(ManifestError::SharedDisk { first: name(first), second });
            }
        }
        Ok(())
    }
}

/// Whether two disks have a sector in common. Images lie in the payload, so their ends do not overflow.
fn overlap(a: &DiskSource, b: &DiskSource) -> bool {
    match (a, b) {
        (DiskSource::Host { serial: a, partition: p }, DiskSource::Host { serial: b, partition: q }) => {
            a == b && p.as_ref().zip(q.as_ref()).is_none_or(|(p, q)| p.may_be(q))
        }
        (DiskSource::Image { offset: a, len: n }, DiskSource::Image { offset: b, len: m }) => {
            *a < b + m && *b < a + n
        }
        (DiskSource::Host { .. }, DiskSource::Image { .. })
        | (DiskSource::Image { .. }, DiskSource::Host { .. }) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ConsoleConfig;
    use crate::format::tests::{PAYLOAD, linux_like};
    use alloc::vec;

    fn check_after(change: impl FnOnce(&mut Manifest)) -> Result<(), ManifestError> {
        let mut manifest = linux_like();
        change(&mut manifest);
        manifest.check(PAYLOAD)
    }

    fn vm_error(change: impl FnOnce(&mut VmConfig)) -> VmError {
        match check_after(|manifest| change(&mut manifest.vms[0])) {
            Err(ManifestError::Vm { error, .. }) => error,
            other => panic!("expected an error in the guest, got {other:?}"),
        }
    }

    fn host(serial: &str, partition: Option<Partition>) -> DiskConfig {
        let source = DiskSource::Host { serial: serial.into(), partition };
        DiskConfig { source, readonly: false, snapshot: false, serial: "s".into() }
    }

    fn image(offset: u64, len: u64) -> DiskConfig {
        DiskConfig {
            source: DiskSource::Image { offset, len },
            readonly: false,
            snapshot: false,
            serial: "s".into(),
        }
    }

    /// Two guests with one disk each.
    fn sharing(first: DiskConfig, second: DiskConfig) -> Result<(), ManifestError> {
        check_after(|manifest| {
            let (mut a, mut b) = (manifest.vms[0].clone(), manifest.vms[0].clone());
            (a.nets, b.nets) = (vec![], vec![]);
            b.name = "other".into();
            (a.disks, b.disks) = (vec![first], vec![second]);
            manifest.vms = vec![a, b];
        })
    }

    #[test]
    fn devices_leave_a_slot_for_entropy() {
        let with = |disks: usize, console| {
            move |vm: &mut VmConfig| {
                vm.nets.truncate(1);
                vm.disks = (0..disks).map(|n| host(&format!("d{n}"), None)).collect();
                vm.console = console;
            }
        };
        assert_eq!(check_after(|manifest| with(6, ConsoleConfig::Uart)(&mut manifest.vms[0])), Ok(()));
        assert_eq!(vm_error(with(6, ConsoleConfig::Virtio)), VmError::Devices(8));
        assert_eq!(vm_error(with(7, ConsoleConfig::Uart)), VmError::Devices(8));
    }

    #[test]
    fn a_disk_has_printable_serials_and_a_possible_partition() {
        let wrong = |disk: DiskConfig| match vm_error(|vm| vm.disks = vec![disk]) {
            VmError::Disk { number: 1, error } => error,
            other => panic!("{other:?}"),
        };
        for serial in ["", "123456789012345678901", "new\nline", "ä"] {
            assert_eq!(wrong(host(serial, None)), DiskError::Serial(serial.into()));
            let disk = DiskConfig { serial: serial.into(), ..host("a", None) };
            assert_eq!(wrong(disk), DiskError::Serial(serial.into()));
        }
        let long = "x".repeat(37);
        for partition in [Partition::Number(0), Partition::Name("".into()), Partition::Name(long)] {
            assert_eq!(wrong(host("a", Some(partition.clone()))), DiskError::Partition(partition));
        }
    }

    #[test]
    fn an_image_is_whole_sectors_in_the_payload() {
        let wrong = |offset, len| match vm_error(|vm| vm.disks = vec![image(offset, len)]) {
            VmError::Disk { error, .. } => error,
            other => panic!("{other:?}"),
        };
        for len in [0, 1, 511, 513, u64::MAX] {
            assert_eq!(wrong(4096, len), DiskError::Length(len));
        }
        for (offset, len) in [(512, 512), (PAYLOAD, 512), (4096, PAYLOAD), (!4095, 8192)] {
            assert_eq!(wrong(offset, len), DiskError::Place(offset));
        }
    }

    #[test]
    fn a_disk_that_is_written_has_one_user() {
        let read = |disk| DiskConfig { readonly: true, ..disk };
        let kept = |disk| DiskConfig { snapshot: true, ..disk };
        let part = |n| Some(Partition::Number(n));
        let named = |name: &str| Some(Partition::Name(name.into()));
        for (first, second) in [
            (host("a", None), host("a", None)),
            (host("a", None), read(host("a", None))),
            (kept(host("a", None)), host("a", None)),
            (host("a", part(1)), host("a", None)),
            (host("a", part(1)), host("a", part(1))),
            (host("a", named("x")), host("a", named("x"))),
            (image(4096, 4096), image(4096, 4096)),
            (image(4096, 8192), read(image(8192, 512))),
        ] {
            let error = sharing(first.clone(), second.clone());
            assert!(matches!(error, Err(ManifestError::SharedDisk { .. })), "{first:?} {second:?}");
        }
        for (first, second) in [
            (host("a", None), host("b", None)),
            (read(host("a", None)), kept(host("a", None))),
            (host("a", part(1)), host("a", part(2))),
            (kept(image(4096, 4096)), read(image(4096, 4096))),
            (image(4096, 4096), image(8192, 4096)),
            (image(4096, 4096), host("a", None)),
        ] {
            assert_eq!(sharing(first.clone(), second.clone()), Ok(()), "{first:?} {second:?}");
        }
    }

    #[test]
    fn a_written_image_is_no_part_of_a_guests_memory() {
        assert!(matches!(sharing(image(0, 4096), host("a", None)), Err(ManifestError::SharedDisk { .. })));
        let read = DiskConfig { readonly: true, ..image(0, 4096) };
        assert_eq!(sharing(read, host("a", None)), Ok(()));
    }

    #[test]
    fn switches_have_names_of_their_own() {
        let switches = |names: &[&str]| {
            let named = |name: &&str| SwitchConfig { name: (*name).into(), uplink: None };
            let switches = names.iter().map(named).collect();
            check_after(|manifest| manifest.switches = switches)
        };
        assert_eq!(switches(&["lan", "lan"]), Err(ManifestError::DuplicateSwitch("lan".into())));
        assert_eq!(switches(&["a b"]), Err(ManifestError::SwitchName("a b".into())));
        // The guest is at switch 0.
        let error = VmError::Net { number: 1, error: NetError::Switch(0) };
        assert_eq!(switches(&[]), Err(ManifestError::Vm { name: "linux".into(), error }));
    }

    #[test]
    fn an_address_belongs_to_one_interface() {
        let (a, b) = (Mac([2, 0, 0, 0, 0, 0xa]), Mac([2, 0, 0, 0, 0, 0xb]));
        let nets = |nets: Vec<(Attach, Mac)>| {
            check_after(|manifest| {
                manifest.switches[0].uplink = Some(Mac([2, 0, 0, 0, 0, 0]));
                let net = |(attach, mac)| NetConfig { attach, mac, rate: None };
                manifest.vms[0].nets = nets.into_iter().map(net).collect();
            })
        };
        let lan = Attach::Switch(0);
        assert_eq!(nets(vec![(lan, a), (lan, b)]), Ok(()));
        assert_eq!(nets(vec![(Attach::HostNic(a), a)]), Ok(()));
        for twice in [
            vec![(lan, a), (lan, a)],
            vec![(lan, Mac([2, 0, 0, 0, 0, 0]))],
            vec![(Attach::HostNic(a), a), (lan, a)],
            vec![(Attach::HostNic(a), b), (Attach::HostNic(a), Mac([2, 0, 0, 0, 0, 0xc]))],
            vec![(Attach::HostNic(Mac([2, 0, 0, 0, 0, 0])), a)],
        ] {
            assert!(matches!(nets(twice.clone()), Err(ManifestError::DuplicateMac { .. })), "{twice:?}");
        }
    }

    #[test]
    fn an_interface_has_a_unicast_address_and_a_rate_that_lets_frames_pass() {
        let wrong = |change: &dyn Fn(&mut NetConfig)| match vm_error(|vm| change(&mut vm.nets[0])) {
            VmError::Net { number: 1, error } => error,
            other => panic!("{other:?}"),
        };
        let group = Mac([0xff; 6]);
        assert_eq!(wrong(&|net| net.mac = group), NetError::Mac(group));
        assert_eq!(wrong(&|net| net.attach = Attach::HostNic(Mac([0; 6]))), NetError::Mac(Mac([0; 6])));
        assert_eq!(wrong(&|net| net.rate = Some(1023)), NetError::Rate(1023));
        let uplink = check_after(|manifest| manifest.switches[0].uplink = Some(group));
        assert_eq!(uplink, Err(ManifestError::Uplink { name: "lan".into(), uplink: group }));
    }
}
