//! A driver of virtio devices, with what a real one does for each request and nothing else. Virtio 1.2, "Virtio Over MMIO",
//! "Split Virtqueues".

use core::sync::atomic::{Ordering, fence};

const FIRST: u64 = 0x1000_1000;
const PLIC: u64 = 0x0c00_0000;
/// Descriptors of a queue.
pub const SIZE: usize = 16;

mod register {
    pub const MAGIC: u64 = 0x000;
    pub const DEVICE: u64 = 0x008;
    pub const DRIVER_FEATURES: u64 = 0x020;
    pub const DRIVER_FEATURES_SEL: u64 = 0x024;
    pub const QUEUE_SEL: u64 = 0x030;
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

fn read(address: u64) -> u32 {
    // SAFETY: a device's register.
    unsafe { (address as *const u32).read_volatile() }
}

fn write(address: u64, value: u32) {
    // SAFETY: a device's register.
    unsafe { (address as *mut u32).write_volatile(value) }
}

/// The interrupt controller passes everything on.
pub fn set_up_interrupts() {
    write(PLIC + 0x20_1000, 0);
}

#[derive(Clone, Copy)]
#[repr(C)]
struct Descriptor {
    address: u64,
    len: u32,
    flags: u16,
    next: u16,
}

/// What driver and device share of a queue.
#[repr(C)]
pub struct Rings {
    descriptors: [Descriptor; SIZE],
    available: [u16; 2 + SIZE + 1],
    used: Used,
}

#[repr(C, align(4))]
struct Used {
    flags: u16,
    index: u16,
    ring: [[u32; 2]; SIZE],
    event: u16,
}

impl Rings {
    /// All zeros.
    pub const fn new() -> Self {
        Self {
            descriptors: [Descriptor { address: 0, len: 0, flags: 0, next: 0 }; SIZE],
            available: [0; 2 + SIZE + 1],
            used: Used { flags: 0, index: 0, ring: [[0; 2]; SIZE], event: 0 },
        }
    }
}

/// A device in a slot.
pub struct Device {
    base: u64,
    source: u32,
}

/// One of its queues.
pub struct Queue {
    number: u32,
    rings: *mut Rings,
    next: usize,
    taken: u16,
}

/// Memory of a request: its address, bytes, and whether the device writes it.
pub type Piece = (u64, u32, bool);

impl Device {
    /// The device in `slot`, if it is of this kind; up to its queues. Of its features it is asked for version 1 only.
    pub fn open(slot: u64, kind: u32) -> Option<Self> {
        use register::*;
        let base = FIRST + 0x1000 * slot;
        if read(base + MAGIC) != 0x7472_6976 || read(base + DEVICE) != kind {
            return None;
        }
        write(base + STATUS, 0);
        write(base + STATUS, 1 | 2);
        write(base + DRIVER_FEATURES_SEL, 0);
        write(base + DRIVER_FEATURES, 0);
        write(base + DRIVER_FEATURES_SEL, 1);
        write(base + DRIVER_FEATURES, 1);
        write(base + STATUS, 1 | 2 | 8);
        let source = 1 + slot as u32;
        write(PLIC + 4 * u64::from(source), 1);
        let enabled = PLIC + 0x2080;
        write(enabled, read(enabled) | 1 << source);
        Some(Self { base, source })
    }

    /// Lets it work.
    pub fn start(&self) {
        write(self.base + register::STATUS, 1 | 2 | 8 | 4);
    }

    /// A network interface's address.
    pub fn mac(&self) -> [u8; 6] {
        let byte = |n| (self.base + register::CONFIG + n) as *const u8;
        // SAFETY: a device's register.
        core::array::from_fn(|n| unsafe { byte(n as u64).read_volatile() })
    }

    /// Tells it of what was offered.
    pub fn notify(&self, queue: &Queue) {
        write(self.base + register::QUEUE_NOTIFY, queue.number);
    }

    /// Takes a request that has ended, as an interrupt handler does.
    pub fn take(&self, queue: &mut Queue) {
        queue.taken = queue.taken.wrapping_add(1);
        self.acknowledge();
    }

    /// Claims the device's interrupt and takes it back, if there is one.
    fn acknowledge(&self) {
        let claim = PLIC + 0x20_1004;
        loop {
            let source = read(claim);
            if source == 0 {
                return;
            }
            let base = FIRST + 0x1000 * u64::from(source - 1);
            write(base + register::INTERRUPT_ACK, read(base + register::INTERRUPT_STATUS));
            write(claim, source);
            if source == self.source {
                return;
            }
        }
    }
}

impl Queue {
    /// The device's queue with this number, in these rings.
    pub fn new(device: &Device, number: u32, rings: u64) -> Self {
        use register::*;
        let base = device.base;
        write(base + QUEUE_SEL, number);
        write(base + QUEUE_NUM, SIZE as u32);
        let rings = rings as *mut Rings;
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
            write(base + register, address as u32);
            write(base + register + 4, (address >> 32) as u32);
        }
        write(base + QUEUE_READY, 1);
        Self { number, rings, next: 0, taken: 0 }
    }

    /// Puts a request into the ring.
    pub fn offer(&mut self, pieces: &[Piece]) {
        // SAFETY: the rings are this queue's, and the device does not have these descriptors.
        let rings = unsafe { &mut *self.rings };
        let first = self.next;
        for (n, (address, len, writes)) in pieces.iter().enumerate() {
            let at = (first + n) % SIZE;
            let more = u16::from(n + 1 < pieces.len());
            let flags = more | u16::from(*writes) << 1;
            rings.descriptors[at] =
                Descriptor { address: *address, len: *len, flags, next: ((at + 1) % SIZE) as u16 };
        }
        self.next = (first + pieces.len()) % SIZE;
        let index = rings.available[1];
        rings.available[2 + usize::from(index) % SIZE] = first as u16;
        fence(Ordering::SeqCst);
        // SAFETY: as above; the device reads it at any time.
        unsafe { (&raw mut rings.available[1]).write_volatile(index.wrapping_add(1)) };
        fence(Ordering::SeqCst);
    }

    /// Which buffer the next request that has ended was given, where each has one descriptor.
    pub fn ended(&self) -> usize {
        let at = usize::from(self.taken) % SIZE;
        // SAFETY: the device has written it.
        unsafe { (&raw const (*self.rings).used.ring[at][0]).read_volatile() as usize }
    }

    /// Whether one more request has ended.
    pub fn has_ended(&self) -> bool {
        // SAFETY: the device writes it at any time.
        let index = unsafe { (&raw const (*self.rings).used.index).read_volatile() };
        fence(Ordering::SeqCst);
        index != self.taken
    }
}
