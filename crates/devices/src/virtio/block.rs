//! `virtio-blk` (virtio 1.2, "Block Device"): takes requests for sectors out of the ring.
//!
//! Who calls has the disk. Everything that can be said of a request without it is said here: one that reaches here
//! lies on the disk and in RAM. A large request comes in parts, so that each is a bounded piece of work.

mod disk;
mod layout;
mod request;

use alloc::boxed::Box;

use memory::{GuestPhysAddr, GuestRam};

use super::buffers::{Segment, scatter};
use super::chain::Chain;
use super::device::Device;
use super::queue::{BATCH, MAX_SIZE};
use super::transport::{Identity, Transport};
pub use disk::{Disk, SECTOR, SERIAL};
pub use layout::MAX_DISCARD_SECTORS;
use layout::status;

/// The most bytes of one [`Request`]: a whole number of sectors.
pub const MAX_BYTES: u64 = 2 << 20;
/// The most pieces of memory of one [`Request`].
pub const MAX_SEGMENTS: u32 = 126;

/// Names a request that was taken and is not completed.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Token {
    head: u16,
    generation: u32,
}

impl From<Token> for u64 {
    fn from(token: Token) -> Self {
        Self::from(token.generation) << 16 | Self::from(token.head)
    }
}

impl From<u64> for Token {
    /// The token that this number was made of. Of any other number it makes one, too; where no request has it,
    /// completing it does nothing.
    fn from(number: u64) -> Self {
        Self { head: number as u16, generation: (number >> 16) as u32 }
    }
}

/// What is to be done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Disk to RAM.
    Read,
    /// RAM to disk.
    Write,
    /// All writes that were completed are to outlive a loss of power.
    Flush,
    /// So many sectors are not needed any more; at most [`MAX_DISCARD_SECTORS`].
    Discard {
        /// How many.
        sectors: u64,
    },
    /// So many sectors are to read as zeros; at most [`MAX_DISCARD_SECTORS`].
    WriteZeroes {
        /// How many.
        sectors: u64,
        /// They may be given up, as by a discard.
        unmap: bool,
    },
}

/// A request, or a part of one that is too large, checked: its sectors are on the disk, its segments in RAM and a whole
/// number of sectors together. What has to outlive the call is to be copied.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Request<'a> {
    /// For [`Block::complete`].
    pub token: Token,
    /// What is to be done.
    pub kind: Kind,
    /// The first sector; 0 for a flush.
    pub sector: u64,
    /// Where the data is, for [`Kind::Read`] and [`Kind::Write`]: at most [`MAX_SEGMENTS`] pieces and [`MAX_BYTES`].
    pub segments: &'a [Segment],
}

/// What became of a request.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Status {
    /// It is done.
    Ok,
    /// The disk does not do such things.
    Unsupported,
    /// It could not be done.
    IoErr,
}

/// A request that the driver waits for.
#[derive(Clone, Copy, Debug)]
struct Flight {
    /// Parts that the caller has.
    parts: u16,
    /// The worst that became of a part.
    worst: Status,
    /// Bytes of the buffers that the device may write, as QEMU reports them for each request, whatever became of it.
    len: u32,
    /// Where the status goes.
    status_at: GuestPhysAddr,
}

/// The part of `Block::chain`'s data that the caller has not been given.
#[derive(Clone, Copy, Debug)]
struct Rest {
    token: Token,
    is_read: bool,
    sector: u64,
    /// The first segment of it.
    first: usize,
    /// What that one really is, where the part before has a piece of it.
    cut_off: Option<Segment>,
}

/// A disk's face to the driver.
#[derive(Clone, Debug)]
pub struct Block {
    transport: Transport,
    disk: Disk,
    /// The chain that was taken last.
    chain: Chain,
    rest: Option<Rest>,
    /// `next_request` ended before it had seen all that is available.
    is_behind: bool,
    /// By head of chain.
    flights: Box<[Option<Flight>]>,
    in_flight: usize,
    /// Counts resets: tokens from before one are void.
    generation: u32,
}

const QUEUE: usize = 0;

impl Block {
    /// A disk in power-on state.
    pub fn new(disk: Disk) -> Self {
        let identity =
            Identity { device_id: layout::DEVICE_ID, features: layout::features(&disk), legacy_features: 0 };
        Self {
            transport: Transport::new(identity, &[layout::QUEUE_SIZE], &layout::config(&disk)),
            disk,
            chain: Chain::new(MAX_SIZE.into()),
            rest: None,
            is_behind: false,
            flights: core::iter::repeat_n(None, MAX_SIZE.into()).collect(),
            in_flight: 0,
            generation: 0,
        }
    }

    /// What the driver is told.
    pub const fn disk(&self) -> &Disk {
        &self.disk
    }

    /// The next request; `None` where there is none. What needs no disk is answered on the way, a bounded part of it in
    /// one call: [`Self::is_behind`] tells whether something may be left.
    pub fn next_request(&mut self, ram: &GuestRam) -> Option<Request<'_>> {
        self.is_behind = true;
        if self.rest.is_some() && self.transport.takes_requests() {
            return self.next_part(ram);
        }
        let mut pieces = 0;
        for _ in 0..BATCH {
            // Long chains cost little to offer: what is read in one call is bounded by its pieces, too.
            if pieces >= usize::from(MAX_SIZE) {
                break;
            }
            if !self.transport.pop(ram, QUEUE, &mut self.chain) {
                self.is_behind = false;
                return None;
            }
            pieces += self.chain.readable().len() + self.chain.writable().len();
            match self.take(ram) {
                Taken::Data => return self.next_part(ram),
                Taken::Plain(token, kind, sector) => {
                    return Some(Request { token, kind, sector, segments: &[] });
                }
                Taken::Answered => {}
            }
        }
        None
    }

    /// Whether [`Self::next_request`], which gave nothing, has to be called again: it ended at its bound, or at a request that
    /// failed.
    pub const fn is_behind(&self) -> bool {
        self.is_behind
    }

    /// Whether there is something to be had from [`Self::next_request`].
    pub fn has_requests(&mut self, ram: &GuestRam) -> bool {
        self.transport.takes_requests() && self.rest.is_some() || self.transport.has_available(ram, QUEUE)
    }

    /// Reports what became of a request. What was in flight when the board was reset is ignored.
    pub fn complete(&mut self, ram: &GuestRam, token: Token, status: Status) {
        let Token { head, generation } = token;
        let place = self.flights.get_mut(usize::from(head)).filter(|_| generation == self.generation);
        let Some(flight) = place.and_then(Option::as_mut).filter(|flight| flight.parts > 0) else { return };
        flight.parts -= 1;
        flight.worst = flight.worst.max(status);
        let flight = *flight;
        let is_rest = |rest: &Rest| rest.token == token;
        // What went wrong stays wrong, and a driver that wants its queue back wants it now.
        if flight.worst != Status::Ok || !self.transport.takes_requests() {
            self.rest.take_if(|rest| is_rest(rest));
        }
        if flight.parts == 0 && !self.rest.as_ref().is_some_and(is_rest) {
            self.finish(ram, head, flight);
        }
    }

    fn finish(&mut self, ram: &GuestRam, head: u16, flight: Flight) {
        self.land(head);
        let code = match flight.worst {
            Status::Ok => status::OK,
            Status::IoErr => status::IO_ERROR,
            Status::Unsupported => status::UNSUPPORTED,
        };
        self.answer(ram, head, flight.status_at, code, flight.len);
    }

    fn land(&mut self, head: u16) {
        if self.flights.get_mut(usize::from(head)).and_then(Option::take).is_some() {
            self.in_flight -= 1;
        }
    }

    /// Gives a chain back with its status.
    fn answer(&mut self, ram: &GuestRam, head: u16, status_at: GuestPhysAddr, code: u8, len: u32) {
        // The device was broken meanwhile: its driver wants nothing more of it.
        if self.transport.is_broken() {
            return;
        }
        match scatter(ram, &[Segment { address: status_at, len: 1 }], 0, &[code]) {
            Ok(_) => self.transport.push(ram, QUEUE, head, len),
            Err(_) => self.transport.fail(),
        }
    }
}

/// What was found in a chain.
enum Taken {
    /// A transfer, which is now in `Block::rest`.
    Data,
    Plain(Token, Kind, u64),
    Answered,
}

impl Device for Block {
    fn transport(&self) -> &Transport {
        &self.transport
    }

    fn transport_mut(&mut self) -> &mut Transport {
        &mut self.transport
    }

    fn in_flight(&self) -> usize {
        self.in_flight
    }

    fn drain(&mut self) {
        let Some(Rest { token: Token { head, .. }, .. }) = self.rest.take() else { return };
        let waits = self.flights.get(usize::from(head)).is_some_and(|f| f.is_some_and(|f| f.parts > 0));
        if !waits {
            self.land(head);
        }
    }

    fn forget(&mut self) {
        self.generation = self.generation.wrapping_add(1);
        self.rest = None;
        self.flights.fill(None);
        self.in_flight = 0;
    }
}

#[cfg(test)]
mod tests;
