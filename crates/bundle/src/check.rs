//! The rules that a manifest keeps. The writer checks them so that a mistake is found on the developer's
//! machine, the reader so that the hypervisor need not trust its input. Changes nothing. `attached` has those for disks
//! and networks, `errors` says what was broken, `limits` has the numbers.

mod attached;
mod errors;
mod limits;

pub use errors::{Bytes, DiskError, ManifestError, NetError, VmError};

use crate::{DEVICE_TREE_SLOT, MAX_RESTART_DELAY, MAX_VMS, Manifest, RAM_BASE, VmConfig};
use alloc::collections::BTreeSet;
use alloc::vec::Vec;
use limits::{MAX_BOOTARGS, MAX_MEMORY, MAX_NAME, MAX_VCPUS, MAX_WEIGHT};
use memory::BLOCK_SIZE;

#[cfg(test)]
mod tests;

impl Manifest {
    /// Checks every rule that the types do not express, for a payload of `payload_len` bytes.
    ///
    /// # Errors
    /// The first rule found broken.
    pub fn check(&self, payload_len: u64) -> Result<(), ManifestError> {
        if self.vms.is_empty() {
            return Err(ManifestError::NoVms);
        }
        if self.vms.len() > MAX_VMS {
            return Err(ManifestError::TooManyVms(self.vms.len()));
        }
        if let Some(window) = self.host.window
            && !is_sv39_gigabyte(window)
        {
            return Err(ManifestError::Window(window));
        }
        if self.host.log_level > 4 {
            return Err(ManifestError::LogLevel(self.host.log_level));
        }
        let mut names = BTreeSet::new();
        for vm in &self.vms {
            vm.check(payload_len).map_err(|error| ManifestError::Vm { name: vm.name.clone(), error })?;
            if !names.insert(vm.name.as_str()) {
                return Err(ManifestError::DuplicateName(vm.name.clone()));
            }
        }
        self.check_switches()?;
        self.check_macs()?;
        self.check_sharing()
    }
}

impl VmConfig {
    fn check(&self, payload_len: u64) -> Result<(), VmError> {
        if !is_name(&self.name) {
            return Err(VmError::Name);
        }
        if self.memory == 0 || self.memory > MAX_MEMORY || !self.memory.is_multiple_of(BLOCK_SIZE) {
            return Err(VmError::Memory(self.memory));
        }
        if !(1..=MAX_VCPUS).contains(&self.vcpus) {
            return Err(VmError::Vcpus(self.vcpus));
        }
        if !(1..=MAX_WEIGHT).contains(&self.weight) {
            return Err(VmError::Weight(self.weight));
        }
        if let Some(cap) = self.cap
            && !(1..=100).contains(&cap)
        {
            return Err(VmError::Cap(cap));
        }
        if self.max_restart_delay > MAX_RESTART_DELAY {
            return Err(VmError::RestartDelay(self.max_restart_delay));
        }
        if self.bootargs.len() > MAX_BOOTARGS || self.bootargs.contains('\0') {
            return Err(VmError::Bootargs);
        }
        // No overflow: `memory` is bounded above.
        let ram_end = RAM_BASE + self.memory;
        if !(RAM_BASE..ram_end).contains(&self.entry) || !self.entry.is_multiple_of(2) {
            return Err(VmError::Entry { entry: self.entry, ram_end });
        }
        self.check_ranges(ram_end, payload_len)?;
        self.check_devices(payload_len)
    }

    fn check_ranges(&self, ram_end: u64, payload_len: u64) -> Result<(), VmError> {
        if !self.device_tree.is_multiple_of(8)
            || end_in_ram(self.device_tree, DEVICE_TREE_SLOT, ram_end).is_none()
        {
            return Err(VmError::DeviceTree(self.device_tree));
        }
        let mut ranges = Vec::with_capacity(self.segments.len() + 1);
        ranges.push((self.device_tree, self.device_tree + DEVICE_TREE_SLOT));
        for segment in &self.segments {
            let address = segment.address;
            if segment.len == 0 || !address.is_multiple_of(8) || !segment.offset.is_multiple_of(8) {
                return Err(VmError::SegmentShape(address));
            }
            // Memory is filled by whole words.
            let outside = VmError::OutsideRam { address, len: segment.len, ram_end };
            let words = segment.len.checked_next_multiple_of(8).ok_or(outside.clone())?;
            ranges.push((address, end_in_ram(address, words, ram_end).ok_or(outside)?));
            if segment.offset.checked_add(segment.len).is_none_or(|end| end > payload_len) {
                return Err(VmError::OutsidePayload(address));
            }
        }
        ranges.sort_unstable();
        let mut before = (0, 0);
        for range in ranges {
            if range.0 < before.1 {
                return Err(VmError::Overlap { first: before.0, second: range.0 });
            }
            before = range;
        }
        match self.initrd {
            Some(initrd)
                if !self.segments.iter().any(|s| (s.address, s.len) == (initrd.address, initrd.len)) =>
            {
                Err(VmError::Initrd(initrd.address))
            }
            _ => Ok(()),
        }
    }
}

/// Whether guests and switches can be named so.
fn is_name(name: &str) -> bool {
    let name_ok = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    !name.is_empty() && name.len() <= MAX_NAME && name.chars().all(name_ok)
}

/// One past the last byte of `len` bytes at `address`, if all of them are in RAM.
fn end_in_ram(address: u64, len: u64, ram_end: u64) -> Option<u64> {
    let end = address.checked_add(len)?;
    (address >= RAM_BASE && end <= ram_end).then_some(end)
}

/// Whether `address` is the start of one of the gigabytes that Sv39 can name.
fn is_sv39_gigabyte(address: u64) -> bool {
    let sign_extended = ((address << 25) as i64 >> 25) as u64;
    address.is_multiple_of(1 << 30) && sign_extended == address
}
