//! A guest's memory and a transport for the drivers of the `virtio-drivers` crate, which run here on a board of ours.
//!
//! The only unsafe code outside the hypervisor's one crate for it: that crate's `Hal` asks for it, and it is a test.

use std::cell::RefCell;
use std::collections::HashMap;
use std::ptr::NonNull;
use std::rc::Rc;
use std::sync::atomic::AtomicU64;

use devices::virtio::{Slot, Version};
use devices::{Board, BoardEvent, BoardTime, SlotId};
use isa::Width;
use memory::{BLOCK_SIZE, GuestPhysAddr, GuestRam, HostPhysAddr};
use virtio_drivers::transport::{DeviceStatus, DeviceType, InterruptStatus, Transport};
use virtio_drivers::{BufferDirection, Hal, PAGE_SIZE, PhysAddr};
use zerocopy::{FromBytes, Immutable, IntoBytes};

const RAM: u64 = 0x8000_0000;
const SIZE: u64 = 2 * BLOCK_SIZE;

/// A guest's memory, and which of its pages are taken.
pub struct Memory {
    pub ram: GuestRam,
    words: &'static [AtomicU64],
    taken: Vec<bool>,
    /// What is lent to the device to be read alone.
    lent: HashMap<PhysAddr, Vec<u8>>,
}

thread_local! {
    /// One guest a test: `Hal` has no place for a self.
    pub static MEMORY: RefCell<Memory> = RefCell::new(Memory::new());
}

impl Memory {
    fn new() -> Self {
        let page = PAGE_SIZE / 8;
        let words: Vec<_> = (0..SIZE as usize / 8 + page).map(|_| AtomicU64::new(!0)).collect();
        let words: &'static [AtomicU64] = words.leak();
        let skip = words.as_ptr().align_offset(PAGE_SIZE);
        let words = &words[skip..skip + SIZE as usize / 8];
        let ram = GuestRam::new(words, GuestPhysAddr(RAM), HostPhysAddr(0x4000_0000), Vec::new());
        // All of it is filled in, for the driver looks at it behind its back.
        ram.dma_source(GuestPhysAddr(RAM), SIZE).unwrap();
        Self { ram, words, taken: vec![false; SIZE as usize / PAGE_SIZE], lent: HashMap::new() }
    }

    fn take(&mut self, pages: usize) -> PhysAddr {
        let first = (0..=self.taken.len() - pages)
            .find(|first| self.taken[*first..first + pages].iter().all(|taken| !taken))
            .expect("the guest has memory left");
        self.taken[first..first + pages].fill(true);
        RAM + (first * PAGE_SIZE) as u64
    }

    fn give_back(&mut self, address: PhysAddr, pages: usize) {
        let first = (address - RAM) as usize / PAGE_SIZE;
        self.taken[first..first + pages].fill(false);
    }
}

pub struct GuestHal;

// SAFETY: pages are taken once until they are given back, from memory that is never freed and starts at a page.
unsafe impl Hal for GuestHal {
    fn dma_alloc(pages: usize, _: BufferDirection) -> (PhysAddr, NonNull<u8>) {
        MEMORY.with_borrow_mut(|memory| {
            let address = memory.take(pages);
            memory.ram.write(GuestPhysAddr(address), &vec![0; pages * PAGE_SIZE]).unwrap();
            let first = memory.words[(address - RAM) as usize / 8..].as_ptr();
            (address, NonNull::new(first.cast::<u8>().cast_mut()).unwrap())
        })
    }

    unsafe fn dma_dealloc(address: PhysAddr, _: NonNull<u8>, pages: usize) -> i32 {
        MEMORY.with_borrow_mut(|memory| memory.give_back(address, pages));
        0
    }

    unsafe fn mmio_phys_to_virt(_: PhysAddr, _: usize) -> NonNull<u8> {
        panic!("this is for PCI");
    }

    unsafe fn share(buffer: NonNull<[u8]>, direction: BufferDirection) -> PhysAddr {
        // SAFETY: the caller promises that the buffer is valid, and nobody else's meanwhile.
        let bytes = unsafe { buffer.as_ref() }.to_vec();
        MEMORY.with_borrow_mut(|memory| {
            let address = memory.take(bytes.len().div_ceil(PAGE_SIZE));
            memory.ram.write(GuestPhysAddr(address), &bytes).unwrap();
            if direction == BufferDirection::DriverToDevice {
                memory.lent.insert(address, bytes);
            }
            address
        })
    }

    unsafe fn unshare(address: PhysAddr, mut buffer: NonNull<[u8]>, _: BufferDirection) {
        MEMORY.with_borrow_mut(|memory| {
            // SAFETY: as for `share`.
            let buffer = unsafe { buffer.as_mut() };
            let mut now = vec![0; buffer.len()];
            memory.ram.read(GuestPhysAddr(address), &mut now).unwrap();
            match memory.lent.remove(&address) {
                Some(before) => assert!(before == now, "a device wrote to what it may only read"),
                None => buffer.copy_from_slice(&now),
            }
            memory.give_back(address, now.len().div_ceil(PAGE_SIZE));
        });
    }
}

/// What is behind a device.
pub trait Backend {
    /// Serves the device after a kick.
    fn serve(&mut self, device: &mut Slot, ram: &GuestRam);
}

/// A slot of a board, as the driver's transport.
#[derive(Clone)]
pub struct PeerTransport {
    version: Version,
    pub board: Rc<RefCell<Board>>,
    backend: Rc<RefCell<dyn Backend>>,
    /// Kicks.
    pub kicks: Rc<RefCell<usize>>,
}

/// Not the first slot, that addresses are right.
const SLOT: usize = 3;

impl PeerTransport {
    pub fn new(version: Version, device: Slot, backend: Rc<RefCell<dyn Backend>>) -> Self {
        let slots = vec![Slot::default(), Slot::default(), Slot::default(), device];
        let board = Board::new(1, 0, slots).with_virtio(version);
        Self { version, board: Rc::new(RefCell::new(board)), backend, kicks: Rc::default() }
    }

    /// Does something with the device, as a caller with news for it.
    pub fn serve(&self, act: impl FnOnce(&mut Slot, &GuestRam)) {
        MEMORY.with_borrow(|memory| {
            self.board.borrow_mut().serve(SlotId::new(SLOT).unwrap(), |device| act(device, &memory.ram))
        });
    }

    /// Whether the device asks for an interrupt.
    pub fn interrupts(&self) -> bool {
        self.board.borrow().slots()[SLOT].irq_level()
    }

    fn read(&self, offset: u64, width: Width) -> u32 {
        let address = GuestPhysAddr(0x1000_1000 + 0x1000 * SLOT as u64 + offset);
        self.board.borrow_mut().read(address, width, BoardTime(0)).unwrap().value as u32
    }

    fn write(&self, offset: u64, value: u32) {
        let address = GuestPhysAddr(0x1000_1000 + 0x1000 * SLOT as u64 + offset);
        let event = self.board.borrow_mut().write(address, Width::Word, value.into(), BoardTime(0)).unwrap();
        match event {
            None => {}
            Some(BoardEvent::Notified(slot)) => {
                assert_eq!(slot.index(), SLOT);
                self.serve(|device, ram| self.backend.borrow_mut().serve(device, ram));
            }
            Some(event) => panic!("{event:?}"),
        }
    }
}

impl Transport for PeerTransport {
    fn device_type(&self) -> DeviceType {
        match self.read(8, Width::Word) {
            1 => DeviceType::Network,
            2 => DeviceType::Block,
            3 => DeviceType::Console,
            4 => DeviceType::EntropySource,
            other => panic!("device {other}"),
        }
    }

    fn read_device_features(&mut self) -> u64 {
        self.write(0x14, 0);
        let low = self.read(0x10, Width::Word);
        self.write(0x14, 1);
        u64::from(self.read(0x10, Width::Word)) << 32 | u64::from(low)
    }

    fn write_driver_features(&mut self, features: u64) {
        for (half, value) in [(0, features as u32), (1, (features >> 32) as u32)] {
            self.write(0x24, half);
            self.write(0x20, value);
        }
    }

    fn max_queue_size(&mut self, queue: u16) -> u32 {
        self.write(0x30, queue.into());
        self.read(0x34, Width::Word)
    }

    fn notify(&mut self, queue: u16) {
        *self.kicks.borrow_mut() += 1;
        self.write(0x50, queue.into());
    }

    fn get_status(&self) -> DeviceStatus {
        DeviceStatus::from_bits_retain(self.read(0x70, Width::Word))
    }

    fn set_status(&mut self, status: DeviceStatus) {
        self.write(0x70, status.bits());
        assert_eq!(self.get_status(), status);
    }

    fn set_guest_page_size(&mut self, size: u32) {
        self.write(0x28, size);
    }

    fn requires_legacy_layout(&self) -> bool {
        self.version == Version::Legacy
    }

    fn queue_set(&mut self, queue: u16, size: u32, table: PhysAddr, driver: PhysAddr, device: PhysAddr) {
        self.write(0x30, queue.into());
        self.write(0x38, size);
        if self.version == Version::Legacy {
            let page = (table / PAGE_SIZE as u64) as u32;
            self.write(0x3c, PAGE_SIZE as u32);
            self.write(0x40, page);
            assert_eq!(self.read(0x40, Width::Word), page);
            return;
        }
        for (offset, address) in [(0x80, table), (0x90, driver), (0xa0, device)] {
            self.write(offset, address as u32);
            self.write(offset + 4, (address >> 32) as u32);
        }
        self.write(0x44, 1);
        assert_eq!(self.read(0x44, Width::Word), 1);
    }

    fn queue_unset(&mut self, queue: u16) {
        self.write(0x30, queue.into());
        let register = if self.version == Version::Legacy { 0x40 } else { 0x44 };
        self.write(register, 0);
        assert_eq!(self.read(register, Width::Word), 0);
    }

    fn queue_used(&mut self, queue: u16) -> bool {
        self.write(0x30, queue.into());
        self.read(if self.version == Version::Legacy { 0x40 } else { 0x44 }, Width::Word) != 0
    }

    fn ack_interrupt(&mut self) -> InterruptStatus {
        let status = self.read(0x60, Width::Word);
        self.write(0x64, status);
        InterruptStatus::from_bits_retain(status)
    }

    fn read_config_generation(&self) -> u32 {
        self.read(0xfc, Width::Word)
    }

    fn read_config_space<T: FromBytes + IntoBytes>(&self, offset: usize) -> virtio_drivers::Result<T> {
        let first = 0x100 + offset as u64;
        let bytes: Vec<_> =
            (0..size_of::<T>() as u64).map(|n| self.read(first + n, Width::Byte) as u8).collect();
        Ok(T::read_from_bytes(&bytes).unwrap())
    }

    fn write_config_space<T: IntoBytes + Immutable>(&mut self, _: usize, _: T) -> virtio_drivers::Result<()> {
        panic!("no device here takes that");
    }
}
