//! The rules that a manifest keeps. The writer checks them so that a mistake is found on the developer's
//! machine, the reader so that the hypervisor need not trust its input. Changes nothing. `attached` has those for disks
//! and networks.

mod attached;

pub use attached::{DiskError, NetError};

use crate::{DEVICE_TREE_SLOT, MAX_VMS, Mac, Manifest, RAM_BASE, VmConfig};
use alloc::collections::BTreeSet;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use memory::BLOCK_SIZE;
use thiserror::Error;

/// The most RAM that one guest may have.
const MAX_MEMORY: u64 = 1 << 40;
/// The most weight that one guest may have.
const MAX_WEIGHT: u32 = 10_000;
/// The most virtual harts that one guest may have.
const MAX_VCPUS: u32 = 8;
/// The most bytes in a guest's or a switch's name, which consoles print at the start of a line.
const MAX_NAME: usize = 32;
/// The most bytes in a kernel command line; it has to fit in the device tree's slot beside everything else.
const MAX_BOOTARGS: usize = 4096;

/// A manifest that no hypervisor can carry out: what is wrong and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ManifestError {
    /// There is nothing to run.
    #[error("there is no guest; give at least one")]
    NoVms,
    /// More guests than the hypervisor has room for.
    #[error("there are {0} guests; the most are {MAX_VMS}")]
    TooManyVms(usize),
    /// Two guests have one name.
    #[error("two guests are named `{0}`; rename one")]
    DuplicateName(String),
    /// The window is misaligned or outside Sv39.
    #[error(
        "the hypervisor's window {0:#x} is not a multiple of 1 GiB in the Sv39 address space; \
         choose one below 0x40_0000_0000 or from 0xffff_ffc0_0000_0000 up"
    )]
    Window(u64),
    /// The log level is out of range.
    #[error("log level {0} does not exist; use 0 (errors only) to 4 (everything)")]
    LogLevel(u8),
    /// A switch's name is empty, too long or not printable.
    #[error("a switch is named `{0}`; the name must be 1 to {MAX_NAME} letters, digits, `-`, `_` or `.`")]
    SwitchName(String),
    /// Two switches have one name.
    #[error("two switches are named `{0}`; rename one")]
    DuplicateSwitch(String),
    /// An uplink's address is a group's or zero.
    #[error("switch `{name}`: its uplink {uplink} is no NIC's address; give a unicast address")]
    Uplink {
        /// The switch's name.
        name: String,
        /// The address.
        uplink: Mac,
    },
    /// Two interfaces have one address.
    #[error("{first} and {second} both have the address {mac}; change one")]
    DuplicateMac {
        /// Who has it first.
        first: String,
        /// Who has it again.
        second: String,
        /// The address.
        mac: Mac,
    },
    /// What one guest writes, another one uses.
    #[error(
        "{first} and {second} are one disk, and it is written; make both `readonly` or `snapshot`, or give each its own"
    )]
    SharedDisk {
        /// Who uses it.
        first: String,
        /// Who uses it, too.
        second: String,
    },
    /// One guest's description is wrong.
    #[error("guest `{name}`: {error}")]
    Vm {
        /// The guest's name.
        name: String,
        /// What is wrong with it.
        error: VmError,
    },
}

/// A number of bytes, printed in the largest unit that keeps it whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bytes(pub u64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (unit, shift) = [("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10)]
            .into_iter()
            .find(|(_, shift)| self.0 != 0 && self.0.is_multiple_of(1 << shift))
            .unwrap_or(("bytes", 0));
        write!(f, "{} {unit}", self.0 >> shift)
    }
}

/// What is wrong with one guest's description. Sizes are in bytes, addresses guest-physical.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum VmError {
    /// The name is empty, too long or not printable.
    #[error("the name must be 1 to {MAX_NAME} letters, digits, `-`, `_` or `.`")]
    Name,
    /// The RAM size is out of range or misaligned.
    #[error("memory of {size} is not possible; use a multiple of 2 MiB, at least 2 MiB, at most 1 TiB", size = Bytes(*.0))]
    Memory(u64),
    /// The number of virtual harts is out of range.
    #[error("{0} virtual harts are not possible; use 1 to {MAX_VCPUS}")]
    Vcpus(u32),
    /// The weight is out of range.
    #[error("a weight of {0} is not possible; use 1 to {MAX_WEIGHT}")]
    Weight(u32),
    /// The cap is out of range.
    #[error("a cap of {0} percent is not possible; use 1 to 100")]
    Cap(u32),
    /// The command line is too long or holds a NUL.
    #[error("the kernel command line must be at most {MAX_BOOTARGS} bytes without a NUL; shorten it")]
    Bootargs,
    /// The entry point lies outside RAM or is odd.
    #[error(
        "the entry point {entry:#x} is odd or outside RAM, which ends at {ram_end:#x}; check the kernel's addresses"
    )]
    Entry {
        /// The entry point.
        entry: u64,
        /// One past the last byte of RAM.
        ram_end: u64,
    },
    /// A segment is empty or not aligned to 8.
    #[error(
        "the segment at {0:#x} is empty, or its address or payload offset is not a multiple of 8; pack the bundle again"
    )]
    SegmentShape(u64),
    /// A segment lies outside RAM.
    #[error(
        "{size} at {address:#x} do not fit in RAM, which is {RAM_BASE:#x} to {ram_end:#x}; give the guest more memory",
        size = Bytes(*len)
    )]
    OutsideRam {
        /// First byte.
        address: u64,
        /// Bytes.
        len: u64,
        /// One past the last byte of RAM.
        ram_end: u64,
    },
    /// A segment's bytes are not in the payload.
    #[error("the segment at {0:#x} has bytes beyond the end of the payload; pack the bundle again")]
    OutsidePayload(u64),
    /// Two pieces of initial memory lie on each other.
    #[error(
        "what is loaded at {first:#x} overlaps what is loaded at {second:#x}; move one or give more memory"
    )]
    Overlap {
        /// The lower piece's address.
        first: u64,
        /// The upper piece's address.
        second: u64,
    },
    /// The initial RAM disk is not one of the segments.
    #[error("the initial RAM disk at {0:#x} is not one of the segments; pack the bundle again")]
    Initrd(u64),
    /// The device tree's slot is misaligned or outside RAM.
    #[error("the device tree's 2 MiB at {0:#x} are not 8-aligned inside RAM; give the guest more memory")]
    DeviceTree(u64),
    /// More devices than the board has slots.
    #[error(
        "{0} virtio devices are too many: disks, nets and a virtio console share {shared} slots, one more is for entropy; \
         remove some",
        shared = crate::MAX_DEVICES - 1
    )]
    Devices(usize),
    /// A disk's description is wrong.
    #[error("disk {number}: {error}")]
    Disk {
        /// Which, counted from 1.
        number: usize,
        /// What is wrong with it.
        error: DiskError,
    },
    /// A network interface's description is wrong.
    #[error("net {number}: {error}")]
    Net {
        /// Which, counted from 1.
        number: usize,
        /// What is wrong with it.
        error: NetError,
    },
}

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::tests::{PAYLOAD, linux_like};
    use crate::{InitrdRange, Segment};
    use alloc::string::ToString;
    use alloc::{format, vec};

    fn error_after(change: impl FnOnce(&mut VmConfig)) -> VmError {
        let mut manifest = linux_like();
        change(&mut manifest.vms[0]);
        match manifest.check(PAYLOAD) {
            Err(ManifestError::Vm { error, .. }) => error,
            other => panic!("expected an error in the guest, got {other:?}"),
        }
    }

    #[test]
    fn a_good_manifest_passes() {
        assert_eq!(linux_like().check(PAYLOAD), Ok(()));
    }

    #[test]
    fn memory_is_whole_blocks_up_to_a_terabyte() {
        for bytes in [0, 1, BLOCK_SIZE - 1, BLOCK_SIZE + 4096, MAX_MEMORY + BLOCK_SIZE, u64::MAX] {
            assert_eq!(error_after(|vm| vm.memory = bytes), VmError::Memory(bytes));
        }
    }

    #[test]
    fn sizes_in_messages_have_units() {
        let message = |memory| error_after(|vm| vm.memory = memory).to_string();
        assert!(message(2 << 40).starts_with("memory of 2 TiB is not possible"), "{}", message(2 << 40));
        assert!(message(0).starts_with("memory of 0 bytes "));
        assert_eq!(Bytes(1536 << 20).to_string(), "1536 MiB");
        assert_eq!(Bytes(4097).to_string(), "4097 bytes");
    }

    #[test]
    fn weights_and_caps_have_limits() {
        for weight in [0, 10_001, u32::MAX] {
            assert_eq!(error_after(|vm| vm.weight = weight), VmError::Weight(weight));
        }
        for cap in [0, 101, u32::MAX] {
            assert_eq!(error_after(|vm| vm.cap = Some(cap)), VmError::Cap(cap));
        }
    }

    #[test]
    fn there_are_at_most_thirty_two_guests() {
        let mut many = linux_like();
        let guest =
            |n| VmConfig { name: format!("g{n}"), disks: vec![], nets: vec![], ..many.vms[0].clone() };
        many.vms = (0..32).map(guest).collect();
        assert_eq!(many.check(PAYLOAD), Ok(()));
        many.vms.push(many.vms[0].clone());
        assert_eq!(many.check(PAYLOAD), Err(ManifestError::TooManyVms(33)));
    }

    #[test]
    fn vcpus_are_one_to_eight() {
        assert_eq!(error_after(|vm| vm.vcpus = 0), VmError::Vcpus(0));
        assert_eq!(error_after(|vm| vm.vcpus = 9), VmError::Vcpus(9));
    }

    #[test]
    fn the_entry_is_even_and_in_ram() {
        for address in [0, RAM_BASE - 2, RAM_BASE + 1, RAM_BASE + (512 << 20)] {
            assert!(
                matches!(error_after(|vm| vm.entry = address), VmError::Entry { entry, .. } if entry == address)
            );
        }
    }

    #[test]
    fn names_are_short_printable_and_unique() {
        for name in ["", "a b", "new\nline", &"x".repeat(33)] {
            assert_eq!(error_after(|vm| vm.name = name.into()), VmError::Name);
        }
        let mut twins = linux_like();
        twins.vms.push(twins.vms[0].clone());
        assert_eq!(twins.check(PAYLOAD), Err(ManifestError::DuplicateName("linux".into())));
    }

    #[test]
    fn segments_stay_in_ram_and_payload() {
        let ram_end = RAM_BASE + (512 << 20);
        let at = |address, offset, len| Segment { address, offset, len };
        let wrong = |segment| error_after(|vm| vm.segments[0] = segment);
        assert!(matches!(wrong(at(RAM_BASE - 8, 0, 8)), VmError::OutsideRam { .. }));
        assert!(matches!(wrong(at(ram_end - 8, 0, 16)), VmError::OutsideRam { .. }));
        assert!(matches!(wrong(at(u64::MAX - 7, 0, u64::MAX)), VmError::OutsideRam { .. }));
        assert!(matches!(wrong(at(RAM_BASE, PAYLOAD, 8)), VmError::OutsidePayload(_)));
        assert!(matches!(wrong(at(RAM_BASE, !7, 16)), VmError::OutsidePayload(_)));
        assert!(matches!(wrong(at(RAM_BASE + 4, 0, 8)), VmError::SegmentShape(_)));
        assert!(matches!(wrong(at(RAM_BASE, 4, 8)), VmError::SegmentShape(_)));
        assert!(matches!(wrong(at(RAM_BASE, 0, 0)), VmError::SegmentShape(_)));
    }

    #[test]
    fn nothing_is_loaded_over_anything_else() {
        let over_first = error_after(|vm| vm.segments[1].address = vm.segments[0].address + 8);
        assert!(matches!(over_first, VmError::Overlap { .. }));
        let over_tree = error_after(|vm| vm.segments[0].address = vm.device_tree + DEVICE_TREE_SLOT - 4096);
        assert!(matches!(over_tree, VmError::Overlap { .. }));
    }

    #[test]
    fn a_segment_that_ends_in_a_part_word_occupies_the_whole_word() {
        let error = error_after(|vm| {
            vm.initrd = None;
            vm.segments[0].len = 9;
            vm.segments[1].address = vm.segments[0].address + 8;
        });
        assert!(matches!(error, VmError::Overlap { .. }));
    }

    #[test]
    fn the_ram_disk_is_a_segment() {
        let elsewhere = InitrdRange { address: RAM_BASE, len: 8 };
        assert_eq!(error_after(|vm| vm.initrd = Some(elsewhere)), VmError::Initrd(RAM_BASE));
    }

    #[test]
    fn the_device_tree_slot_is_in_ram() {
        for address in [0, 4, RAM_BASE + (511 << 20), u64::MAX, !7] {
            assert_eq!(error_after(|vm| vm.device_tree = address), VmError::DeviceTree(address));
        }
    }

    #[test]
    fn the_window_is_a_canonical_gigabyte() {
        let with = |window| {
            let mut manifest = linux_like();
            manifest.host.window = Some(window);
            manifest.check(PAYLOAD)
        };
        for good in [0, 1 << 30, 0x3f_c000_0000, 0xffff_ffc0_0000_0000, 0xffff_ffff_c000_0000] {
            assert_eq!(with(good), Ok(()));
        }
        for bad in [4096, 0x40_0000_0000, 0xffff_ff80_0000_0000] {
            assert_eq!(with(bad), Err(ManifestError::Window(bad)));
        }
    }
}
