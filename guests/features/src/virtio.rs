//! A driver of a virtio disk, as small as tests allow: one queue, one chain for each request, used ring looked at again and
//! again. Virtio 1.2, "Virtio Over MMIO", "Split Virtqueues", "Block Device".

use crate::mmio::{VIRTIO, read32, write32};
use core::cell::UnsafeCell;
use core::sync::atomic::{Ordering, fence};
use guest_rt::time;

/// Registers of a transport.
pub mod register {
    #![allow(missing_docs)]
    pub const MAGIC: u64 = 0x000;
    pub const VERSION: u64 = 0x004;
    pub const DEVICE: u64 = 0x008;
    pub const DEVICE_FEATURES: u64 = 0x010;
    pub const DEVICE_FEATURES_SEL: u64 = 0x014;
    pub const DRIVER_FEATURES: u64 = 0x020;
    pub const DRIVER_FEATURES_SEL: u64 = 0x024;
    pub const QUEUE_SEL: u64 = 0x030;
    pub const QUEUE_NUM_MAX: u64 = 0x034;
    pub const QUEUE_NUM: u64 = 0x038;
    pub const QUEUE_READY: u64 = 0x044;
    pub const QUEUE_NOTIFY: u64 = 0x050;
    pub const INTERRUPT_STATUS: u64 = 0x060;
    pub const INTERRUPT_ACK: u64 = 0x064;
    pub const STATUS: u64 = 0x070;
    pub const QUEUE_DESC: u64 = 0x080;
    pub const QUEUE_DRIVER: u64 = 0x090;
    pub const QUEUE_DEVICE: u64 = 0x0a0;
    pub const CONFIG: u64 = 0x100;
}

/// Descriptors in the queue.
pub const QUEUE: usize = 64;
/// Feature bits.
pub const READ_ONLY: u64 = 1 << 5;
/// See `READ_ONLY`.
pub const FLUSH: u64 = 1 << 9;
/// See `READ_ONLY`.
pub const DISCARD: u64 = 1 << 13;
/// See `READ_ONLY`.
pub const WRITE_ZEROES: u64 = 1 << 14;
const VERSION_1: u64 = 1 << 32;

const NEXT: u16 = 1;
const WRITE: u16 = 2;

/// Types of requests.
pub mod kind {
    #![allow(missing_docs)]
    pub const READ: u32 = 0;
    pub const WRITE: u32 = 1;
    pub const FLUSH: u32 = 4;
    pub const IDENTIFY: u32 = 8;
    pub const DISCARD: u32 = 11;
    pub const WRITE_ZEROES: u32 = 13;
}

#[derive(Clone, Copy)]
#[repr(C)]
struct Descriptor {
    address: u64,
    len: u32,
    flags: u16,
    next: u16,
}

/// What driver and device share.
#[repr(C, align(4096))]
pub struct Rings {
    descriptors: [Descriptor; QUEUE],
    available: [u16; 2 + QUEUE + 1],
    used: Used,
    headers: [[u64; 2]; QUEUE],
    statuses: [u8; QUEUE],
}

#[derive(Clone, Copy)]
#[repr(C, align(4))]
struct Used {
    flags: u16,
    index: u16,
    ring: [[u32; 2]; QUEUE],
    event: u16,
}

/// Memory for a disk's rings, in a static.
pub struct Memory(UnsafeCell<Rings>);

// SAFETY: a guest has one hart.
unsafe impl Sync for Memory {}

impl Memory {
    /// All zeros.
    pub const fn new() -> Self {
        let none = Descriptor { address: 0, len: 0, flags: 0, next: 0 };
        Self(UnsafeCell::new(Rings {
            descriptors: [none; QUEUE],
            available: [0; 2 + QUEUE + 1],
            used: Used { flags: 0, index: 0, ring: [[0; 2]; QUEUE], event: 0 },
            headers: [[0; 2]; QUEUE],
            statuses: [0; QUEUE],
        }))
    }
}

impl Default for Memory {
    fn default() -> Self {
        Self::new()
    }
}

/// A piece of memory of a request: its address, bytes, and whether the device writes it.
pub type Piece = (u64, u32, bool);

/// A disk.
pub struct Disk {
    base: u64,
    /// Of the features that were asked for, those that it has.
    pub features: u64,
    rings: *mut Rings,
    next: usize,
    taken: u16,
}

impl Disk {
    /// Takes over the disk in transport `slot`; `None` where there is none or it does not take the features.
    pub fn open(slot: u64, memory: &'static Memory) -> Option<Self> {
        use register::*;
        let base = VIRTIO + 0x1000 * slot;
        if read32(base + MAGIC) != 0x7472_6976 || read32(base + VERSION) != 2 || read32(base + DEVICE) != 2 {
            return None;
        }
        write32(base + STATUS, 0);
        if !time::wait_until(20 * time::FREQUENCY, || read32(base + STATUS) == 0) {
            return None;
        }
        write32(base + STATUS, 1 | 2);
        write32(base + DEVICE_FEATURES_SEL, 0);
        let low = read32(base + DEVICE_FEATURES);
        write32(base + DEVICE_FEATURES_SEL, 1);
        let offered = u64::from(read32(base + DEVICE_FEATURES)) << 32 | u64::from(low);
        let features = offered & (READ_ONLY | FLUSH | DISCARD | WRITE_ZEROES | VERSION_1);
        write32(base + DRIVER_FEATURES_SEL, 0);
        write32(base + DRIVER_FEATURES, features as u32);
        write32(base + DRIVER_FEATURES_SEL, 1);
        write32(base + DRIVER_FEATURES, (features >> 32) as u32);
        write32(base + STATUS, 1 | 2 | 8);
        if read32(base + STATUS) & 8 == 0 {
            return None;
        }
        let rings = memory.0.get();
        // SAFETY: no device has them.
        unsafe {
            (*rings).available = [0; 2 + QUEUE + 1];
            (*rings).used = Used { flags: 0, index: 0, ring: [[0; 2]; QUEUE], event: 0 };
        }
        write32(base + QUEUE_SEL, 0);
        if read32(base + QUEUE_NUM_MAX) < QUEUE as u32 {
            return None;
        }
        write32(base + QUEUE_NUM, QUEUE as u32);
        // SAFETY: addresses only.
        let (descriptors, available, used) = unsafe {
            (
                &raw const (*rings).descriptors as u64,
                &raw const (*rings).available as u64,
                &raw const (*rings).used as u64,
            )
        };
        for (register, address) in
            [(QUEUE_DESC, descriptors), (QUEUE_DRIVER, available), (QUEUE_DEVICE, used)]
        {
            write32(base + register, address as u32);
            write32(base + register + 4, (address >> 32) as u32);
        }
        write32(base + QUEUE_READY, 1);
        write32(base + STATUS, 1 | 2 | 8 | 4);
        Some(Self { base, features, rings, next: 0, taken: 0 })
    }

    /// Sectors.
    pub fn capacity(&self) -> u64 {
        let word = |offset| u64::from(read32(self.base + register::CONFIG + offset));
        word(4) << 32 | word(0)
    }

    /// Whether its interrupt is raised; takes it back.
    pub fn interrupted(&self) -> bool {
        let status = read32(self.base + register::INTERRUPT_STATUS);
        write32(self.base + register::INTERRUPT_ACK, status);
        status & 1 != 0
    }

    /// Puts a request into the ring; where its status will be.
    pub fn submit(&mut self, kind: u32, sector: u64, pieces: &[Piece]) -> usize {
        // SAFETY: the rings are this disk's alone, and the device does not have these descriptors.
        let rings = unsafe { &mut *self.rings };
        let first = self.next;
        rings.headers[first] = [u64::from(kind), sector];
        rings.statuses[first] = 0xff;
        let header = (&raw const rings.headers[first] as u64, 16, false);
        let status = (&raw const rings.statuses[first] as u64, 1, true);
        let count = pieces.len() + 2;
        for (n, piece) in [header].iter().chain(pieces).chain([&status]).enumerate() {
            let at = (first + n) % QUEUE;
            let more = if n + 1 < count { NEXT } else { 0 };
            let flags = more | if piece.2 { WRITE } else { 0 };
            let next = ((at + 1) % QUEUE) as u16;
            rings.descriptors[at] = Descriptor { address: piece.0, len: piece.1, flags, next };
        }
        self.next = (first + count) % QUEUE;
        let index = rings.available[1];
        rings.available[2 + usize::from(index) % QUEUE] = first as u16;
        fence(Ordering::SeqCst);
        // SAFETY: as above; the device reads it at any time.
        unsafe { (&raw mut rings.available[1]).write_volatile(index.wrapping_add(1)) };
        fence(Ordering::SeqCst);
        first
    }

    /// Tells the device of what was submitted.
    pub fn notify(&self) {
        write32(self.base + register::QUEUE_NOTIFY, 0);
    }

    /// Waits until `count` more requests have ended; whether they did.
    pub fn wait(&mut self, count: u16) -> bool {
        let wanted = self.taken.wrapping_add(count);
        // SAFETY: the device writes it at any time.
        let index = || unsafe { (&raw const (*self.rings).used.index).read_volatile() };
        let came = time::wait_until(20 * time::FREQUENCY, || index() == wanted);
        fence(Ordering::SeqCst);
        self.taken = index();
        came
    }

    /// What a request has come to: 0 is done, 1 failed, 2 unsupported, 255 nothing yet.
    pub fn status(&self, request: usize) -> u8 {
        // SAFETY: in bounds; the device writes it at any time.
        unsafe { (&raw const (*self.rings).statuses[request]).read_volatile() }
    }

    /// A request by itself, to its end; its status.
    pub fn run(&mut self, kind: u32, sector: u64, pieces: &[Piece]) -> u8 {
        let request = self.submit(kind, sector, pieces);
        self.notify();
        if self.wait(1) { self.status(request) } else { 0xff }
    }
}

/// Memory that a device writes.
pub fn to_write(memory: &mut [u8]) -> Piece {
    (memory.as_mut_ptr() as u64, memory.len() as u32, true)
}

/// Memory that a device reads.
pub fn to_read(memory: &[u8]) -> Piece {
    (memory.as_ptr() as u64, memory.len() as u32, false)
}
