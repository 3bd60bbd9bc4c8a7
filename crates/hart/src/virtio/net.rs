//! Driver of a virtio network interface ("Network Device", virtio 1.2 section 5.1): frames in and out, copied from and to
//! buffers of its own. No offloads, no control queue.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::slice;

use virtio_drivers::queue::VirtQueue;
use virtio_drivers::transport::mmio::MmioTransport;
use virtio_drivers::transport::{DeviceType, Transport};

use super::{DirectMap, OpenError, features_taken, queue_error, transport};
use crate::mmio::Mmio;

/// Bytes of the longest frame, without its checksum: Ethernet's, with a VLAN tag.
pub const MAX_FRAME: usize = 1518;

/// Where the configuration begins, and with it the address.
const CONFIG: u64 = 0x100;

const RECEIVE: u16 = 0;
const TRANSMIT: u16 = 1;
/// Frames that wait in each direction.
const QUEUE_SIZE: usize = 64;
/// Bytes of a buffer: header and frame, and as many more as make it a power of two.
const BUFFER: usize = 2048;
/// Bytes of the header in front of each frame: without and with a number of buffers.
const LEGACY_HEADER: usize = 10;
const HEADER: usize = 12;

bitflags::bitflags! {
    /// Feature bits that we know what to do with.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    struct Features: u64 {
        const MAC = 1 << 5;
        const VERSION_1 = 1 << 32;
    }
}

/// One direction: a queue, and a buffer for each of its descriptors.
#[derive(Debug)]
struct Ring {
    queue: VirtQueue<DirectMap, QUEUE_SIZE>,
    /// A buffer is the device's from `give` to `take`.
    buffers: *mut [u8; BUFFER],
    /// By token: the buffer that was given, and its bytes.
    given: [Option<(usize, usize)>; QUEUE_SIZE],
    /// Buffers that are ours.
    ours: Vec<usize>,
}

// SAFETY: the buffers are the ring's alone.
unsafe impl Send for Ring {}

/// A network interface.
#[derive(Debug)]
pub struct NetDevice {
    transport: MmioTransport<'static>,
    receive: Box<Ring>,
    transmit: Box<Ring>,
    mac: [u8; 6],
    header: usize,
    unnotified: bool,
}

impl NetDevice {
    /// The address of the interface with these registers, whether anybody drives it or not.
    pub fn address(registers: &Mmio) -> [u8; 6] {
        let mut mac = [0; 6];
        mac.iter_mut().zip(CONFIG..).for_each(|(byte, offset)| *byte = registers.read8(offset));
        mac
    }

    /// Takes over the interface with these registers, and lets it receive.
    ///
    /// # Errors
    /// Where it is no interface that we can drive.
    pub fn open(registers: &Mmio) -> Result<Self, OpenError> {
        let mut transport = transport(registers).map_err(|_| OpenError::WrongDevice)?;
        if transport.device_type() != DeviceType::Network {
            return Err(OpenError::WrongDevice);
        }
        let features = transport.begin_init(Features::all());
        if !features_taken(&transport) || !features.contains(Features::MAC) {
            return Err(OpenError::Refused);
        }
        let mac: [u8; 6] = transport.read_config_space(0).map_err(|_| OpenError::Refused)?;
        let receive = Ring::new(&mut transport, RECEIVE)?;
        let transmit = Ring::new(&mut transport, TRANSMIT)?;
        transport.finish_init();
        // Before virtio 1.0 the header ends before the number of buffers.
        let header = if features.contains(Features::VERSION_1) { HEADER } else { LEGACY_HEADER };
        let mut device = Self { transport, receive, transmit, mac, header, unnotified: true };
        while let Some(buffer) = device.receive.ours.pop() {
            device.receive.give(buffer, BUFFER, true);
        }
        device.transport.notify(RECEIVE);
        // Room to send is looked for when it is wanted: the device need not interrupt for it.
        device.transmit.queue.set_dev_notify(false);
        Ok(device)
    }

    /// Its address.
    pub fn mac(&self) -> [u8; 6] {
        self.mac
    }

    /// Sends a frame of at most `MAX_FRAME` bytes; says whether it could. The device may not know of it before `notify`.
    #[must_use]
    pub fn send(&mut self, frame: &[u8]) -> bool {
        if frame.is_empty() || frame.len() > MAX_FRAME {
            return false;
        }
        while let Some((buffer, _)) = self.transmit.take(false) {
            self.transmit.ours.push(buffer);
        }
        let Some(buffer) = self.transmit.ours.pop() else { return false };
        let len = self.header + frame.len();
        // SAFETY: the buffer is ours.
        let bytes = unsafe { self.transmit.bytes(buffer, len) };
        let (header, body) = bytes.split_at_mut(self.header);
        // All zeros: no checksum and no segmentation is left to do.
        header.fill(0);
        body.copy_from_slice(frame);
        self.transmit.give(buffer, len, false);
        self.unnotified = true;
        true
    }

    /// Tells the device of what was sent.
    pub fn notify(&mut self) {
        if core::mem::take(&mut self.unnotified) && self.transmit.queue.should_notify() {
            self.transport.notify(TRANSMIT);
        }
    }

    /// Gives the next frame that has arrived to `to`; `None` where there is none.
    pub fn receive<R>(&mut self, to: impl FnOnce(&[u8]) -> R) -> Option<R> {
        let (buffer, len) = self.receive.take(true)?;
        // SAFETY: the buffer is ours until it is given again.
        let bytes = unsafe { self.receive.bytes(buffer, len.min(BUFFER)) };
        let result = to(bytes.get(self.header..).unwrap_or(&[]));
        self.receive.give(buffer, BUFFER, true);
        if self.receive.queue.should_notify() {
            self.transport.notify(RECEIVE);
        }
        Some(result)
    }

    /// Answers the device's interrupt. `receive` is to be asked until it has nothing more.
    pub fn acknowledge_interrupt(&mut self) {
        self.transport.ack_interrupt();
    }
}

impl Ring {
    fn new(transport: &mut MmioTransport<'static>, number: u16) -> Result<Box<Self>, OpenError> {
        let queue = VirtQueue::new(transport, number, false, false).map_err(queue_error)?;
        let buffers: Box<[[u8; BUFFER]]> = core::iter::repeat_n([0; BUFFER], QUEUE_SIZE).collect();
        Ok(Box::new(Self {
            queue,
            buffers: Box::leak(buffers).as_mut_ptr(),
            given: [None; QUEUE_SIZE],
            ours: (0..QUEUE_SIZE).collect(),
        }))
    }

    /// The first `len` bytes of a buffer.
    ///
    /// # Safety
    /// The device must not have it, or the slice must not be read or written.
    unsafe fn bytes<'a>(&self, buffer: usize, len: usize) -> &'a mut [u8] {
        assert!(buffer < QUEUE_SIZE && len <= BUFFER);
        // SAFETY: buffers live for ever, and this one is the caller's.
        unsafe { slice::from_raw_parts_mut(self.buffers.wrapping_add(buffer).cast(), len) }
    }

    /// Gives a buffer of ours to the device, for it to write or to read.
    fn give(&mut self, buffer: usize, len: usize, to_write: bool) {
        // SAFETY: the buffer is ours, and the device's from here on until `take`.
        let added = unsafe {
            let bytes = self.bytes(buffer, len);
            if to_write { self.queue.add(&[], &mut [bytes]) } else { self.queue.add(&[bytes], &mut []) }
        };
        match added {
            Ok(token) => self.given[usize::from(token)] = Some((buffer, len)),
            // As many descriptors as buffers: this does not happen.
            Err(_) => self.ours.push(buffer),
        }
    }

    /// Takes back a buffer that the device is done with, and the bytes that it has written there.
    fn take(&mut self, to_write: bool) -> Option<(usize, usize)> {
        let token = self.queue.peek_used()?;
        let (buffer, len) = self.given.get_mut(usize::from(token))?.take()?;
        // SAFETY: this is what was added with this token.
        let written = unsafe {
            let bytes = self.bytes(buffer, len);
            if to_write {
                self.queue.pop_used(token, &[], &mut [bytes])
            } else {
                self.queue.pop_used(token, &[bytes], &mut [])
            }
        };
        Some((buffer, written.ok()? as usize))
    }
}
