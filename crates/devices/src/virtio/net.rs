//! `virtio-net` (virtio 1.2, "Network Device"): one pair of queues, no offloads, mergeable receive buffers.
//!
//! Frames come and go whole and without the virtio header. What becomes of them is the business of a switch, which also
//! sees to it that nobody sends under another's address.

use arrayvec::ArrayVec;
use memory::GuestRam;

use super::buffers::{Segment, gather, scatter, total};
use super::chain::Chain;
use super::device::Device;
use super::queue::BATCH;
use super::transport::{self, Identity, Transport};

/// Bytes of the longest frame that a driver has reason to send: an MTU of 1,500, Ethernet's header and a VLAN tag.
pub const MAX_FRAME: usize = 1518;
/// Bytes of the shortest: Ethernet's header.
pub const MIN_FRAME: usize = 14;

const DEVICE_ID: u32 = 1;
const RECEIVE: usize = 0;
const TRANSMIT: usize = 1;
/// Descriptors of its queues where the driver asks for no other number, as on QEMU.
const QUEUE_SIZE: u16 = 256;
/// The most pieces of memory that a frame or a buffer for one is made of.
const MAX_SEGMENTS: usize = 128;

mod feature {
    pub(super) const MAC: u64 = 1 << 5;
    pub(super) const MRG_RXBUF: u64 = 1 << 15;
    pub(super) const STATUS: u64 = 1 << 16;
}

/// Bytes of `struct virtio_net_hdr`, whose last two are the number of buffers of a frame.
const HEADER: usize = 12;
/// Bytes of it for legacy drivers, that is without `VERSION_1`, which do not merge buffers.
const SHORT_HEADER: usize = 10;
/// Where the link's state is in the configuration, behind the address.
const STATUS: usize = 6;
/// The most buffers that one frame is spread over: what a driver offers is a page, or a frame's size.
const MAX_BUFFERS: u16 = 16;

/// What became of a frame for the guest.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub enum Received {
    /// The guest has it.
    Done,
    /// The guest has too few buffers. The device will be notified once there are more.
    NoBuffers,
    /// The guest cannot have it: no driver runs, its link is down, or its buffers are too small for such a frame.
    Dropped,
}

/// A network interface's face to the driver.
#[derive(Clone, Debug)]
pub struct Net {
    transport: Transport,
    mac: [u8; 6],
    link_up: bool,
    /// The chain that was taken last.
    chain: Chain,
    /// Where the header of a frame goes that is being received.
    header_at: ArrayVec<Segment, HEADER>,
    dropped: u64,
}

impl Net {
    /// An interface in power-on state with this address, whose link is up.
    pub fn new(mac: [u8; 6]) -> Self {
        let [m0, m1, m2, m3, m4, m5] = mac;
        let identity = Identity {
            device_id: DEVICE_ID,
            features: feature::MAC | feature::STATUS | feature::MRG_RXBUF,
            legacy_features: transport::feature::ANY_LAYOUT,
        };
        Self {
            transport: Transport::new(identity, &[QUEUE_SIZE; 2], &[m0, m1, m2, m3, m4, m5, 1, 0]),
            mac,
            link_up: true,
            chain: Chain::new(MAX_SEGMENTS),
            header_at: ArrayVec::new(),
            dropped: 0,
        }
    }

    /// Its address.
    pub const fn mac(&self) -> [u8; 6] {
        self.mac
    }

    /// How many frames that the guest sent were too short or too long.
    pub const fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Plugs the cable in or out; the driver is told.
    pub fn set_link(&mut self, up: bool) {
        if self.link_up != up {
            self.link_up = up;
            self.transport.set_config(STATUS, &[u8::from(up)]);
        }
    }

    /// Bytes of the header before each frame.
    const fn header_len(&self) -> usize {
        let is_long =
            self.transport.has(transport::feature::VERSION_1) || self.transport.has(feature::MRG_RXBUF);
        if is_long { HEADER } else { SHORT_HEADER }
    }

    /// The next frame that the guest sends: how many bytes of `into` it is; `None` where there is none. Of frames that
    /// are shorter than [`MIN_FRAME`], have no whole header or do not fit, a bounded number is dropped in one call:
    /// [`Self::has_frames`] tells whether something is left.
    pub fn transmit(&mut self, ram: &GuestRam, into: &mut [u8]) -> Option<usize> {
        let header = self.header_len() as u64;
        for _ in 0..BATCH {
            if !self.transport.is_running() || !self.transport.pop(ram, TRANSMIT, &mut self.chain) {
                return None;
            }
            let len = total(self.chain.readable()).checked_sub(header);
            let frame = len
                .and_then(|len| usize::try_from(len).ok())
                .filter(|len| *len >= MIN_FRAME && self.link_up)
                .and_then(|len| into.get_mut(..len));
            let copied = frame.and_then(|into| gather(ram, self.chain.readable(), header, into).ok());
            self.transport.push(ram, TRANSMIT, self.chain.head, 0);
            if copied.is_some() {
                return copied;
            }
            self.dropped += 1;
        }
        None
    }

    /// Whether there is something to be had from [`Self::transmit`].
    pub fn has_frames(&mut self, ram: &GuestRam) -> bool {
        self.transport.is_running() && self.transport.has_available(ram, TRANSMIT)
    }

    /// Gives the guest a frame.
    pub fn receive(&mut self, ram: &GuestRam, frame: &[u8]) -> Received {
        if !self.link_up || !self.transport.is_running() {
            return Received::Dropped;
        }
        let mergeable = self.transport.has(feature::MRG_RXBUF);
        let header_len = self.header_len();
        let (mut rest, mut buffers) = (frame, 0);
        loop {
            if !self.transport.pop(ram, RECEIVE, &mut self.chain) {
                self.transport.unpop(RECEIVE, buffers);
                return if self.transport.is_broken() { Received::Dropped } else { Received::NoBuffers };
            }
            let header = if buffers == 0 { header_len } else { 0 };
            let room = total(self.chain.writable());
            // "Setting Up Receive Buffers": each has room for the header.
            if room < header_len as u64 {
                self.transport.fail();
                return Received::Dropped;
            }
            let Ok(copied) = scatter(ram, self.chain.writable(), header as u64, rest) else {
                self.transport.fail();
                return Received::Dropped;
            };
            self.transport.fill_used(ram, RECEIVE, buffers, self.chain.head, (header + copied) as u32);
            rest = rest.get(copied..).unwrap_or(&[]);
            if buffers == 0 {
                // No piece is empty, so that a header has no more pieces than bytes.
                self.header_at = self.chain.writable().iter().copied().take(HEADER).collect();
            }
            buffers += 1;
            if rest.is_empty() {
                break;
            }
            if !mergeable || buffers == MAX_BUFFERS {
                self.transport.unpop(RECEIVE, buffers);
                return Received::Dropped;
            }
        }
        let mut header = [0; HEADER];
        if let Some(place) = header.last_chunk_mut() {
            *place = buffers.to_le_bytes();
        }
        let (header, _) = header.split_at(header_len);
        if scatter(ram, &self.header_at, 0, header).is_err() {
            self.transport.fail();
            return Received::Dropped;
        }
        self.transport.publish(ram, RECEIVE, buffers);
        if self.transport.is_broken() { Received::Dropped } else { Received::Done }
    }
}

impl Device for Net {
    fn transport(&self) -> &Transport {
        &self.transport
    }

    fn transport_mut(&mut self) -> &mut Transport {
        &mut self.transport
    }

    fn forget(&mut self) {}
}

#[cfg(test)]
mod tests;
