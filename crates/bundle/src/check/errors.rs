//! What can be wrong with a manifest, with a guest in it and with a guest's disks and networks, in words that say what to do.

use alloc::string::String;
use core::fmt;
use thiserror::Error;

use super::limits::{
    MAX_BOOTARGS, MAX_NAME, MAX_PARTITION_NAME, MAX_SERIAL, MAX_VCPUS, MAX_WEIGHT, MIN_RATE, SECTOR,
};
use crate::{MAX_VMS, Mac, Partition, RAM_BASE};

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
    /// The delay before restarts is too long.
    #[error("a restart delay of {0} ms is not possible; use at most {seconds} s", seconds = crate::MAX_RESTART_DELAY / 1000)]
    RestartDelay(u32),
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
