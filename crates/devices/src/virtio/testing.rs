//! A driver for tests: writes rings byte by byte, right or wrong, as the test wants it.

extern crate std;

use std::sync::atomic::AtomicU64;
use std::vec::Vec;

use isa::Width;
use memory::{BLOCK_SIZE, GuestPhysAddr, GuestRam, HostPhysAddr};

use super::slot::Effect;
use super::{Slot, Version, transport::feature};

/// Where RAM begins.
pub(crate) const RAM: u64 = 0x8000_0000;
/// Where tests put their data.
pub(crate) const DATA: u64 = RAM + 0x10_0000;

pub(crate) const NEXT: u16 = 1;
pub(crate) const WRITE: u16 = 2;
pub(crate) const INDIRECT: u16 = 4;

/// What drivers here agree to, beside what a test asks for.
pub(crate) const VERSION_1: u64 = feature::VERSION_1;
pub(crate) const INDIRECT_DESC: u64 = feature::INDIRECT_DESC;
pub(crate) const EVENT_IDX: u64 = feature::EVENT_IDX;

pub(crate) fn ram() -> GuestRam {
    let words: Vec<_> = (0..2 * BLOCK_SIZE / 8).map(|_| AtomicU64::new(!0)).collect();
    GuestRam::new(words.leak(), GuestPhysAddr(RAM), HostPhysAddr(0x4000_0000), Vec::new())
}

/// Writes a register.
pub(crate) fn write(slot: &mut Slot, offset: u64, value: u32) -> Effect {
    slot.write(offset, Width::Word, value.into()).unwrap()
}

/// Reads a register.
pub(crate) fn read(slot: &Slot, offset: u64) -> u32 {
    slot.read(offset, Width::Word).unwrap() as u32
}

/// Writes a guest's memory.
pub(crate) fn put(ram: &GuestRam, address: u64, bytes: &[u8]) {
    ram.write(GuestPhysAddr(address), bytes).unwrap();
}

/// Reads a guest's memory.
pub(crate) fn get<const N: usize>(ram: &GuestRam, address: u64) -> [u8; N] {
    let mut bytes = [0; N];
    ram.read(GuestPhysAddr(address), &mut bytes).unwrap();
    bytes
}

/// The driver's half of a queue.
pub(crate) struct Ring {
    pub(crate) size: u16,
    /// Where its descriptors are, and the two rings.
    pub(crate) at: u64,
    pub(crate) available: u64,
    pub(crate) used: u64,
    offered: u16,
    taken: u16,
}

impl Ring {
    /// The rings of queue `index`, in pages of their own.
    pub(crate) fn new(index: u32, size: u16) -> Self {
        Self::at(RAM + 0x1_0000 * u64::from(index), size)
    }

    /// The same, with the descriptors at `at` and the rings 4 KiB and 8 KiB behind that.
    pub(crate) fn at(at: u64, size: u16) -> Self {
        let (available, used) = (at.wrapping_add(0x1000), at.wrapping_add(0x2000));
        Self { size, at, available, used, offered: 0, taken: 0 }
    }

    /// One part behind the other, as legacy drivers have it, from `at` on.
    pub(crate) fn legacy(at: u64, size: u16, align: u64) -> Self {
        let available = at + 16 * u64::from(size);
        let used = (available + 4 + 2 * u64::from(size)).next_multiple_of(align);
        Self { size, at, available, used, offered: 0, taken: 0 }
    }

    pub(crate) fn descriptor(&self, ram: &GuestRam, index: u16, part: (u64, u32), flags: u16, next: u16) {
        put(ram, self.at + 16 * u64::from(index), &descriptor(part, flags, next));
    }

    /// Makes a chain of `readable`, then `writable`, in descriptors `first` and following, and offers it.
    pub(crate) fn offer_chain(
        &mut self,
        ram: &GuestRam,
        first: u16,
        readable: &[(u64, u32)],
        writable: &[(u64, u32)],
    ) {
        let parts: Vec<_> = readable
            .iter()
            .map(|part| (*part, 0))
            .chain(writable.iter().map(|part| (*part, WRITE)))
            .collect();
        for (n, (part, flags)) in parts.iter().enumerate() {
            let index = first + n as u16;
            let more = if n + 1 < parts.len() { NEXT } else { 0 };
            self.descriptor(ram, index, *part, flags | more, index + 1);
        }
        self.offer(ram, first);
    }

    /// Makes the chain at `head` available.
    pub(crate) fn offer(&mut self, ram: &GuestRam, head: u16) {
        let slot = u64::from(self.offered % self.size);
        put(ram, self.available + 4 + 2 * slot, &head.to_le_bytes());
        self.offered = self.offered.wrapping_add(1);
        put(ram, self.available + 2, &self.offered.to_le_bytes());
    }

    /// The next used chain: its head and how many bytes were written.
    pub(crate) fn used(&mut self, ram: &GuestRam) -> Option<(u32, u32)> {
        if self.taken == u16::from_le_bytes(get(ram, self.used + 2)) {
            return None;
        }
        let entry = self.used + 4 + 8 * u64::from(self.taken % self.size);
        self.taken = self.taken.wrapping_add(1);
        Some((u32::from_le_bytes(get(ram, entry)), u32::from_le_bytes(get(ram, entry + 4))))
    }

    /// Tells the device where the queue is, and that it may use it.
    pub(crate) fn enable(&self, slot: &mut Slot, index: u32) {
        self.place(slot, index);
        let _ = write(slot, 0x44, 1);
    }

    pub(crate) fn place(&self, slot: &mut Slot, index: u32) {
        for (offset, value) in [
            (0x30, index),
            (0x38, self.size.into()),
            (0x80, self.at as u32),
            (0x84, (self.at >> 32) as u32),
            (0x90, self.available as u32),
            (0x94, (self.available >> 32) as u32),
            (0xa0, self.used as u32),
            (0xa4, (self.used >> 32) as u32),
        ] {
            let _ = write(slot, offset, value);
        }
    }
}

pub(crate) fn descriptor(part: (u64, u32), flags: u16, next: u16) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&part.0.to_le_bytes());
    bytes[8..12].copy_from_slice(&part.1.to_le_bytes());
    bytes[12..14].copy_from_slice(&flags.to_le_bytes());
    bytes[14..].copy_from_slice(&next.to_le_bytes());
    bytes
}

/// Brings a device to FEATURES_OK; the status then.
pub(crate) fn negotiate(slot: &mut Slot, features: u64) -> u32 {
    for (offset, value) in [
        (0x70, 0),
        (0x70, 1),
        (0x70, 3),
        (0x24, 0),
        (0x20, features as u32),
        (0x24, 1),
        (0x20, (features >> 32) as u32),
        (0x70, 11),
    ] {
        let _ = write(slot, offset, value);
    }
    read(slot, 0x70)
}

/// Brings a device up with `queues` queues of `size` descriptors, as a well-behaved driver does.
pub(crate) fn bring_up(slot: &mut Slot, features: u64, queues: u32, size: u16) -> Vec<Ring> {
    assert_eq!(negotiate(slot, features), 11);
    let rings: Vec<_> = (0..queues).map(|index| Ring::new(index, size)).collect();
    for (ring, index) in rings.iter().zip(0..) {
        ring.enable(slot, index);
        assert_eq!(read(slot, 0x44), 1);
    }
    let _ = write(slot, 0x70, 15);
    rings
}

/// Brings a device on a legacy transport up with `queues` queues of `size` descriptors.
pub(crate) fn bring_up_legacy(slot: &mut Slot, features: u32, queues: u32, size: u16) -> Vec<Ring> {
    slot.set_version(Version::Legacy);
    for (offset, value) in [(0x70, 0), (0x70, 1), (0x70, 3), (0x24, 0), (0x20, features), (0x28, 4096)] {
        let _ = write(slot, offset, value);
    }
    let rings: Vec<_> =
        (0..queues).map(|index| Ring::legacy(RAM + 0x1_0000 * u64::from(index), size, 256)).collect();
    for (ring, index) in rings.iter().zip(0..) {
        for (offset, value) in
            [(0x30, index), (0x38, size.into()), (0x3c, 256), (0x40, (ring.at >> 12) as u32)]
        {
            let _ = write(slot, offset, value);
        }
        assert_eq!(read(slot, 0x40), (ring.at >> 12) as u32);
    }
    let _ = write(slot, 0x70, 7);
    rings
}
