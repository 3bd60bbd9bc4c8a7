//! The rules for disks, network interfaces and switches: each by itself, and that no two guests get in each other's
//! way through them.

use super::errors::{DiskError, ManifestError, NetError, VmError};
use super::is_name;
use super::limits::{MAX_PARTITION_NAME, MAX_SERIAL, MIN_RATE, SECTOR};
use crate::{
    Attach, DiskConfig, DiskSource, MAX_DEVICES, Mac, Manifest, NetConfig, Partition, SwitchConfig, VmConfig,
};
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use memory::PAGE_SIZE;

#[cfg(test)]
mod tests;

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
