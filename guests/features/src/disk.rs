//! A driver of a virtio disk, as small as tests allow: one chain for each request, the used ring looked at again and again.
//! Virtio 1.2, "Block Device".

use guest_rt::mmio::read32;
use guest_rt::time;
use guest_rt::virtio::{self, Device, Piece, Queue, Rings};

/// Descriptors in the queue.
pub const QUEUE: usize = 64;
/// Pieces of memory that a request may have.
const MAX_PIECES: usize = 6;
/// Feature bits.
pub const READ_ONLY: u64 = 1 << 5;
/// See `READ_ONLY`.
pub const FLUSH: u64 = 1 << 9;
/// See `READ_ONLY`.
pub const DISCARD: u64 = 1 << 13;
/// See `READ_ONLY`.
pub const WRITE_ZEROES: u64 = 1 << 14;

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

/// Memory for a disk's queue, in a static.
pub struct Memory {
    rings: virtio::Memory<Rings<QUEUE>>,
    requests: virtio::Memory<Requests>,
}

/// By the head of a request's chain.
struct Requests {
    headers: [[u64; 2]; QUEUE],
    statuses: [u8; QUEUE],
}

impl Memory {
    /// All zeros.
    pub const fn new() -> Self {
        let requests = Requests { headers: [[0; 2]; QUEUE], statuses: [0; QUEUE] };
        Self { rings: virtio::Memory::new(Rings::new()), requests: virtio::Memory::new(requests) }
    }
}

impl Default for Memory {
    fn default() -> Self {
        Self::new()
    }
}

/// A disk.
pub struct Disk {
    device: Device,
    queue: Queue<QUEUE>,
    requests: *mut Requests,
}

impl Disk {
    /// Takes over the disk in transport `slot`; `None` where there is none or it does not take the features.
    pub fn open(slot: u64, memory: &'static Memory) -> Option<Self> {
        let wanted = READ_ONLY | FLUSH | DISCARD | WRITE_ZEROES;
        let device = Device::open(slot, virtio::kind::BLOCK, wanted)?;
        let queue = device.queue(0, &memory.rings)?;
        device.start();
        Some(Self { device, queue, requests: memory.requests.get() })
    }

    /// Of the features that were asked for, those that it has.
    pub fn features(&self) -> u64 {
        self.device.features
    }

    /// Sectors.
    pub fn capacity(&self) -> u64 {
        let word = |offset| u64::from(read32(self.device.config() + offset));
        word(4) << 32 | word(0)
    }

    /// Whether its interrupt is raised; takes it back.
    pub fn interrupted(&self) -> bool {
        self.device.acknowledge() & 1 != 0
    }

    /// Puts a request of at most six pieces into the ring; where its status will be.
    pub fn submit(&mut self, kind: u32, sector: u64, pieces: &[Piece]) -> usize {
        let request = self.queue.head();
        // SAFETY: they are this disk's alone, and the device does not have this one.
        let requests = unsafe { &mut *self.requests };
        requests.headers[request] = [u64::from(kind), sector];
        requests.statuses[request] = 0xff;
        let header = (&raw const requests.headers[request] as u64, 16, false);
        let status = (&raw const requests.statuses[request] as u64, 1, true);
        let mut chain = [status; MAX_PIECES + 2];
        chain[0] = header;
        chain[1..=pieces.len()].copy_from_slice(pieces);
        self.queue.offer(&chain[..pieces.len() + 2]);
        request
    }

    /// Tells the device of what was submitted.
    pub fn notify(&self) {
        self.device.notify(&self.queue);
    }

    /// Waits until `count` more requests have ended; whether they did.
    pub fn wait(&mut self, count: u16) -> bool {
        let came = time::wait_until(20 * time::FREQUENCY, || self.queue.ended() == count);
        self.queue.take(self.queue.ended());
        came
    }

    /// What a request has come to: 0 is done, 1 failed, 2 unsupported, 255 nothing yet.
    pub fn status(&self, request: usize) -> u8 {
        // SAFETY: in bounds; the device writes it at any time.
        unsafe { (&raw const (*self.requests).statuses[request]).read_volatile() }
    }

    /// A request by itself, to its end; its status.
    pub fn run(&mut self, kind: u32, sector: u64, pieces: &[Piece]) -> u8 {
        let request = self.submit(kind, sector, pieces);
        self.notify();
        if self.wait(1) { self.status(request) } else { 0xff }
    }
}
