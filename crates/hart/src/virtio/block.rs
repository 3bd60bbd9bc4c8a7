//! Driver of a virtio disk ("Block Device", virtio 1.2 section 5.2). Requests name memory that is shared with guests by
//! its physical address and are carried out there, without a copy. Knows neither guests nor partitions.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::mem::ManuallyDrop;
use core::slice;
use core::sync::atomic::{AtomicU64, Ordering};

use arrayvec::ArrayVec;
use memory::Extent;
use virtio_drivers::queue::VirtQueue;
use virtio_drivers::transport::mmio::MmioTransport;
use virtio_drivers::transport::{DeviceStatus, DeviceType, InterruptStatus, Transport};

use super::{DirectMap, OpenError, features_taken, queue_error, transport};
use crate::memory::SharedMemory;
use crate::mmio::Mmio;

/// Bytes in a sector, the unit of all positions and capacities.
pub const SECTOR: u64 = 512;
/// Pieces of memory that a request may have.
pub const MAX_SEGMENTS: usize = 32;
/// Requests that the device may have at a time.
pub const DEPTH: usize = 64;
/// Bytes of a serial number.
pub const SERIAL_LENGTH: usize = 20;

const QUEUE: u16 = 0;
/// Descriptors. No indirect tables, which would come from the heap: a full queue holds the caller up instead.
const QUEUE_SIZE: usize = 256;
/// Descriptors of a request beside its data: header and status.
const OVERHEAD: usize = 2;

bitflags::bitflags! {
    /// Feature bits that we know what to do with. Without the event index, for the crate's comparison of indices
    /// forgets to wrap, and would lose a notification every 65,536 requests.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    struct Features: u64 {
        const SIZE_MAX = 1 << 1;
        const SEG_MAX = 1 << 2;
        const READ_ONLY = 1 << 5;
        const BLOCK_SIZE = 1 << 6;
        const FLUSH = 1 << 9;
        const DISCARD = 1 << 13;
        const WRITE_ZEROES = 1 << 14;
        const VERSION_1 = 1 << 32;
    }
}

/// Offsets in the configuration space.
mod config {
    pub const CAPACITY: usize = 0;
    pub const SIZE_MAX: usize = 8;
    pub const SEG_MAX: usize = 12;
    pub const BLOCK_SIZE: usize = 20;
    pub const MAX_DISCARD_SECTORS: usize = 36;
    pub const MAX_WRITE_ZEROES_SECTORS: usize = 48;
}

/// Types of requests, "Device Operation".
mod kind {
    pub const READ: u32 = 0;
    pub const WRITE: u32 = 1;
    pub const FLUSH: u32 = 4;
    pub const IDENTIFY: u32 = 8;
    pub const DISCARD: u32 = 11;
    pub const WRITE_ZEROES: u32 = 13;
    /// A flag of write-zeroes: the device may give the space away.
    pub const UNMAP: u32 = 1;
}

const STATUS_OK: u8 = 0;
const STATUS_UNSUPPORTED: u8 = 2;
/// What stands in a status before the device writes it.
const STATUS_NONE: u8 = 0xff;

/// What a disk can do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Abilities {
    /// Sectors.
    pub capacity: u64,
    /// Bytes of a block: what positions and lengths have to be multiples of.
    pub block_size: u32,
    /// Whether writes fail.
    pub readonly: bool,
    /// Whether written data needs a flush to be safe.
    pub flush: bool,
    /// Pieces of memory in a request, at most `MAX_SEGMENTS`, and bytes in a piece.
    pub segments: usize,
    /// See `segments`.
    pub segment_size: u32,
    /// Sectors in a discard; 0 where the disk has none.
    pub discard: u32,
    /// Sectors in a write-zeroes; 0 where the disk has none.
    pub write_zeroes: u32,
}

/// A request. Memory is shared memory, whole sectors in all, in at most `MAX_SEGMENTS` pieces.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub enum Request<'a> {
    Read {
        sector: u64,
        into: &'a [Extent],
    },
    Write {
        sector: u64,
        from: &'a [Extent],
    },
    Flush,
    Discard {
        sector: u64,
        count: u32,
    },
    WriteZeroes {
        sector: u64,
        count: u32,
        unmap: bool,
    },
    /// Asks for the serial number: see `BlockDevice::serial`.
    Identify,
}

/// Why a request was not taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refused {
    /// There is no room: again, after some request is done.
    Full,
    /// It is out of bounds, its memory is not shared or not whole sectors, or the disk cannot do it.
    Invalid,
    /// The device has failed for good.
    Broken,
}

/// How a request ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ended {
    /// It is done.
    Done,
    /// It failed.
    Failed,
    /// The device cannot do it.
    Unsupported,
}

/// A request's own words, which the device reads and writes.
#[repr(C, align(64))]
#[derive(Debug, Default)]
struct Slot([AtomicU64; 8]);

/// Places in a slot, in words: type and reserved word, sector; then range and flags; then the serial number; then the
/// status.
const RANGE: usize = 2;
const SERIAL: usize = 4;
const STATUS: usize = 7;

#[derive(Default, Debug)]
struct InFlight {
    tag: u64,
    kind: u32,
    memory: ArrayVec<Extent, MAX_SEGMENTS>,
}

/// The buffers of a request as the queue wants them. Not dropped: the queue borrows them for as long as they are.
struct Buffers<'a> {
    inputs: ManuallyDrop<ArrayVec<&'a [u8], { MAX_SEGMENTS + OVERHEAD }>>,
    outputs: ManuallyDrop<ArrayVec<&'a mut [u8], { MAX_SEGMENTS + OVERHEAD }>>,
}

/// A disk.
#[derive(Debug)]
pub struct BlockDevice {
    transport: MmioTransport<'static>,
    queue: Box<VirtQueue<DirectMap, QUEUE_SIZE>>,
    shared: SharedMemory,
    abilities: Abilities,
    slots: &'static [Slot],
    /// What is known of the request in each slot.
    requests: Box<[InFlight]>,
    free: ArrayVec<usize, DEPTH>,
    /// The slots in use, by token, which is the number of a request's first descriptor.
    used: Box<[Option<usize>]>,
    serial: [u8; SERIAL_LENGTH],
    unnotified: bool,
    broken: bool,
}

impl BlockDevice {
    /// Takes over the disk with these registers. Its requests will reach only `shared` memory.
    ///
    /// # Errors
    /// Where it is no disk that we can drive.
    pub fn open(registers: &Mmio, shared: SharedMemory) -> Result<Self, OpenError> {
        let mut transport = transport(registers).map_err(|_| OpenError::WrongDevice)?;
        if transport.device_type() != DeviceType::Block {
            return Err(OpenError::WrongDevice);
        }
        let features = transport.begin_init(Features::all());
        if !features_taken(&transport) {
            return Err(OpenError::Refused);
        }
        let abilities = read_abilities(&transport, features).ok_or(OpenError::Refused)?;
        let queue = VirtQueue::new(&mut transport, QUEUE, false, false).map_err(queue_error)?;
        transport.finish_init();
        Ok(Self {
            transport,
            queue: Box::new(queue),
            shared,
            abilities,
            slots: (0..DEPTH).map(|_| Slot::default()).collect::<Vec<_>>().leak(),
            requests: (0..DEPTH).map(|_| InFlight::default()).collect(),
            free: (0..DEPTH).collect(),
            used: (0..QUEUE_SIZE).map(|_| None).collect(),
            serial: [0; SERIAL_LENGTH],
            unnotified: false,
            broken: false,
        })
    }

    /// What it can do.
    pub fn abilities(&self) -> &Abilities {
        &self.abilities
    }

    /// Its serial number without the zeros at the end, once an `Identify` is done.
    pub fn serial(&self) -> &[u8] {
        let len = self.serial.iter().position(|byte| *byte == 0).unwrap_or(SERIAL_LENGTH);
        &self.serial[..len]
    }

    /// Requests that were taken and have not ended.
    pub fn in_flight(&self) -> usize {
        self.used.iter().flatten().count()
    }

    /// Whether a request of any size would be taken.
    pub fn has_room(&self) -> bool {
        !self.broken && !self.free.is_empty() && self.queue.available_desc() >= MAX_SEGMENTS + OVERHEAD
    }

    /// Takes a request, which `completed` gives back by its `tag`. The device may not know of it before `notify`.
    ///
    /// # Errors
    /// Where it was not taken.
    pub fn submit(&mut self, tag: u64, request: &Request) -> Result<(), Refused> {
        if self.broken {
            return Err(Refused::Broken);
        }
        self.check(request)?;
        if !self.has_room() {
            return Err(Refused::Full);
        }
        let Some(slot) = self.free.pop() else { return Err(Refused::Full) };
        let entry = &mut self.requests[slot];
        entry.tag = tag;
        entry.memory.clear();
        let words = &self.slots[slot];
        let (kind, sector) = match *request {
            Request::Read { sector, into } => {
                entry.memory.extend(into.iter().copied());
                (kind::READ, sector)
            }
            Request::Write { sector, from } => {
                entry.memory.extend(from.iter().copied());
                (kind::WRITE, sector)
            }
            Request::Flush => (kind::FLUSH, 0),
            Request::Identify => (kind::IDENTIFY, 0),
            Request::Discard { sector, count } => {
                words.set_range(sector, count, 0);
                (kind::DISCARD, 0)
            }
            Request::WriteZeroes { sector, count, unmap } => {
                words.set_range(sector, count, if unmap { kind::UNMAP } else { 0 });
                (kind::WRITE_ZEROES, 0)
            }
        };
        entry.kind = kind;
        words.set_header(kind, sector);
        // SAFETY: the slot is this request's alone until it is done, and the shared memory stays where it is for ever.
        // Nobody looks at the buffers through these slices: the queue takes their addresses.
        let added = unsafe {
            let mut buffers = self.buffers(slot);
            self.queue.add(&buffers.inputs, &mut buffers.outputs)
        };
        match added {
            Ok(token) => {
                self.used[usize::from(token)] = Some(slot);
                self.unnotified = true;
                Ok(())
            }
            Err(_) => {
                self.free.push(slot);
                Err(Refused::Full)
            }
        }
    }

    /// Tells the device of what was submitted.
    pub fn notify(&mut self) {
        if core::mem::take(&mut self.unnotified) && self.queue.should_notify() {
            self.transport.notify(QUEUE);
        }
    }

    /// Answers the device's interrupt. `completed` is to be asked until it has nothing more.
    pub fn acknowledge_interrupt(&mut self) {
        let interrupt = self.transport.ack_interrupt();
        let status = interrupt
            .contains(InterruptStatus::DEVICE_CONFIGURATION_INTERRUPT)
            .then(|| self.transport.get_status());
        if status.is_some_and(|status| status.contains(DeviceStatus::DEVICE_NEEDS_RESET)) {
            self.give_up();
        }
    }

    /// A request that has ended, by its tag.
    pub fn completed(&mut self) -> Option<(u64, Ended)> {
        if self.broken {
            // The device was reset, so it reaches no memory any more.
            let slot = self.used.iter_mut().find_map(Option::take)?;
            return Some((self.requests[slot].tag, Ended::Failed));
        }
        let token = self.queue.peek_used()?;
        let Some(slot) = self.used.get_mut(usize::from(token)).and_then(Option::take) else {
            self.give_up();
            return self.completed();
        };
        // SAFETY: these are the buffers that were added with this token.
        let popped = unsafe {
            let mut buffers = self.buffers(slot);
            self.queue.pop_used(token, &buffers.inputs, &mut buffers.outputs).is_ok()
        };
        self.free.push(slot);
        let (words, entry) = (&self.slots[slot], &self.requests[slot]);
        let ended = match words.status() {
            STATUS_OK if popped => Ended::Done,
            STATUS_UNSUPPORTED => Ended::Unsupported,
            _ => Ended::Failed,
        };
        if entry.kind == kind::IDENTIFY && ended == Ended::Done {
            self.serial = words.serial();
        }
        Some((entry.tag, ended))
    }

    fn check(&self, request: &Request) -> Result<(), Refused> {
        let Abilities { capacity, segments, segment_size, .. } = self.abilities;
        let inside = |sector: u64, count: u64| {
            count > 0 && sector.checked_add(count).is_some_and(|end| end <= capacity)
        };
        let fits = |sector: u64, memory: &[Extent]| {
            let bytes = memory.iter().try_fold(0, |sum: u64, piece| sum.checked_add(piece.size));
            memory.len() <= segments
                && memory.iter().all(|piece| piece.size <= u64::from(segment_size))
                && memory.iter().all(|piece| self.shared.contains(*piece))
                && bytes.is_some_and(|bytes| bytes.is_multiple_of(SECTOR) && inside(sector, bytes / SECTOR))
        };
        let allowed = match *request {
            Request::Read { sector, into } => fits(sector, into),
            Request::Write { sector, from } => !self.abilities.readonly && fits(sector, from),
            Request::Flush => self.abilities.flush,
            Request::Identify => true,
            Request::Discard { sector, count } => {
                count <= self.abilities.discard && inside(sector, count.into())
            }
            Request::WriteZeroes { sector, count, .. } => {
                count <= self.abilities.write_zeroes && inside(sector, count.into())
            }
        };
        if allowed { Ok(()) } else { Err(Refused::Invalid) }
    }

    /// The buffers of the request in a slot, as they were when it was checked.
    ///
    /// # Safety
    /// The slices must not be read or written.
    unsafe fn buffers<'a>(&self, slot: usize) -> Buffers<'a> {
        let entry = &self.requests[slot];
        let mut buffers = Buffers {
            inputs: ManuallyDrop::new(ArrayVec::new()),
            outputs: ManuallyDrop::new(ArrayVec::new()),
        };
        let slot = self.slots[slot].0.as_ptr().cast::<u8>().cast_mut();
        let part = |word: usize| slot.wrapping_add(8 * word);
        // SAFETY: the parts are in the slot; the memory was checked to be shared.
        unsafe {
            buffers.inputs.push(slice::from_raw_parts(slot, 16));
            match entry.kind {
                kind::DISCARD | kind::WRITE_ZEROES => {
                    buffers.inputs.push(slice::from_raw_parts(part(RANGE), 16));
                }
                kind::IDENTIFY => {
                    buffers.outputs.push(slice::from_raw_parts_mut(part(SERIAL), SERIAL_LENGTH));
                }
                _ => {}
            }
            for piece in &entry.memory {
                let (start, len) = (self.shared.place(piece.start), piece.size as usize);
                match entry.kind {
                    kind::READ => buffers.outputs.push(slice::from_raw_parts_mut(start, len)),
                    _ => buffers.inputs.push(slice::from_raw_parts(start, len)),
                }
            }
            buffers.outputs.push(slice::from_raw_parts_mut(part(STATUS), 1));
        }
        buffers
    }

    /// The device does not keep to the protocol: it is reset, so that it reaches no memory any more.
    #[cold]
    fn give_up(&mut self) {
        self.transport.set_status(DeviceStatus::empty());
        self.broken = true;
    }
}

impl Slot {
    fn set_header(&self, kind: u32, sector: u64) {
        self.0[0].store(u64::from(kind), Ordering::Relaxed);
        self.0[1].store(sector, Ordering::Relaxed);
        self.0[STATUS].store(u64::from(STATUS_NONE), Ordering::Relaxed);
    }

    fn set_range(&self, sector: u64, count: u32, flags: u32) {
        self.0[RANGE].store(sector, Ordering::Relaxed);
        self.0[RANGE + 1].store(u64::from(flags) << 32 | u64::from(count), Ordering::Relaxed);
    }

    fn status(&self) -> u8 {
        self.0[STATUS].load(Ordering::Acquire) as u8
    }

    fn serial(&self) -> [u8; SERIAL_LENGTH] {
        let word = |index: usize| self.0[SERIAL + index / 8].load(Ordering::Acquire);
        core::array::from_fn(|index| (word(index) >> (8 * (index % 8))) as u8)
    }
}

fn read_abilities(transport: &MmioTransport, features: Features) -> Option<Abilities> {
    let word = |offset: usize| transport.read_config_space::<u32>(offset).ok();
    let optional =
        |feature: Features, offset: usize| if features.contains(feature) { word(offset) } else { Some(0) };
    let capacity = transport
        .read_consistent(|| {
            let low: u32 = transport.read_config_space(config::CAPACITY)?;
            let high: u32 = transport.read_config_space(config::CAPACITY + 4)?;
            Ok(u64::from(high) << 32 | u64::from(low))
        })
        .ok()?;
    // Without a limit, one segment is all that a device promises; but then there is none that has fewer than our queue.
    let seg_max = optional(Features::SEG_MAX, config::SEG_MAX)?;
    let size_max = optional(Features::SIZE_MAX, config::SIZE_MAX)?;
    let block_size = optional(Features::BLOCK_SIZE, config::BLOCK_SIZE)?;
    let unlimited = |value: u32, limit: u32| if value == 0 { limit } else { value.min(limit) };
    Some(Abilities {
        capacity,
        block_size: if block_size == 0 { SECTOR as u32 } else { block_size },
        readonly: features.contains(Features::READ_ONLY),
        flush: features.contains(Features::FLUSH),
        segments: unlimited(seg_max, MAX_SEGMENTS as u32) as usize,
        // Whole sectors, so that a long piece can be cut.
        segment_size: unlimited(size_max, 1 << 30) / SECTOR as u32 * SECTOR as u32,
        discard: optional(Features::DISCARD, config::MAX_DISCARD_SECTORS)?,
        write_zeroes: optional(Features::WRITE_ZEROES, config::MAX_WRITE_ZEROES_SECTORS)?,
    })
}
