//! A device with its interrupt, which is claimed and taken back as an interrupt handler does.

use guest_rt::mmio::{VIRTIO, plic, read8, read32, write32};
use guest_rt::virtio::{Device, Memory, Queue, Rings, SLOTS, register};

/// Descriptors of a queue.
pub const SIZE: usize = 16;

/// The interrupt controller passes everything on.
pub fn set_up_interrupts() {
    write32(plic::THRESHOLD, 0);
}

/// A device whose interrupts are on.
pub struct Driver {
    device: Device,
    source: u32,
}

impl Driver {
    /// All devices of this kind, up to their queues. Of their features they are asked for version 1 only.
    pub fn all(kind: u32) -> impl Iterator<Item = Self> {
        (0..SLOTS).filter_map(move |slot| {
            let device = Device::open(slot, kind, 0)?;
            let source = 1 + slot as u32;
            write32(plic::priority(source), 1);
            let enabled = plic::enable(source);
            write32(enabled, read32(enabled) | 1 << source);
            Some(Self { device, source })
        })
    }

    /// Its queue with this number, in these rings.
    pub fn queue(&self, number: u32, rings: &'static Memory<Rings<SIZE>>) -> Queue<SIZE> {
        self.device.queue(number, rings).expect("devices have room for so short a queue")
    }

    /// Lets it work.
    pub fn start(&self) {
        self.device.start();
    }

    /// A network interface's address.
    pub fn mac(&self) -> [u8; 6] {
        core::array::from_fn(|n| read8(self.device.config() + n as u64))
    }

    /// Tells it of what was offered.
    pub fn notify(&self, queue: &Queue<SIZE>) {
        self.device.notify(queue);
    }

    /// Takes a request that has ended, as an interrupt handler does.
    pub fn take(&self, queue: &mut Queue<SIZE>) {
        queue.take(1);
        self.acknowledge();
    }

    /// Claims the device's interrupt and takes it back, if there is one.
    fn acknowledge(&self) {
        loop {
            let source = read32(plic::CLAIM);
            if source == 0 {
                return;
            }
            let base = VIRTIO + 0x1000 * u64::from(source - 1);
            write32(base + register::INTERRUPT_ACK, read32(base + register::INTERRUPT_STATUS));
            write32(plic::CLAIM, source);
            if source == self.source {
                return;
            }
        }
    }
}
