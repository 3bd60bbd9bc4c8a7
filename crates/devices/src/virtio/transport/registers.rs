//! The registers of both transports: virtio 1.2, "Virtio Over MMIO", and "Legacy interface" there.
//!
//! What a driver may write, and when, is what QEMU takes. A register that the transport's version does not have reads 0
//! and ignores writes.

use isa::Width;
use memory::GuestPhysAddr;

use super::{Effect, Transport, status};
use crate::virtio::mmio::{CONFIG, MAGIC, Register, VENDOR, Version};
use crate::virtio::queue::{MAX_SIZE, Queue};

/// A driver can name so many queues, whatever the device has; larger numbers change nothing, as on QEMU.
const NAMED_QUEUES: u32 = 1024;

impl Transport {
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
        let is_modern = self.version == Version::Modern;
        match register {
            Register::MagicValue => MAGIC,
            Register::Version => self.version.number(),
            Register::DeviceId => self.identity.device_id,
            Register::VendorId => VENDOR,
            Register::DeviceFeatures => half(self.offered(), self.offered_upper),
            Register::QueueNumMax => self.queue().map_or(0, |_| MAX_SIZE.into()),
            Register::QueuePfn if !is_modern => {
                let GuestPhysAddr(place) =
                    self.queue().map_or(GuestPhysAddr(0), |queue| queue.parts.descriptors);
                (place >> self.page_shift) as u32
            }
            Register::QueueReady if is_modern => self.queue().is_some_and(Queue::is_ready).into(),
            Register::InterruptStatus => self.interrupt,
            Register::Status => self.status,
            // The length of a region that does not exist is -1.
            Register::SharedMemoryLength => u32::MAX,
            Register::ConfigGeneration if is_modern => self.generation,
            // Write-only, or the other version's.
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
        let Some(register) = Register::at(offset) else { return Effect::Nothing };
        let value = value as u32;
        match register {
            Register::DeviceFeaturesSel => self.offered_upper = value != 0,
            Register::DriverFeaturesSel => self.wanted_upper = value != 0,
            Register::QueueSel if value < NAMED_QUEUES => self.selected = value,
            Register::QueueNotify => return self.notify(value),
            Register::InterruptAck => self.interrupt &= !value,
            Register::Status => return self.write_status(value & status::ALL, busy),
            _ => {
                return match self.version {
                    Version::Legacy => self.write_legacy(register, value, busy),
                    Version::Modern => self.write_modern(register, value, busy),
                };
            }
        }
        Effect::Nothing
    }

    fn notify(&self, index: u32) -> Effect {
        let is_live = self.queues.get(index as usize).is_some_and(Queue::is_live);
        if is_live && self.takes_requests() { Effect::Notified } else { Effect::Nothing }
    }

    fn write_status(&mut self, value: u32, busy: bool) -> Effect {
        if value == 0 {
            return self.reset_by_driver(busy);
        }
        // Features may be written at any time, and count from here on.
        let agrees = value & !self.status & status::FEATURES_OK != 0;
        if self.version == Version::Modern && agrees {
            self.agree(self.wanted);
        }
        self.status = value;
        Effect::Nothing
    }

    fn reset_by_driver(&mut self, busy: bool) -> Effect {
        if busy {
            self.draining = true;
            return Effect::Draining;
        }
        self.reset();
        Effect::Reset
    }

    fn write_modern(&mut self, register: Register, value: u32, busy: bool) -> Effect {
        if register == Register::DriverFeatures {
            set_half(&mut self.wanted, self.wanted_upper, value);
            return Effect::Nothing;
        }
        let Some(queue) = self.queue_mut() else { return Effect::Nothing };
        let parts = &mut queue.written;
        let (GuestPhysAddr(address), upper) = match register {
            Register::QueueDescLow => (&mut parts.descriptors, false),
            Register::QueueDescHigh => (&mut parts.descriptors, true),
            Register::QueueDriverLow => (&mut parts.driver_area, false),
            Register::QueueDriverHigh => (&mut parts.driver_area, true),
            Register::QueueDeviceLow => (&mut parts.device_area, false),
            Register::QueueDeviceHigh => (&mut parts.device_area, true),
            Register::QueueNum => {
                queue.set_size(value);
                return Effect::Nothing;
            }
            Register::QueueReady => return self.write_ready(value, busy),
            // Read-only, or legacy.
            _ => return Effect::Nothing,
        };
        set_half(address, upper, value);
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

    fn write_legacy(&mut self, register: Register, value: u32, busy: bool) -> Effect {
        match register {
            // There is no step at which features are agreed upon: they count at once.
            Register::DriverFeatures if !self.wanted_upper && self.status & status::FEATURES_OK == 0 => {
                self.agree(value.into());
            }
            // The lowest bit that is set, as on QEMU; without one it is 1.
            Register::GuestPageSize => self.page_shift = value.trailing_zeros() % u32::BITS,
            Register::QueuePfn if value == 0 => return self.reset_by_driver(busy),
            _ => {
                // At most 32 bits and 31 more.
                let place = GuestPhysAddr(u64::from(value) << self.page_shift);
                let Some(queue) = self.queue_mut() else { return Effect::Nothing };
                match register {
                    Register::QueueNum => queue.set_legacy_size(value),
                    Register::QueueAlign => queue.set_align(value),
                    Register::QueuePfn => queue.set_legacy_place(place),
                    // Read-only, or modern.
                    _ => {}
                }
            }
        }
        Effect::Nothing
    }
}

/// The upper or lower half of `value`.
const fn half(value: u64, upper: bool) -> u32 {
    if upper { (value >> 32) as u32 } else { value as u32 }
}

fn set_half(value: &mut u64, upper: bool, new: u32) {
    *value = if upper {
        u64::from(*value as u32) | u64::from(new) << 32
    } else {
        *value >> 32 << 32 | u64::from(new)
    };
}
