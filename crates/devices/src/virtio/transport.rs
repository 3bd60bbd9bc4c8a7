//! What every virtio device of a board has behind its registers: features, status, queues, interrupts, configuration.
//!
//! Goes by "Device Initialization", "Device Status Field" and "Virtio Over MMIO" of virtio 1.2.

use arrayvec::ArrayVec;
use isa::Width;
use memory::{GuestPhysAddr, GuestRam};

use super::chain::Chain;
use super::mmio::{CONFIG, MAGIC, Register, VENDOR, VERSION};
use super::queue::{Broken, MAX_SIZE, Queue, Rules};

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
    /// What a driver may set.
    pub(crate) const DRIVERS: u32 = 1 | 2 | DRIVER_OK | FEATURES_OK | FAILED;
}

/// Features that are the transport's and the queues' own.
pub(crate) mod feature {
    pub(crate) const INDIRECT_DESC: u64 = 1 << 28;
    pub(crate) const EVENT_IDX: u64 = 1 << 29;
    pub(crate) const VERSION_1: u64 = 1 << 32;
    /// What all devices offer.
    pub(crate) const COMMON: u64 = INDIRECT_DESC | EVENT_IDX | VERSION_1;
}

/// Causes of an interrupt.
const USED_BUFFER: u32 = 1;
const CONFIG_CHANGE: u32 = 2;

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

/// A transport with a device.
#[derive(Clone, Debug)]
pub(crate) struct Transport {
    device_id: u32,
    offered: u64,
    config: ArrayVec<u8, MAX_CONFIG>,
    generation: u32,
    /// Which half of `offered` is read, and of `wanted` is written.
    offered_half: u32,
    wanted_half: u32,
    /// What the driver wrote; frozen with `FEATURES_OK`.
    wanted: u64,
    status: u32,
    interrupt: u32,
    selected: u32,
    queues: ArrayVec<Queue, MAX_QUEUES>,
    draining: bool,
}

impl Transport {
    /// A device after power-on, which has `queues` queues (at most [`MAX_QUEUES`]) and offers `features` beside
    /// [`feature::COMMON`].
    pub(crate) fn new(device_id: u32, features: u64, queues: usize, config: &[u8]) -> Self {
        Self {
            device_id,
            offered: features | feature::COMMON,
            config: config.iter().copied().take(MAX_CONFIG).collect(),
            generation: 0,
            offered_half: 0,
            wanted_half: 0,
            wanted: 0,
            status: 0,
            interrupt: 0,
            selected: 0,
            queues: core::iter::repeat_n(Queue::new(), queues.min(MAX_QUEUES)).collect(),
            draining: false,
        }
    }

    /// To the state after power-on. The configuration is the device's and stays.
    pub(crate) fn reset(&mut self) {
        *self = Self {
            generation: self.generation,
            ..Self::new(self.device_id, self.offered, self.queues.len(), &self.config)
        };
    }

    /// The level of the interrupt line.
    pub(crate) const fn irq_level(&self) -> bool {
        self.interrupt != 0
    }

    /// Whether the driver has agreed to `feature`.
    pub(crate) const fn has(&self, feature: u64) -> bool {
        self.status & status::FEATURES_OK != 0 && self.wanted & feature != 0
    }

    /// Whether the driver has broken the device and has not reset it since.
    pub(crate) const fn is_broken(&self) -> bool {
        self.status & status::NEEDS_RESET != 0
    }

    /// Whether requests may be taken.
    pub(crate) const fn is_running(&self) -> bool {
        let states = status::DRIVER_OK | status::NEEDS_RESET | status::FAILED;
        self.status & states == status::DRIVER_OK && !self.draining
    }

    /// A register, or a piece of the configuration.
    pub(crate) fn read(&self, offset: u64, width: Width) -> u64 {
        match (offset.checked_sub(CONFIG), width) {
            // The bus has 32 bits: two accesses.
            (_, Width::Double) => {
                self.read(offset, Width::Word) | self.read(offset.wrapping_add(4), Width::Word) << 32
            }
            (Some(offset), _) => self.read_config(offset, width),
            // "The driver MUST only use 32 bit wide and aligned reads and writes to access the control registers".
            (None, Width::Word) => Register::at(offset).map_or(0, |register| self.register(register).into()),
            (None, _) => 0,
        }
    }

    fn register(&self, register: Register) -> u32 {
        match register {
            Register::MagicValue => MAGIC,
            Register::Version => VERSION,
            Register::DeviceId => self.device_id,
            Register::VendorId => VENDOR,
            Register::DeviceFeatures => half(self.offered, self.offered_half),
            Register::QueueNumMax => self.queue().map_or(0, |_| MAX_SIZE.into()),
            Register::QueueReady => self.queue().is_some_and(Queue::is_ready).into(),
            Register::InterruptStatus => self.interrupt,
            Register::Status => self.status,
            // The length of a region that does not exist is -1.
            Register::SharedMemory => u32::MAX,
            Register::ConfigGeneration => self.generation,
            // Write-only.
            _ => 0,
        }
    }

    /// Beyond the end it reads as ones, as on QEMU.
    fn read_config(&self, offset: u64, width: Width) -> u64 {
        let bytes = usize::try_from(offset)
            .ok()
            .and_then(|first| self.config.get(first..first.checked_add(width.bytes() as usize)?));
        match bytes {
            Some(bytes) => bytes.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte)),
            None => u64::MAX >> (64 - 8 * width.bytes()),
        }
    }

    /// Writes a register. No device here lets a driver write its configuration. `busy`: requests were taken and are
    /// not finished.
    pub(crate) fn write(&mut self, offset: u64, width: Width, value: u64, busy: bool) -> Effect {
        if width == Width::Double && offset < CONFIG {
            // Two accesses. What the first one asks for is not lost to the second.
            let first = self.write(offset, Width::Word, value, busy);
            let second = self.write(offset.wrapping_add(4), Width::Word, value >> 32, busy);
            return if first == Effect::Nothing { second } else { first };
        }
        if width != Width::Word {
            return Effect::Nothing;
        }
        let value = value as u32;
        match Register::at(offset) {
            Some(Register::DeviceFeaturesSel) => self.offered_half = value,
            Some(Register::DriverFeaturesSel) => self.wanted_half = value,
            Some(Register::DriverFeatures) if self.status & status::FEATURES_OK == 0 => {
                set_half(&mut self.wanted, self.wanted_half, value);
            }
            Some(Register::QueueSel) => self.selected = value,
            Some(Register::QueueReady) => return self.write_ready(value, busy),
            Some(Register::QueueNotify) => {
                let exists = (value as usize) < self.queues.len();
                return if exists && self.is_running() { Effect::Notified } else { Effect::Nothing };
            }
            Some(Register::InterruptAck) => self.interrupt &= !value,
            Some(Register::Status) => return self.write_status(value, busy),
            Some(register) => self.place_queue(register, value),
            None => {}
        }
        Effect::Nothing
    }

    fn write_ready(&mut self, value: u32, busy: bool) -> Effect {
        let Some(queue) = self.queue_mut() else { return Effect::Nothing };
        match value {
            0 if busy && queue.is_ready() => {
                self.draining = true;
                return Effect::Draining;
            }
            0 => {
                queue.disable();
                self.draining = false;
            }
            _ => queue.enable(),
        }
        Effect::Nothing
    }

    fn write_status(&mut self, value: u32, busy: bool) -> Effect {
        if value == 0 {
            if busy {
                self.draining = true;
                return Effect::Draining;
            }
            self.reset();
            return Effect::Reset;
        }
        // "The driver MUST NOT clear a device status bit": what is set stays until the reset.
        let mut set = value & status::DRIVERS;
        if self.status & status::FEATURES_OK == 0 && !self.accepts(self.wanted) {
            set &= !status::FEATURES_OK;
        }
        if (self.status | set) & status::FEATURES_OK == 0 {
            set &= !status::DRIVER_OK;
        }
        let starts = set & !self.status & status::DRIVER_OK != 0;
        self.status |= set;
        // What became available before is looked at now.
        if starts { Effect::Notified } else { Effect::Nothing }
    }

    /// "Feature Bits": nothing that was not offered, and no legacy drivers.
    const fn accepts(&self, wanted: u64) -> bool {
        wanted & !self.offered == 0 && wanted & feature::VERSION_1 != 0
    }

    /// "The driver MUST NOT access these registers" of a queue that is ready: they are frozen.
    fn place_queue(&mut self, register: Register, value: u32) {
        let Some(queue) = self.queue_mut().filter(|queue| !queue.is_ready()) else { return };
        let (address, which) = match register {
            Register::QueueNum => {
                queue.size = value;
                return;
            }
            Register::QueueDescLow => (&mut queue.descriptors, 0),
            Register::QueueDescHigh => (&mut queue.descriptors, 1),
            Register::QueueDriverLow => (&mut queue.driver_area, 0),
            Register::QueueDriverHigh => (&mut queue.driver_area, 1),
            Register::QueueDeviceLow => (&mut queue.device_area, 0),
            Register::QueueDeviceHigh => (&mut queue.device_area, 1),
            // Read-only.
            _ => return,
        };
        let GuestPhysAddr(address) = address;
        set_half(address, which, value);
    }

    /// Takes the next chain of queue `index`; `false` where there is none or the device does not run.
    pub(crate) fn pop(&mut self, ram: &GuestRam, index: usize, chain: &mut Chain) -> bool {
        self.is_running() && self.with_queue(index, false, |queue, rules| queue.pop(ram, rules, chain))
    }

    /// Whether queue `index` has a chain to be taken.
    pub(crate) fn has_available(&mut self, ram: &GuestRam, index: usize) -> bool {
        self.is_running() && self.with_queue(index, false, |queue, rules| queue.has_available(ram, rules))
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
        self.generation = self.generation.wrapping_add(1);
        if self.status & status::DRIVER_OK != 0 {
            self.interrupt |= CONFIG_CHANGE;
        }
    }

    /// The driver broke a rule: it has to reset the device, and is told so.
    pub(crate) fn fail(&mut self) {
        self.status |= status::NEEDS_RESET;
        self.interrupt |= CONFIG_CHANGE;
    }

    /// Does something with a queue that can be used; else the answer is `none`.
    fn with_queue<T>(
        &mut self,
        index: usize,
        none: T,
        act: impl FnOnce(&mut Queue, Rules) -> Result<T, Broken>,
    ) -> T {
        // What was taken before the driver wanted its queue back is still finished.
        let alive = self.status & (status::DRIVER_OK | status::NEEDS_RESET) == status::DRIVER_OK;
        let rules =
            Rules { indirect: self.has(feature::INDIRECT_DESC), event_index: self.has(feature::EVENT_IDX) };
        match self.queues.get_mut(index).filter(|queue| alive && queue.is_ready()) {
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

/// Half 0 or 1 of `value`; there is nothing in others.
const fn half(value: u64, which: u32) -> u32 {
    match which {
        0 => value as u32,
        1 => (value >> 32) as u32,
        _ => 0,
    }
}

fn set_half(value: &mut u64, which: u32, new: u32) {
    match which {
        0 => *value = *value >> 32 << 32 | u64::from(new),
        1 => *value = u64::from(*value as u32) | u64::from(new) << 32,
        _ => {}
    }
}

#[cfg(test)]
mod tests;
