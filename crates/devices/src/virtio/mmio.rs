//! The registers of the virtio-mmio transport (virtio 1.2, "MMIO Device Register Layout" and "Legacy interface").
//!
//! A board always shows all its slots; one without a device says so with device id 0 and drivers pass it by.

use isa::Width;

use crate::Refused;

/// Which of the two transports a board's slots are. A driver for one of them cannot use the other.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Version {
    /// Version 1, the legacy interface: what QEMU's slots are unless it is started with `force-legacy=false`.
    Legacy,
    /// Version 2, of virtio 1.0 and later.
    #[default]
    Modern,
}

impl Version {
    /// What the register `Version` says.
    pub const fn number(self) -> u32 {
        match self {
            Self::Legacy => 1,
            Self::Modern => 2,
        }
    }
}

/// `MagicValue`: "virt", little-endian.
pub const MAGIC: u32 = 0x7472_6976;
/// `VendorID`: QEMU's, "QEMU" in ASCII.
pub const VENDOR: u32 = 0x554d_4551;
/// `DeviceID` of a slot with no device.
pub const NO_DEVICE: u32 = 0;
/// Where the device's configuration space begins.
pub const CONFIG: u64 = 0x100;

/// A register, each of 32 bits. What is not here reads 0 and ignores writes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub enum Register {
    MagicValue,
    Version,
    DeviceId,
    VendorId,
    DeviceFeatures,
    DeviceFeaturesSel,
    DriverFeatures,
    DriverFeaturesSel,
    /// Legacy alone.
    GuestPageSize,
    QueueSel,
    QueueNumMax,
    QueueNum,
    /// Legacy alone.
    QueueAlign,
    /// Legacy alone.
    QueuePfn,
    /// Modern alone, as are the queues' addresses and the generation.
    QueueReady,
    QueueNotify,
    InterruptStatus,
    InterruptAck,
    Status,
    QueueDescLow,
    QueueDescHigh,
    QueueDriverLow,
    QueueDriverHigh,
    QueueDeviceLow,
    QueueDeviceHigh,
    /// The length of a region of shared memory, of which no device here has any.
    SharedMemoryLength,
    ConfigGeneration,
}

impl Register {
    /// The register that begins at `offset`.
    pub const fn at(offset: u64) -> Option<Self> {
        Some(match offset {
            0x000 => Self::MagicValue,
            0x004 => Self::Version,
            0x008 => Self::DeviceId,
            0x00c => Self::VendorId,
            0x010 => Self::DeviceFeatures,
            0x014 => Self::DeviceFeaturesSel,
            0x020 => Self::DriverFeatures,
            0x024 => Self::DriverFeaturesSel,
            0x028 => Self::GuestPageSize,
            0x030 => Self::QueueSel,
            0x034 => Self::QueueNumMax,
            0x038 => Self::QueueNum,
            0x03c => Self::QueueAlign,
            0x040 => Self::QueuePfn,
            0x044 => Self::QueueReady,
            0x050 => Self::QueueNotify,
            0x060 => Self::InterruptStatus,
            0x064 => Self::InterruptAck,
            0x070 => Self::Status,
            0x080 => Self::QueueDescLow,
            0x084 => Self::QueueDescHigh,
            0x090 => Self::QueueDriverLow,
            0x094 => Self::QueueDriverHigh,
            0x0a0 => Self::QueueDeviceLow,
            0x0a4 => Self::QueueDeviceHigh,
            0x0b0 | 0x0b4 => Self::SharedMemoryLength,
            0x0fc => Self::ConfigGeneration,
            _ => return None,
        })
    }
}

/// A transport with no device: identifies itself, reads 0 elsewhere, ignores writes, never interrupts.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct EmptySlot {
    /// Which transport it is.
    pub version: Version,
}

impl EmptySlot {
    /// The register that begins at `offset`, cut to `width`; two registers for a double word.
    pub fn read(&self, offset: u64, width: Width) -> Result<u64, Refused> {
        Ok(match width {
            Width::Byte => u64::from(self.word(offset) as u8),
            Width::Half => u64::from(self.word(offset) as u16),
            Width::Word => u64::from(self.word(offset)),
            Width::Double => {
                u64::from(self.word(offset)) | u64::from(self.word(offset.wrapping_add(4))) << 32
            }
        })
    }

    /// Does nothing, for any width.
    pub fn write(&self, _offset: u64, _width: Width, _value: u64) -> Result<(), Refused> {
        Ok(())
    }

    fn word(self, offset: u64) -> u32 {
        match Register::at(offset) {
            Some(Register::MagicValue) => MAGIC,
            Some(Register::Version) => self.version.number(),
            Some(Register::DeviceId) => NO_DEVICE,
            Some(Register::VendorId) => VENDOR,
            _ => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_slot_identifies_itself_and_has_no_device() {
        for (version, number) in [(Version::Legacy, 1), (Version::Modern, 2)] {
            let slot = EmptySlot { version };
            let words = [0x0, 0x4, 0x8, 0xc].map(|offset| slot.read(offset, Width::Word));
            assert_eq!(words, [Ok(0x7472_6976), Ok(number), Ok(0), Ok(0x554d_4551)]);
            assert_eq!(slot.read(0x0, Width::Byte), Ok(0x76));
            assert_eq!(slot.read(0x0, Width::Double), Ok(number << 32 | 0x7472_6976));
        }
    }

    #[test]
    fn the_rest_of_an_empty_slot_reads_zero() {
        for offset in (0x10..0x200).chain([1, 2, 3]) {
            assert_eq!(EmptySlot::default().read(offset, Width::Byte), Ok(0));
        }
    }
}
