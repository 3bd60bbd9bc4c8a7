//! Where each device is: the one list, which the device tree and the documentation follow.

use isa::Width;
use memory::GuestPhysAddr;

use crate::slots::SlotId;

/// The UART's interrupt source.
pub const UART_IRQ: u32 = 10;
/// The RTC's interrupt source.
pub const RTC_IRQ: u32 = 11;
/// The interrupt source of the first transport; the others follow.
pub const VIRTIO_IRQ: u32 = 1;

const UART_BASE: u64 = 0x1000_0000;
/// Where the first transport is, and how far the next ones are from each other.
const VIRTIO_BASE: u64 = 0x1000_1000;
const VIRTIO_STEP: u64 = 0x1000;

/// Which device.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub enum Device {
    Uart,
    Plic,
    Rtc,
    Finisher,
    /// A virtio transport.
    Virtio(SlotId),
}

/// A device's place.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Region {
    /// A short name, for people.
    pub name: &'static str,
    /// What is there.
    pub device: Device,
    /// Its first address.
    pub base: GuestPhysAddr,
    /// How many bytes answer; an access beyond is an access fault.
    pub size: u64,
    /// How many bytes the device tree's `reg` claims, as on QEMU.
    pub claimed: u64,
    /// Its interrupt source at the PLIC.
    pub irq: Option<u32>,
}

/// Every device, the most often used first. Any two are disjoint.
pub const MAP: [Region; 12] = [
    region("uart", Device::Uart, UART_BASE, 0x8, 0x100, Some(UART_IRQ)),
    region("plic", Device::Plic, 0x0c00_0000, 0x60_0000, 0x60_0000, None),
    virtio(0),
    virtio(1),
    virtio(2),
    virtio(3),
    virtio(4),
    virtio(5),
    virtio(6),
    virtio(7),
    region("rtc", Device::Rtc, 0x0010_1000, 0x24, 0x1000, Some(RTC_IRQ)),
    region("finisher", Device::Finisher, 0x0010_0000, 0x1000, 0x1000, None),
];

/// The device that answers an access of `width` at `address`, and the offset in it. An access that is
/// misaligned or reaches over the end is nobody's.
#[inline]
pub fn find(address: GuestPhysAddr, width: Width) -> Option<(&'static Region, u64)> {
    if !address.is_aligned(width.bytes()) {
        return None;
    }
    MAP.iter().find_map(|region| {
        let offset = address.offset_from(region.base)?;
        let fits = offset.checked_add(width.bytes())? <= region.size;
        fits.then_some((region, offset))
    })
}

/// Whether a register of the UART's is at `address`.
pub const fn is_uart(address: GuestPhysAddr) -> bool {
    address.0 & !7 == UART_BASE
}

/// Whether the console's bytes are read and written at `address`.
pub const fn is_uart_data(address: GuestPhysAddr) -> bool {
    address.0 == UART_BASE
}

const fn region(
    name: &'static str,
    device: Device,
    base: u64,
    size: u64,
    claimed: u64,
    irq: Option<u32>,
) -> Region {
    Region { name, device, base: GuestPhysAddr(base), size, claimed, irq }
}

const fn virtio(slot: u8) -> Region {
    let base = VIRTIO_BASE + VIRTIO_STEP * slot as u64;
    region("virtio-mmio", Device::Virtio(SlotId(slot)), base, 0x200, 0x1000, Some(VIRTIO_IRQ + slot as u32))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_devices_overlap_or_share_an_interrupt() {
        for (index, one) in MAP.iter().enumerate() {
            assert!(one.size <= one.claimed, "{}", one.name);
            for other in &MAP[index + 1..] {
                let apart =
                    one.base.0 + one.claimed <= other.base.0 || other.base.0 + other.claimed <= one.base.0;
                assert!(apart, "{} and {}", one.name, other.name);
                assert!(one.irq.is_none() || one.irq != other.irq, "{} and {}", one.name, other.name);
            }
        }
    }

    #[test]
    fn every_transport_is_in_the_list() {
        let listed = MAP.iter().filter_map(|region| match region.device {
            Device::Virtio(slot) => Some(slot),
            _ => None,
        });
        assert!(listed.eq(SlotId::all()));
    }

    #[test]
    fn each_end_of_each_device_is_found_and_its_neighbours_are_not() {
        for region in &MAP {
            let end = region.base.wrapping_add(region.size);
            assert_eq!(find(region.base, Width::Byte), Some((region, 0)));
            assert_eq!(find(GuestPhysAddr(end.0 - 1), Width::Byte), Some((region, region.size - 1)));
            let behind = find(end, Width::Byte).map(|(other, _)| other);
            assert!(behind.is_none_or(|other| other != region), "{}", region.name);
        }
        assert_eq!(find(GuestPhysAddr(0x1000_9000), Width::Word), None);
    }

    #[test]
    fn misaligned_and_straddling_accesses_are_nobodys() {
        assert_eq!(find(GuestPhysAddr(0x1000_0005), Width::Half), None);
        assert_eq!(find(GuestPhysAddr(0x1000_0006), Width::Word), None);
        assert_eq!(find(GuestPhysAddr(0x0010_1020), Width::Double), None);
        assert_eq!(find(GuestPhysAddr(u64::MAX), Width::Byte), None);
        assert_eq!(find(GuestPhysAddr(u64::MAX - 7), Width::Double), None);
    }
}
