//! The limits that rules and error messages both name.

/// The most RAM that one guest may have.
pub(super) const MAX_MEMORY: u64 = 1 << 40;
/// The most weight that one guest may have.
pub(super) const MAX_WEIGHT: u32 = 10_000;
/// The most virtual harts that one guest may have.
pub(super) const MAX_VCPUS: u32 = 8;
/// The most bytes in a guest's or a switch's name, which consoles print at the start of a line.
pub(super) const MAX_NAME: usize = 32;
/// The most bytes in a kernel command line; it has to fit in the device tree's slot beside everything else.
pub(super) const MAX_BOOTARGS: usize = 4096;
/// Bytes in a sector, virtio's smallest piece of a disk.
pub(super) const SECTOR: u64 = 512;
/// The bytes that virtio has for a disk's serial number.
pub(super) const MAX_SERIAL: usize = 20;
/// The UTF-16 units that a GPT has for a partition's name.
pub(super) const MAX_PARTITION_NAME: usize = 36;
/// The lowest rate: a frame of full length takes a second and a half.
pub(super) const MIN_RATE: u64 = 1024;
