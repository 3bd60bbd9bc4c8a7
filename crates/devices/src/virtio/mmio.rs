//! The virtio-mmio transport ("Virtio Over MMIO", virtio 1.2 section 4.2).
//!
//! A board always shows all its slots; one without a device says so with device id 0 and drivers pass it by.

use isa::Width;

use crate::Refused;

/// `MagicValue`: "virt", little-endian.
pub const MAGIC: u32 = 0x7472_6976;
/// `Version`: the modern interface. QEMU's slots say 1 unless started with `force-legacy=false`; every device
/// that will stand here is modern, and a driver looks at the device id of an empty slot all the same.
pub const VERSION: u32 = 2;
/// `VendorID`: QEMU's, "QEMU" in ASCII.
pub const VENDOR: u32 = 0x554d_4551;
/// `DeviceID` of a slot with no device.
pub const NO_DEVICE: u32 = 0;

/// The registers that an empty slot has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub enum Register {
    MagicValue,
    Version,
    DeviceId,
    VendorId,
}

impl Register {
    /// The register that begins at `offset`.
    pub const fn at(offset: u64) -> Option<Self> {
        match offset {
            0x000 => Some(Self::MagicValue),
            0x004 => Some(Self::Version),
            0x008 => Some(Self::DeviceId),
            0x00c => Some(Self::VendorId),
            _ => None,
        }
    }
}

/// A transport with no device: identifies itself, reads 0 elsewhere, ignores writes, never interrupts.
#[derive(Clone, Copy, Debug, Default)]
pub struct EmptySlot;

impl EmptySlot {
    /// The register that begins at `offset`, cut to `width`; two registers for a double word.
    pub fn read(&self, offset: u64, width: Width) -> Result<u64, Refused> {
        Ok(match width {
            Width::Byte => u64::from(word(offset) as u8),
            Width::Half => u64::from(word(offset) as u16),
            Width::Word => u64::from(word(offset)),
            Width::Double => u64::from(word(offset)) | u64::from(word(offset.wrapping_add(4))) << 32,
        })
    }

    /// Does nothing, for any width.
    pub fn write(&self, _offset: u64, _width: Width, _value: u64) -> Result<(), Refused> {
        Ok(())
    }
}

fn word(offset: u64) -> u32 {
    match Register::at(offset) {
        Some(Register::MagicValue) => MAGIC,
        Some(Register::Version) => VERSION,
        Some(Register::DeviceId) => NO_DEVICE,
        Some(Register::VendorId) => VENDOR,
        None => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_slot_identifies_itself_and_has_no_device() {
        let words = [0x0, 0x4, 0x8, 0xc].map(|offset| EmptySlot.read(offset, Width::Word));
        assert_eq!(words, [Ok(0x7472_6976), Ok(2), Ok(0), Ok(0x554d_4551)]);
        assert_eq!(EmptySlot.read(0x0, Width::Byte), Ok(0x76));
        assert_eq!(EmptySlot.read(0x0, Width::Double), Ok(0x2_7472_6976));
    }

    #[test]
    fn the_rest_of_an_empty_slot_reads_zero() {
        for offset in (0x10..0x200).chain([1, 2, 3]) {
            assert_eq!(EmptySlot.read(offset, Width::Byte), Ok(0));
        }
    }
}
