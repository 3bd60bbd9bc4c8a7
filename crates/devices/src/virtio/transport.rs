//! What every virtio device of a board has behind its registers: features, status, queues, interrupts, configuration.
//!
//! Goes by "Device Initialization" and "Device Status Field" of virtio 1.2, and where QEMU asks less of a driver than they
//! do, by QEMU: a kernel that was made on it may need that. `registers` is what drivers read and write of it.

mod registers;

use arrayvec::ArrayVec;
use memory::GuestRam;

use super::chain::Chain;
use super::mmio::Version;
use super::queue::{Broken, Queue, Rules};

/// The most queues that a device of ours has.
const MAX_QUEUES: usize = 2;
/// The most bytes of configuration that a device of ours has.
const MAX_CONFIG: usize = 64;

/// Bits of the device status.
pub(crate) mod status {
    pub(crate) const DRIVER_OK: u32 = 4;
    pub(crate) const FEATURES_OK: u32 = 8;
    pub(crate) const NEEDS_RESET: u32 = 64;
    pub(crate) const FAILED: u32 = 128;
    /// The register has 32 bits, of which these count.
    pub(crate) const ALL: u32 = 0xff;
}

/// Features that are the transport's and the queues' own.
pub(crate) mod feature {
    /// A request may be cut into buffers anywhere. Of the legacy interface alone: later it is a matter of course.
    pub(crate) const ANY_LAYOUT: u64 = 1 << 27;
    pub(crate) const INDIRECT_DESC: u64 = 1 << 28;
    pub(crate) const EVENT_IDX: u64 = 1 << 29;
    pub(crate) const VERSION_1: u64 = 1 << 32;
}

/// Causes of an interrupt.
const USED_BUFFER: u32 = 1;
/// QEMU reports a change of the configuration so, to drivers that look at one bit as to those that look at the other.
const CONFIG_CHANGE: u32 = 2 | USED_BUFFER;

/// What a write to a register asks of the device.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub enum Effect {
    /// Nothing.
    Nothing,
    /// To look at its queues.
    Notified,
    /// To forget what it knows of the driver.
    Reset,
    /// The write did not happen, and the device takes no more requests: it has to finish those that it has taken,
    /// since no guest memory may be touched once the driver sees that the write is done. To be tried again.
    Draining,
}

/// What a device is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Identity {
    pub(crate) device_id: u32,
    /// What it offers beside what all devices do.
    pub(crate) features: u64,
    /// What it offers on a legacy transport alone.
    pub(crate) legacy_features: u64,
}

/// A transport with a device.
#[derive(Clone, Debug)]
pub(crate) struct Transport {
    version: Version,
    identity: Identity,
    config: ArrayVec<u8, MAX_CONFIG>,
    generation: u32,
    /// Whether the upper half of what is offered is read, and of `wanted` is written.
    offered_upper: bool,
    wanted_upper: bool,
    /// What the driver of a modern transport wrote.
    wanted: u64,
    /// What driver and device have agreed upon.
    agreed: u64,
    /// Of a legacy transport: the binary logarithm of the unit in which the driver counts addresses.
    page_shift: u32,
    status: u32,
    /// The driver has broken a rule of a ring; until it resets the device, nothing more happens.
    broken: bool,
    interrupt: u32,
    selected: u32,
    queues: ArrayVec<Queue, MAX_QUEUES>,
    draining: bool,
}

impl Transport {
    /// A modern transport after power-on, whose device has queues of these sizes (at most [`MAX_QUEUES`]) where the driver
    /// asks for no others.
    pub(crate) fn new(identity: Identity, queue_sizes: &[u16], config: &[u8]) -> Self {
        Self {
            version: Version::default(),
            identity,
            config: config.iter().copied().take(MAX_CONFIG).collect(),
            generation: 0,
            offered_upper: false,
            wanted_upper: false,
            wanted: 0,
            agreed: 0,
            page_shift: 0,
            status: 0,
            broken: false,
            interrupt: 0,
            selected: 0,
            queues: queue_sizes.iter().copied().take(MAX_QUEUES).map(Queue::new).collect(),
            draining: false,
        }
    }

    /// Becomes a transport of this version. Before the first access.
    pub(crate) const fn set_version(&mut self, version: Version) {
        self.version = version;
    }

    /// To the state after power-on. The configuration is the device's and stays.
    pub(crate) fn power_on(&mut self) {
        let sizes: ArrayVec<u16, MAX_QUEUES> = self.queues.iter().map(Queue::default_size).collect();
        let fresh = Self::new(self.identity, &sizes, &self.config);
        *self = Self { version: self.version, generation: self.generation, ..fresh };
    }

    /// What a driver does by a status of 0. Registers that say how to read others keep what was written, as on QEMU.
    fn reset(&mut self) {
        self.queues.iter_mut().for_each(Queue::reset);
        self.agreed = 0;
        self.status = 0;
        self.broken = false;
        self.interrupt = 0;
        self.selected = 0;
        self.draining = false;
    }

    /// What the device offers.
    const fn offered(&self) -> u64 {
        let Identity { features, legacy_features, .. } = self.identity;
        let both = features | feature::INDIRECT_DESC | feature::EVENT_IDX;
        match self.version {
            Version::Legacy => both | legacy_features,
            Version::Modern => both | feature::VERSION_1,
        }
    }

    /// The driver's wishes become what is agreed upon. What was not offered is left out, and `VERSION_1` need not be among
    /// it, as on QEMU.
    fn agree(&mut self, wanted: u64) {
        self.agreed = wanted & self.offered();
        self.queues.iter_mut().for_each(Queue::rules_changed);
    }

    /// The level of the interrupt line.
    pub(crate) const fn irq_level(&self) -> bool {
        self.interrupt != 0
    }

    /// Whether driver and device have agreed upon `feature`.
    pub(crate) const fn has(&self, feature: u64) -> bool {
        self.agreed & feature != 0
    }

    /// Whether the driver has broken the device and has not reset it since.
    pub(crate) const fn is_broken(&self) -> bool {
        self.broken
    }

    /// Whether requests may be taken from a queue that a driver has set up. It need not have said that it is ready: QEMU's
    /// disks answer from the first kick on, and a boot loader's probe may come so early.
    pub(crate) const fn takes_requests(&self) -> bool {
        self.status & status::FAILED == 0 && !self.broken && !self.draining
    }

    /// Whether the driver has said that it is ready, and requests may be taken.
    pub(crate) const fn is_running(&self) -> bool {
        self.status & status::DRIVER_OK != 0 && self.takes_requests()
    }

    /// Takes the next chain of queue `index`; `false` where there is none or no requests are taken.
    pub(crate) fn pop(&mut self, ram: &GuestRam, index: usize, chain: &mut Chain) -> bool {
        self.takes_requests() && self.with_queue(index, false, |queue, rules| queue.pop(ram, rules, chain))
    }

    /// Whether queue `index` has a chain to be taken.
    pub(crate) fn has_available(&mut self, ram: &GuestRam, index: usize) -> bool {
        self.takes_requests() && self.with_queue(index, false, |queue, rules| queue.has_available(ram, rules))
    }

    /// Gives a chain back to the driver, `len` bytes of which were written.
    pub(crate) fn push(&mut self, ram: &GuestRam, index: usize, head: u16, len: u32) {
        self.fill_used(ram, index, 0, head, len);
        self.publish(ram, index, 1);
    }

    /// See `Queue::fill_used`.
    pub(crate) fn fill_used(&mut self, ram: &GuestRam, index: usize, ahead: u16, head: u16, len: u32) {
        self.with_queue(index, (), |queue, _| queue.fill_used(ram, ahead, head, len));
    }

    /// Shows the driver `count` more used chains, and interrupts it if it wants to be.
    pub(crate) fn publish(&mut self, ram: &GuestRam, index: usize, count: u16) {
        if self.with_queue(index, false, |queue, rules| queue.publish(ram, rules, count)) {
            self.interrupt |= USED_BUFFER;
        }
    }

    /// See `Queue::unpop`.
    pub(crate) fn unpop(&mut self, index: usize, count: u16) {
        if let Some(queue) = self.queues.get_mut(index) {
            queue.unpop(count);
        }
    }

    /// Replaces the configuration from byte `offset` on. The driver is told where it runs.
    pub(crate) fn set_config(&mut self, offset: usize, bytes: &[u8]) {
        for (place, byte) in self.config.iter_mut().skip(offset).zip(bytes) {
            *place = *byte;
        }
        self.tell_of_config();
    }

    fn tell_of_config(&mut self) {
        self.generation = self.generation.wrapping_add(1);
        if self.status & status::DRIVER_OK != 0 {
            self.interrupt |= CONFIG_CHANGE;
        }
    }

    /// The driver broke a rule: it has to reset the device. One that has agreed to version 1 is told so, others find that
    /// nothing is answered any more, as on QEMU.
    pub(crate) fn fail(&mut self) {
        self.broken = true;
        if self.has(feature::VERSION_1) {
            self.status |= status::NEEDS_RESET;
            self.tell_of_config();
        }
    }

    /// Does something with a queue that can be used; else the answer is `none`.
    #[inline]
    fn with_queue<T>(
        &mut self,
        index: usize,
        none: T,
        act: impl FnOnce(&mut Queue, Rules) -> Result<T, Broken>,
    ) -> T {
        // What was taken before the driver wanted its queue back is still finished.
        let rules = Rules { event_index: self.has(feature::EVENT_IDX) };
        match self.queues.get_mut(index).filter(|queue| !self.broken && queue.is_live()) {
            None => none,
            Some(queue) => act(queue, rules).unwrap_or_else(|Broken| {
                self.fail();
                none
            }),
        }
    }

    fn queue(&self) -> Option<&Queue> {
        self.queues.get(self.selected as usize)
    }

    fn queue_mut(&mut self) -> Option<&mut Queue> {
        self.queues.get_mut(self.selected as usize)
    }
}

#[cfg(test)]
mod tests;
