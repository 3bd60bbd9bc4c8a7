//! Drivers of the host's virtio devices, over `virtio-mmio` in its legacy and its modern form.
//!
//! The transport and the rings are the `virtio-drivers` crate's. What is here makes them safe to use: a device reaches
//! only memory that was handed out as shared, or buffers of its driver's own. Nothing waits: requests are submitted, and
//! an interrupt says that some of them are done.

pub mod block;
pub mod entropy;
pub mod net;

use alloc::alloc::{alloc_zeroed, dealloc};
use core::alloc::Layout;
use core::fmt;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU64, Ordering};

use virtio_drivers::transport::mmio::{MmioError, MmioTransport, VirtIOHeader};
use virtio_drivers::transport::{DeviceStatus, Transport};
use virtio_drivers::{BufferDirection, Hal, PAGE_SIZE, PhysAddr};

use crate::mmio::Mmio;
use crate::space::HostSpace;

/// Registers that tell what a device is ("MMIO Device Register Layout").
const MAGIC_VALUE: u64 = 0;
const VERSION: u64 = 4;
const DEVICE_ID: u64 = 8;
/// "virt", little-endian.
const MAGIC: u32 = 0x7472_6976;

/// What to subtract from a pointer into RAM to get its physical address.
static RAM_OFFSET: AtomicU64 = AtomicU64::new(0);

/// Tells the drivers where RAM is mapped. To be called before any device is opened, in the second boot stage.
pub fn set_up(space: &HostSpace) {
    RAM_OFFSET.store(space.ram_offset(), Ordering::Relaxed);
}

/// The kind of device in a slot.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// A disk.
    Block,
    /// A network interface.
    Net,
    /// A source of randomness.
    Entropy,
    /// Something that we have no driver for.
    Other,
}

/// Why a device cannot be driven.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OpenError {
    /// It is not the device that the driver is for, or speaks another version of the transport.
    WrongDevice,
    /// It did not take the features that we want, or its configuration space is too small.
    Refused,
    /// Its queues are too short.
    ShortQueue,
    /// There is no memory for its queues.
    NoMemory,
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::WrongDevice => "it is not what its slot says",
            Self::Refused => "it refuses the driver's features",
            Self::ShortQueue => "its queues are too short",
            Self::NoMemory => "there is no memory for its queues",
        })
    }
}

/// What stands in the slot with these registers; `None` where it is empty.
pub fn probe(registers: &Mmio) -> Option<Kind> {
    // Not by a transport, which resets its device when it is dropped: one that was found before may be at work.
    if registers.read32(MAGIC_VALUE) != MAGIC || !(1..=2).contains(&registers.read32(VERSION)) {
        return None;
    }
    match registers.read32(DEVICE_ID) {
        0 => None,
        1 => Some(Kind::Net),
        2 => Some(Kind::Block),
        4 => Some(Kind::Entropy),
        _ => Some(Kind::Other),
    }
}

fn transport(registers: &Mmio) -> Result<MmioTransport<'static>, MmioError> {
    let (address, size) = registers.range();
    let aligned = address.is_multiple_of(align_of::<VirtIOHeader>());
    let header = NonNull::new(address as *mut _).filter(|_| aligned).ok_or(MmioError::MmioRegionTooSmall)?;
    // SAFETY: the registers are mapped for ever; the transport checks that there are enough of them.
    unsafe { MmioTransport::new(header, size) }
}

/// Whether the device has taken the features that were chosen; legacy devices take all.
fn features_taken(transport: &MmioTransport) -> bool {
    transport.requires_legacy_layout() || transport.get_status().contains(DeviceStatus::FEATURES_OK)
}

fn queue_error(error: virtio_drivers::Error) -> OpenError {
    match error {
        virtio_drivers::Error::DmaError => OpenError::NoMemory,
        _ => OpenError::ShortQueue,
    }
}

/// RAM as devices see it: rings come from the heap, which is one range of RAM, and buffers stay where they are.
#[derive(Debug)]
struct DirectMap;

fn physical(pointer: NonNull<u8>) -> PhysAddr {
    (pointer.as_ptr() as u64).wrapping_sub(RAM_OFFSET.load(Ordering::Relaxed))
}

fn pages(pages: usize) -> Option<Layout> {
    Layout::from_size_align(pages.checked_mul(PAGE_SIZE)?, PAGE_SIZE).ok().filter(|layout| layout.size() > 0)
}

// SAFETY: pages come zeroed and aligned from the heap, which nobody else has; physical addresses are right for all
// memory that drivers here share, which is in RAM's direct map.
unsafe impl Hal for DirectMap {
    fn dma_alloc(count: usize, _: BufferDirection) -> (PhysAddr, NonNull<u8>) {
        // SAFETY: the layout is not empty.
        let memory = pages(count).and_then(|layout| NonNull::new(unsafe { alloc_zeroed(layout) }));
        // Address 0 says that there is none.
        memory.map_or((0, NonNull::dangling()), |memory| (physical(memory), memory))
    }

    unsafe fn dma_dealloc(_: PhysAddr, memory: NonNull<u8>, count: usize) -> i32 {
        if let Some(layout) = pages(count) {
            // SAFETY: the caller got it from `dma_alloc` with this count.
            unsafe { dealloc(memory.as_ptr(), layout) };
        }
        0
    }

    unsafe fn mmio_phys_to_virt(_: PhysAddr, _: usize) -> NonNull<u8> {
        unreachable!("only the PCI transport asks for this")
    }

    unsafe fn share(buffer: NonNull<[u8]>, _: BufferDirection) -> PhysAddr {
        physical(buffer.cast())
    }

    unsafe fn unshare(_: PhysAddr, _: NonNull<[u8]>, _: BufferDirection) {}
}
