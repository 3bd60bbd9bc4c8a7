//! Driver of a virtio disk ("Block Device", virtio 1.2 section 5.2). Requests name memory that is shared with guests by
//! its physical address and are carried out there, without a copy. Knows neither guests nor partitions.
//! `request` has what is asked of it, `abilities` what it can do.

mod abilities;
mod request;

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::mem::ManuallyDrop;
use core::slice;

use arrayvec::ArrayVec;
use memory::Extent;
use virtio_drivers::queue::VirtQueue;
use virtio_drivers::transport::mmio::MmioTransport;
use virtio_drivers::transport::{DeviceStatus, DeviceType, InterruptStatus, Transport};

use super::{DirectMap, OpenError, features_taken, queue_error, transport};
use crate::memory::SharedMemory;
use crate::mmio::Mmio;
pub use abilities::{Abilities, MAX_SEGMENTS, SECTOR};
use abilities::{Features, read_abilities};
pub use request::{Ended, Refused, Request, SERIAL_LENGTH};
use request::{RANGE, SERIAL, STATUS, STATUS_OK, STATUS_UNSUPPORTED, Slot, kind};

/// Requests that the device may have at a time.
pub const DEPTH: usize = 64;

const QUEUE: u16 = 0;
/// Descriptors. No indirect tables, which would come from the heap: a full queue holds the caller up instead.
const QUEUE_SIZE: usize = 256;
/// Descriptors of a request beside its data: header and status.
const OVERHEAD: usize = 2;

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
