//! What a driver is told of its disk.

/// Bytes of a sector.
pub const SECTOR: u64 = 512;
/// Bytes of a disk's serial number.
pub const SERIAL: usize = 20;

/// What a driver is told of its disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Disk {
    /// Sectors of [`SECTOR`] bytes.
    pub sectors: u64,
    /// Writes are refused.
    pub read_only: bool,
    /// Discards are offered; never with `read_only`.
    pub discard: bool,
    /// Writes of zeroes are offered; never with `read_only`.
    pub write_zeroes: bool,
    /// Its serial number, filled up with zeros.
    pub serial: [u8; SERIAL],
}
