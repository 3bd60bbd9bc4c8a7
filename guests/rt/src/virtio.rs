//! A driver of virtio devices: a transport, legacy or modern, and queues of chains, with what a real driver does for each
//! request and nothing else. What a chain says to a device is the guest's business. Virtio 1.2, "Virtio Over MMIO", "Split
//! Virtqueues".

use crate::mmio::{VIRTIO, read32, write32};
use crate::time;
use core::cell::UnsafeCell;
use core::sync::atomic::{Ordering, fence};

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
    pub const GUEST_PAGE_SIZE: u64 = 0x028;
    pub const QUEUE_SEL: u64 = 0x030;
    pub const QUEUE_NUM_MAX: u64 = 0x034;
    pub const QUEUE_NUM: u64 = 0x038;
    pub const QUEUE_ALIGN: u64 = 0x03c;
    pub const QUEUE_PFN: u64 = 0x040;
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

/// Kinds of devices.
pub mod kind {
    #![allow(missing_docs)]
    pub const NET: u32 = 1;
    pub const BLOCK: u32 = 2;
    pub const CONSOLE: u32 = 3;
    pub const ENTROPY: u32 = 4;
}

/// Transports of the machine.
pub const SLOTS: u64 = 8;

/// The feature that a device keeps to virtio 1. Legacy transports have no place for it.
pub const VERSION_1: u64 = 1 << 32;

/// Versions of a transport.
const LEGACY: u32 = 1;
const MODERN: u32 = 2;
/// The unit in which a legacy driver says where a queue is: [`Memory`]'s alignment.
const PAGE: u32 = 4096;
/// Where [`Rings`] has the used ring: at a multiple of this.
const ALIGN: u32 = 64;

/// Bits of the status.
pub mod status {
    #![allow(missing_docs)]
    pub const ACKNOWLEDGE: u32 = 1;
    pub const DRIVER: u32 = 2;
    pub const DRIVER_OK: u32 = 4;
    pub const FEATURES_OK: u32 = 8;
}

/// Flags of a descriptor.
const NEXT: u16 = 1;
const WRITE: u16 = 2;

/// Memory that a device reaches, in a static.
#[repr(C, align(4096))]
pub struct Memory<T>(UnsafeCell<T>);

// SAFETY: a guest has one hart.
unsafe impl<T> Sync for Memory<T> {}

impl<T> Memory<T> {
    /// Holds `value` at first.
    pub const fn new(value: T) -> Self {
        Self(UnsafeCell::new(value))
    }

    /// To reach it.
    pub const fn get(&self) -> *mut T {
        self.0.get()
    }

    /// Where it is.
    pub fn address(&self) -> u64 {
        self.0.get() as u64
    }
}

#[derive(Clone, Copy)]
#[repr(C)]
struct Descriptor {
    address: u64,
    len: u32,
    flags: u16,
    next: u16,
}

#[repr(C)]
struct Available<const N: usize> {
    flags: u16,
    index: u16,
    ring: [u16; N],
    event: u16,
}

#[repr(C, align(64))]
struct Used<const N: usize> {
    flags: u16,
    index: u16,
    ring: [[u32; 2]; N],
    event: u16,
}

/// What driver and device share of a queue of `N` descriptors, a power of two: one part behind the other, as legacy
/// transports want it.
#[repr(C)]
pub struct Rings<const N: usize> {
    descriptors: [Descriptor; N],
    available: Available<N>,
    used: Used<N>,
}

impl<const N: usize> Rings<N> {
    /// All zeros.
    pub const fn new() -> Self {
        Self {
            descriptors: [Descriptor { address: 0, len: 0, flags: 0, next: 0 }; N],
            available: Available { flags: 0, index: 0, ring: [0; N], event: 0 },
            used: Used { flags: 0, index: 0, ring: [[0; 2]; N], event: 0 },
        }
    }
}

impl<const N: usize> Default for Rings<N> {
    fn default() -> Self {
        Self::new()
    }
}

/// A piece of memory of a chain: its address, bytes, and whether the device writes it.
pub type Piece = (u64, u32, bool);

/// Memory that a device writes.
pub fn to_write(memory: &mut [u8]) -> Piece {
    (memory.as_mut_ptr() as u64, memory.len() as u32, true)
}

/// Memory that a device reads.
pub fn to_read(memory: &[u8]) -> Piece {
    (memory.as_ptr() as u64, memory.len() as u32, false)
}

/// A device.
pub struct Device {
    base: u64,
    version: u32,
    /// Of the features that were asked for, those that it has.
    pub features: u64,
}

impl Device {
    /// Resets the device in transport `slot` and asks it for `features` and version 1; what is left are its queues, and the
    /// start. `None` where none of this kind is, or it does not take the features.
    pub fn open(slot: u64, kind: u32, features: u64) -> Option<Self> {
        Self::open_with(slot, kind, features | VERSION_1)
    }

    /// The same, with these features and no others.
    pub fn open_with(slot: u64, kind: u32, features: u64) -> Option<Self> {
        use register::*;
        use status::*;
        let base = VIRTIO + 0x1000 * slot;
        let version = read32(base + VERSION);
        let is_known = read32(base + MAGIC) == 0x7472_6976 && matches!(version, LEGACY | MODERN);
        if !is_known || read32(base + DEVICE) != kind {
            return None;
        }
        write32(base + STATUS, 0);
        if !time::wait_until(20 * time::FREQUENCY, || read32(base + STATUS) == 0) {
            return None;
        }
        write32(base + STATUS, ACKNOWLEDGE | DRIVER);
        write32(base + DEVICE_FEATURES_SEL, 0);
        let low = read32(base + DEVICE_FEATURES);
        write32(base + DEVICE_FEATURES_SEL, 1);
        let offered = u64::from(read32(base + DEVICE_FEATURES)) << 32 | u64::from(low);
        let features = offered & features;
        write32(base + DRIVER_FEATURES_SEL, 0);
        write32(base + DRIVER_FEATURES, features as u32);
        write32(base + DRIVER_FEATURES_SEL, 1);
        write32(base + DRIVER_FEATURES, (features >> 32) as u32);
        let device = Self { base, version, features };
        if version == LEGACY {
            write32(base + GUEST_PAGE_SIZE, PAGE);
            return Some(device);
        }
        write32(base + STATUS, ACKNOWLEDGE | DRIVER | FEATURES_OK);
        (device.status() & FEATURES_OK != 0).then_some(device)
    }

    /// The queue with this number, in these rings, which no other one has; `None` where it cannot be as long.
    pub fn queue<const N: usize>(&self, number: u32, rings: &'static Memory<Rings<N>>) -> Option<Queue<N>> {
        use register::*;
        let base = self.base;
        write32(base + QUEUE_SEL, number);
        if read32(base + QUEUE_NUM_MAX) < N as u32 {
            return None;
        }
        write32(base + QUEUE_NUM, N as u32);
        let rings = rings.get();
        // SAFETY: no device has them.
        let (descriptors, available, used) = unsafe {
            rings.write(Rings::new());
            (
                &raw const (*rings).descriptors as u64,
                &raw const (*rings).available as u64,
                &raw const (*rings).used as u64,
            )
        };
        if self.version == LEGACY {
            write32(base + QUEUE_ALIGN, ALIGN);
            write32(base + QUEUE_PFN, (descriptors / u64::from(PAGE)) as u32);
            return Some(Queue { number, rings, next: 0, taken: 0 });
        }
        for (register, address) in
            [(QUEUE_DESC, descriptors), (QUEUE_DRIVER, available), (QUEUE_DEVICE, used)]
        {
            write32(base + register, address as u32);
            write32(base + register + 4, (address >> 32) as u32);
        }
        write32(base + QUEUE_READY, 1);
        Some(Queue { number, rings, next: 0, taken: 0 })
    }

    /// Lets it work.
    pub fn start(&self) {
        use status::*;
        let agreed = if self.version == LEGACY { 0 } else { FEATURES_OK };
        write32(self.base + register::STATUS, ACKNOWLEDGE | DRIVER | agreed | DRIVER_OK);
    }

    /// Its status.
    pub fn status(&self) -> u32 {
        read32(self.base + register::STATUS)
    }

    /// Whether its transport is the legacy one.
    pub fn is_legacy(&self) -> bool {
        self.version == LEGACY
    }

    /// Where its registers are.
    pub fn base(&self) -> u64 {
        self.base
    }

    /// Where its configuration is.
    pub fn config(&self) -> u64 {
        self.base + register::CONFIG
    }

    /// Tells it of what was offered.
    pub fn notify<const N: usize>(&self, queue: &Queue<N>) {
        write32(self.base + register::QUEUE_NOTIFY, queue.number);
    }

    /// Takes its interrupts back: which they were.
    pub fn acknowledge(&self) -> u32 {
        let status = read32(self.base + register::INTERRUPT_STATUS);
        write32(self.base + register::INTERRUPT_ACK, status);
        status
    }
}

/// One of a device's queues.
pub struct Queue<const N: usize> {
    number: u32,
    rings: *mut Rings<N>,
    next: usize,
    taken: u16,
}

impl<const N: usize> Queue<N> {
    /// The descriptor that the next chain begins with.
    pub fn head(&self) -> usize {
        self.next
    }

    /// Puts a chain into the ring. At most `N` pieces are under way.
    pub fn offer(&mut self, pieces: &[Piece]) {
        // SAFETY: the rings are this queue's, and the device does not have these descriptors.
        let rings = unsafe { &mut *self.rings };
        let first = self.next;
        for (n, &(address, len, writes)) in pieces.iter().enumerate() {
            let at = (first + n) % N;
            let more = if n + 1 < pieces.len() { NEXT } else { 0 };
            let flags = more | if writes { WRITE } else { 0 };
            rings.descriptors[at] = Descriptor { address, len, flags, next: ((at + 1) % N) as u16 };
        }
        self.next = (first + pieces.len()) % N;
        let index = rings.available.index;
        rings.available.ring[usize::from(index) % N] = first as u16;
        fence(Ordering::SeqCst);
        // SAFETY: as above; the device reads it at any time.
        unsafe { (&raw mut rings.available.index).write_volatile(index.wrapping_add(1)) };
        fence(Ordering::SeqCst);
    }

    /// How many chains have ended and were not taken.
    pub fn ended(&self) -> u16 {
        // SAFETY: the device writes it at any time.
        let index = unsafe { (&raw const (*self.rings).used.index).read_volatile() };
        fence(Ordering::SeqCst);
        index.wrapping_sub(self.taken)
    }

    /// The head of the one that is taken next, which has ended.
    pub fn ended_head(&self) -> usize {
        let at = usize::from(self.taken) % N;
        // SAFETY: the device has written it.
        unsafe { (&raw const (*self.rings).used.ring[at][0]).read_volatile() as usize }
    }

    /// Takes chains that have ended.
    pub fn take(&mut self, count: u16) {
        self.taken = self.taken.wrapping_add(count);
    }
}
