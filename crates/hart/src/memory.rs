//! Host memory as safe slices: each range is handed out once.

use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use alloc::sync::Arc;
use alloc::vec::Vec;

use memory::{Extent, Extents, HartAuthority, HostPhysAddr, HostWords, PAGE_SIZE, covers};
use vhart::{HostTables, SharedTable, Window};

use spin::mutex::TicketMutex;

use crate::space::HostSpace;

/// Whether there is a `HostMemory`.
static MADE: AtomicBool = AtomicBool::new(false);

/// The host's free memory.
#[derive(Debug)]
pub struct HostMemory<'a> {
    space: &'a HostSpace,
    free: Extents,
    /// What was free at first.
    all: Extents,
    /// Made when it is first needed: at first there is no heap.
    shared: Option<SharedMemory>,
}

/// The memory that was handed out to be shared with guests, all that the host's devices may reach: *shared-dma*. A handle; ranges
/// are added while set-up goes on.
#[derive(Clone, Debug)]
pub struct SharedMemory {
    ranges: Arc<TicketMutex<Vec<Extent>>>,
    /// What to add to a physical address in it.
    offset: u64,
}

impl SharedMemory {
    /// Whether all of `extent` is shared and it is not empty.
    pub(crate) fn contains(&self, extent: Extent) -> bool {
        covers(&self.ranges.lock(), extent)
    }

    /// Where the memory at `address` is, if it is shared.
    pub(crate) fn place(&self, address: HostPhysAddr) -> *mut u8 {
        address.0.wrapping_add(self.offset) as *mut u8
    }

    fn add(&self, extent: Extent) {
        let mut ranges = self.ranges.lock();
        let at = ranges.partition_point(|range| range.start < extent.start);
        ranges.insert(at, extent);
    }
}

impl<'a> HostMemory<'a> {
    /// Manages `free`: RAM that the space maps and that nobody uses, as the host's device tree tells.
    ///
    /// # Panics
    /// Where it is made for a second time, for what it hands out is nobody else's; and where the space does not map all of
    /// `free` as RAM beside the image.
    pub fn new(space: &'a HostSpace, free: Extents) -> Self {
        assert!(!MADE.swap(true, Ordering::Relaxed), "the host's memory is handed out already");
        assert!(free.iter().all(|extent| space.maps_ram(extent)), "memory that is not mapped: {free:?}");
        Self { space, all: free.clone(), free, shared: None }
    }

    /// Free bytes.
    pub fn available(&self) -> u64 {
        self.free.total()
    }

    /// Words for ever, at a multiple of `align`, holding anything; `size`, in bytes, is a multiple of 8.
    pub fn take_words(&mut self, size: u64, align: u64) -> Option<(HostPhysAddr, &'static mut [u64])> {
        let address = self.free.allocate(size, align.max(8))?;
        let start = self.space.ram_address(address) as *mut u64;
        // SAFETY: the range is mapped RAM, was free, and is allocated now; any bits are words.
        Some((address, unsafe { core::slice::from_raw_parts_mut(start, (size / 8) as usize) }))
    }

    /// What `take_shared` has handed out and will hand out. Needs the heap.
    pub fn shared(&mut self) -> SharedMemory {
        let offset = self.space.ram_offset();
        let new = || SharedMemory { ranges: Arc::default(), offset };
        self.shared.get_or_insert_with(new).clone()
    }

    /// Words that guests and the host's devices will share, under the same conditions. Needs the heap.
    pub fn take_shared(&mut self, size: u64, align: u64) -> Option<(HostPhysAddr, &'static [AtomicU64])> {
        let (address, words) = self.take_words(size, align)?;
        self.shared().add(Extent::new(address, size));
        // SAFETY: the exclusive slice ends here; guests, devices and other harts change the words, which atomics may.
        Some((address, unsafe { core::slice::from_raw_parts(words.as_ptr().cast(), words.len()) }))
    }

    /// Words for a guest's RAM, or for what its kernel fetches instead: as `take_shared`.
    pub fn take_guest_words(&mut self, size: u64, align: u64) -> Option<HostWords> {
        let (address, words) = self.take_shared(size, align)?;
        // SAFETY: they lie there, and are handed out to the caller alone; the host's devices reach them where a guest wants it.
        Some(HostWords::new(words, address, unsafe { HartAuthority::new() }))
    }

    /// Shadow tables for ever, holding anything, and what has to be known of the host beside.
    pub fn take_tables(&mut self, count: usize) -> Option<HostTables> {
        let (address, words) = self.take_words(count as u64 * PAGE_SIZE, PAGE_SIZE)?;
        // SAFETY: the exclusive slice ends here; a table is 512 words, and the alignment was asked for.
        let tables = unsafe { core::slice::from_raw_parts(words.as_ptr().cast::<SharedTable>(), count) };
        let space = self.space;
        let entries = space.root_entries().iter().copied().collect();
        let window = Window { first_slot: space.first_slot(), entries };
        // SAFETY: the tables lie there, and are handed out to the caller alone; the space is the one that is in use, and its
        // window maps the hypervisor.
        let authority = unsafe { HartAuthority::new() };
        Some(HostTables::new(tables, address, space.mode(), window, authority))
    }

    /// What a boot loader has left in memory: a range that was never free.
    ///
    /// # Panics
    /// Where it is not aligned to a word, is no mapped RAM, or overlaps memory that was free at first: somebody may have it.
    pub fn given(&self, extent: Extent) -> &'static [u64] {
        assert!(extent.start.is_aligned(8), "unaligned range {extent:?}");
        let end = extent.end();
        let overlaps = self.all.iter().any(|free| free.start < end && extent.start < free.end());
        assert!(!overlaps && self.space.maps_ram(extent), "{extent:?} is free memory, or none");
        let start = self.space.ram_address(extent.start) as *const u64;
        // SAFETY: mapped RAM that is never handed out, so nobody writes it.
        unsafe { core::slice::from_raw_parts(start, (extent.size / 8) as usize) }
    }
}

/// The flattened device tree at `address`, while translation is off: as many bytes as its header says.
///
/// # Panics
/// Where the firmware gave none.
pub fn early_device_tree(address: HostPhysAddr) -> &'static [u8] {
    const MAGIC: u32 = 0xd00d_feed;
    assert!(address.0 != 0 && address.is_aligned(8), "the firmware gave no device tree");
    let header = address.0 as *const [u32; 2];
    // SAFETY: firmware says that its device tree is there; nobody writes it.
    let [magic, size] = unsafe { header.read() }.map(u32::from_be);
    assert!(magic == MAGIC, "the firmware gave no device tree");
    // SAFETY: as above.
    unsafe { core::slice::from_raw_parts(address.0 as *const u8, size as usize) }
}

/// What a boot loader has left in memory, while translation is off; `None` where it is not aligned to a word.
pub fn early_words(extent: Extent) -> Option<&'static [u64]> {
    if !extent.start.is_aligned(8) || extent.start.0 == 0 {
        return None;
    }
    // SAFETY: the device tree says that the range is there; nobody writes it.
    Some(unsafe { core::slice::from_raw_parts(extent.start.0 as *const u64, (extent.size / 8) as usize) })
}
