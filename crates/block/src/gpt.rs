//! Reads a disk's partition table: GPT (UEFI spec 2.10, section 5.3), for blocks of 512 bytes.
//!
//! Tells which sectors to read and checks what was read. What is on a disk is nobody's word: every field is checked before
//! it is used, and both checksums have to be right.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use crate::SECTOR;

/// The sector of the first header; a second one is in the disk's last sector.
pub const FIRST_HEADER: u64 = 1;
/// Bytes of the partition entries that are read at most: some 512 entries.
pub const MAX_ENTRIES: u64 = 64 << 10;

const SIGNATURE: &[u8; 8] = b"EFI PART";
/// Bytes of a header, and of an entry, that are defined; both may be longer.
const HEADER: usize = 92;
const ENTRY: usize = 128;
const CHECKSUM: crc::Crc<u32> = crc::Crc::<u32>::new(&crc::CRC_32_ISO_HDLC);

/// Which partition.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Which<'a> {
    /// The one with this number; the first is 1.
    Number(u32),
    /// The one with this name.
    Name(&'a str),
}

/// A range of a disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Range {
    /// Its first sector.
    pub first: u64,
    /// Sectors; not 0.
    pub count: u64,
}

/// Why there is no such partition.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum GptError {
    /// There is no GPT.
    NoTable,
    /// A header contradicts itself, the disk, or its checksum.
    BadHeader,
    /// The entries contradict their checksum.
    BadEntries,
    /// The table has more entries than are read.
    TooLong,
    /// No partition has this number.
    NoSuchNumber,
    /// No partition has this name.
    NoSuchName,
    /// Several partitions have this name.
    SeveralSuchNames,
    /// The partition is not inside the range that the table has for partitions.
    OutOfBounds,
}

impl fmt::Display for GptError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoTable => "it has no GPT",
            Self::BadHeader => "the header of its GPT is damaged",
            Self::BadEntries => "the entries of its GPT are damaged",
            Self::TooLong => "its GPT is too long",
            Self::NoSuchNumber => "it has no partition of this number",
            Self::NoSuchName => "it has no partition of this name",
            Self::SeveralSuchNames => "it has several partitions of this name",
            Self::OutOfBounds => "the partition is not inside the disk",
        })
    }
}

/// A header that was checked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Header {
    first_usable: u64,
    last_usable: u64,
    entries: u64,
    count: u32,
    entry_size: u32,
    entries_checksum: u32,
}

impl Header {
    /// Checks the header that was read from `sector` of a disk with `capacity` sectors.
    pub fn read(bytes: &[u8], sector: u64, capacity: u64) -> Result<Self, GptError> {
        let head: &[u8; HEADER] = bytes.first_chunk().ok_or(GptError::NoTable)?;
        if !head.starts_with(SIGNATURE) {
            return Err(GptError::NoTable);
        }
        let u32_at = |at| u32::from_le_bytes(field(head, at));
        let u64_at = |at| u64::from_le_bytes(field(head, at));
        let size = u32_at(12) as usize;
        let whole = bytes.get(..size).filter(|_| (HEADER..=SECTOR as usize).contains(&size));
        let whole = whole.ok_or(GptError::BadHeader)?;
        // The checksum is computed with zeros in its own place.
        let mut digest = CHECKSUM.digest();
        digest.update(whole.get(..16).unwrap_or(&[]));
        digest.update(&[0; 4]);
        digest.update(whole.get(20..).unwrap_or(&[]));
        let header = Self {
            first_usable: u64_at(40),
            last_usable: u64_at(48),
            entries: u64_at(72),
            count: u32_at(80),
            entry_size: u32_at(84),
            entries_checksum: u32_at(88),
        };
        // Major version 1. "Size of partition entry": 128 * 2^n.
        let sizes = header.entry_size.is_multiple_of(ENTRY as u32) && header.entry_size.is_power_of_two();
        let usable = header.first_usable <= header.last_usable && header.last_usable < capacity;
        if u32_at(16) != digest.finalize()
            || u32_at(8) >> 16 != 1
            || u64_at(24) != sector
            || !sizes
            || !usable
        {
            return Err(GptError::BadHeader);
        }
        if header.entries_len() > MAX_ENTRIES {
            return Err(GptError::TooLong);
        }
        let table = Range { first: header.entries, count: header.entries_len().div_ceil(SECTOR) };
        let end = table.first.checked_add(table.count).ok_or(GptError::BadHeader)?;
        // The entries are somewhere in front of or behind the partitions.
        let apart = end <= header.first_usable || table.first > header.last_usable;
        if header.count == 0 || end > capacity || !apart || table.first <= FIRST_HEADER {
            return Err(GptError::BadHeader);
        }
        Ok(header)
    }

    /// The sectors that have the partition entries: at most `MAX_ENTRIES` bytes.
    pub fn entries(&self) -> Range {
        Range { first: self.entries, count: self.entries_len().div_ceil(SECTOR) }
    }

    /// Finds a partition in the entries, which are what `entries` names.
    pub fn partition(&self, entries: &[u8], which: Which) -> Result<Range, GptError> {
        let entries = entries.get(..self.entries_len() as usize).ok_or(GptError::BadEntries)?;
        if CHECKSUM.checksum(entries) != self.entries_checksum {
            return Err(GptError::BadEntries);
        }
        let mut used =
            (1..).zip(entries.chunks_exact(self.entry_size as usize)).filter(|(_, entry)| is_used(entry));
        let entry = match which {
            Which::Number(number) => {
                used.find(|(other, _)| *other == number).ok_or(GptError::NoSuchNumber)?.1
            }
            Which::Name(name) => {
                let mut named = used.filter(|(_, entry)| name_of(entry) == name);
                let (_, entry) = named.next().ok_or(GptError::NoSuchName)?;
                if named.next().is_some() {
                    return Err(GptError::SeveralSuchNames);
                }
                entry
            }
        };
        let entry: &[u8; ENTRY] = entry.first_chunk().ok_or(GptError::BadEntries)?;
        let (first, last) = (u64::from_le_bytes(field(entry, 32)), u64::from_le_bytes(field(entry, 40)));
        if first < self.first_usable || last > self.last_usable || first > last {
            return Err(GptError::OutOfBounds);
        }
        Ok(Range { first, count: last - first + 1 })
    }

    fn entries_len(&self) -> u64 {
        u64::from(self.count) * u64::from(self.entry_size)
    }
}

/// Whether an entry's type is not all zeros.
fn is_used(entry: &[u8]) -> bool {
    entry.iter().take(16).any(|byte| *byte != 0)
}

/// An entry's name, without the zeros at the end.
fn name_of(entry: &[u8]) -> String {
    let (units, _) = entry.get(56..ENTRY).unwrap_or(&[]).as_chunks::<2>();
    let units: Vec<u16> =
        units.iter().map(|unit| u16::from_le_bytes(*unit)).take_while(|unit| *unit != 0).collect();
    String::from_utf16_lossy(&units)
}

/// The `N` bytes at `at`, which is inside.
fn field<const N: usize, const M: usize>(bytes: &[u8; M], at: usize) -> [u8; N] {
    bytes.get(at..).and_then(|rest| rest.first_chunk()).copied().unwrap_or([0; N])
}

#[cfg(test)]
mod tests;
