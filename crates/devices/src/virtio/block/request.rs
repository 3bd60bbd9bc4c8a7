//! What a chain asks of the disk (virtio 1.2, "Block Device", "Device Operation").

use memory::GuestRam;

use super::layout::{self, MAX_DISCARD_SECTORS, feature, request, status};
use super::{Block, Flight, Kind, MAX_BYTES, MAX_SEGMENTS, Request, Rest, SECTOR, Status, Taken, Token};
use crate::virtio::buffers::{Segment, gather, scatter, total};
use crate::virtio::queue::Broken;

/// Bytes of a request's header: type, reserved, sector.
const HEADER: usize = 16;
/// Bytes of what a discard or a write of zeroes names: sector, number of sectors, flags.
const RANGE: usize = 16;

/// What is answered at once.
enum Answer {
    /// The ring itself is wrong.
    Broken,
    Status(u8),
}

impl From<Broken> for Answer {
    fn from(Broken: Broken) -> Self {
        Self::Broken
    }
}

const IO_ERROR: Answer = Answer::Status(status::IO_ERROR);
const UNSUPPORTED: Answer = Answer::Status(status::UNSUPPORTED);

impl Block {
    /// Sees what the chain that was just taken wants.
    pub(super) fn take(&mut self, ram: &GuestRam) -> Taken {
        let head = self.chain.head;
        let in_flight = self.flights.get(usize::from(head)).is_none_or(Option::is_some);
        let len = u32::try_from(total(self.chain.writable())).unwrap_or(u32::MAX);
        let Some(status_at) = self.chain.cut_last_byte().filter(|_| !in_flight) else {
            self.transport.fail();
            return Taken::Answered;
        };
        let flight = Flight { parts: 0, worst: Status::Ok, len, status_at };
        match self.parse(ram, flight) {
            Ok(taken) => taken,
            Err(Answer::Status(code)) => {
                self.answer(ram, head, status_at, code, len);
                Taken::Answered
            }
            Err(Answer::Broken) => {
                self.transport.fail();
                Taken::Answered
            }
        }
    }

    /// What the request is, and how it is noted when it is in flight.
    fn parse(&mut self, ram: &GuestRam, flight: Flight) -> Result<Taken, Answer> {
        let mut header = [0; HEADER];
        if gather(ram, self.chain.readable(), 0, &mut header)? < HEADER {
            return Err(Answer::Broken);
        }
        let [t0, t1, t2, t3, _, _, _, _, sector @ ..] = header;
        let (kind, sector) = (u32::from_le_bytes([t0, t1, t2, t3]), u64::from_le_bytes(sector));
        let is_read = kind & request::OUT == 0;
        match kind & !request::FLAGS {
            request::IN if !is_read && self.disk.read_only => Err(IO_ERROR),
            request::IN => self.transfer(is_read, sector, flight),
            // This and what follows, whether it was agreed upon or not, as on QEMU.
            request::FLUSH => Ok(Taken::Plain(self.fly(1, flight), Kind::Flush, 0)),
            request::GET_ID => {
                // As on QEMU, a short buffer gets the beginning.
                scatter(ram, self.chain.writable(), 0, &self.disk.serial)?;
                Err(Answer::Status(status::OK))
            }
            request::DISCARD if !is_read && self.offers(feature::DISCARD) => {
                let (sector, sectors, unmap) = self.range(ram)?;
                if unmap {
                    return Err(UNSUPPORTED);
                }
                Ok(Taken::Plain(self.fly(1, flight), Kind::Discard { sectors }, sector))
            }
            request::WRITE_ZEROES if !is_read && self.offers(feature::WRITE_ZEROES) => {
                let (sector, sectors, unmap) = self.range(ram)?;
                Ok(Taken::Plain(self.fly(1, flight), Kind::WriteZeroes { sectors, unmap }, sector))
            }
            _ => Err(UNSUPPORTED),
        }
    }

    const fn offers(&self, feature: u64) -> bool {
        layout::features(&self.disk) & feature != 0
    }

    /// A read or a write of all data in the chain.
    fn transfer(&mut self, is_read: bool, sector: u64, flight: Flight) -> Result<Taken, Answer> {
        let first = if is_read { 0 } else { self.chain.cut_front(HEADER as u64) };
        let data = if is_read { self.chain.writable() } else { self.chain.readable() };
        let bytes = total(data.get(first..).unwrap_or(&[]));
        // A used buffer's length has 32 bits, and counts the status, too.
        if !bytes.is_multiple_of(SECTOR) || bytes >= u64::from(u32::MAX) {
            return Err(IO_ERROR);
        }
        self.check_sectors(sector, bytes / SECTOR)?;
        if bytes == 0 {
            return Err(Answer::Status(status::OK));
        }
        let token = self.fly(0, flight);
        self.rest = Some(Rest { token, is_read, sector, first, cut_off: None });
        Ok(Taken::Data)
    }

    /// The one range that a discard or a write of zeroes names: sector, sectors, and whether it is to be unmapped.
    fn range(&self, ram: &GuestRam) -> Result<(u64, u64, bool), Answer> {
        let mut range = [0; RANGE];
        let data = total(self.chain.readable()) - HEADER as u64;
        // More ranges than `max_discard_seg` says, or no whole one.
        if data != RANGE as u64 || gather(ram, self.chain.readable(), HEADER as u64, &mut range)? < RANGE {
            return Err(if data > RANGE as u64 { UNSUPPORTED } else { IO_ERROR });
        }
        let [a0, a1, a2, a3, a4, a5, a6, a7, n0, n1, n2, n3, flags @ ..] = range;
        let sector = u64::from_le_bytes([a0, a1, a2, a3, a4, a5, a6, a7]);
        let sectors = u32::from_le_bytes([n0, n1, n2, n3]);
        let flags = u32::from_le_bytes(flags);
        // Bit 0 is unmap, the others are reserved.
        if flags & !1 != 0 {
            return Err(UNSUPPORTED);
        }
        if sectors > MAX_DISCARD_SECTORS {
            return Err(IO_ERROR);
        }
        self.check_sectors(sector, sectors.into())?;
        Ok((sector, sectors.into(), flags == 1))
    }

    fn check_sectors(&self, first: u64, count: u64) -> Result<(), Answer> {
        let fits = first.checked_add(count).is_some_and(|end| end <= self.disk.sectors);
        if fits { Ok(()) } else { Err(IO_ERROR) }
    }

    /// The next part of the transfer in `rest`. `None` where there is none to be had: a sector that is spread over more
    /// pieces than a part may have fails the request.
    pub(super) fn next_part(&mut self, ram: &GuestRam) -> Option<Request<'_>> {
        let Rest { token, is_read, sector, first, cut_off } = self.rest.take()?;
        let data = if is_read { self.chain.writable_mut() } else { self.chain.readable_mut() };
        if let (Some(segment), Some(cut_off)) = (data.get_mut(first), cut_off) {
            *segment = cut_off;
        }
        let part = cut_part(data.get_mut(first..).unwrap_or(&mut []));
        let flight = self.flights.get_mut(usize::from(token.head))?.as_mut()?;
        if part.bytes == 0 {
            flight.worst = Status::IoErr;
            let flight = *flight;
            if flight.parts == 0 {
                self.finish(ram, token.head, flight);
            }
            return None;
        }
        flight.parts += 1;
        let end = first + part.segments;
        let next = if part.cut_off.is_some() { end - 1 } else { end };
        let data = if is_read { self.chain.writable() } else { self.chain.readable() };
        if next < data.len() {
            let sector = sector + part.bytes / SECTOR;
            self.rest = Some(Rest { token, is_read, sector, first: next, cut_off: part.cut_off });
        }
        let kind = if is_read { Kind::Read } else { Kind::Write };
        Some(Request { token, kind, sector, segments: data.get(first..end)? })
    }

    /// Notes that a request is in flight, of which so many parts are handed out.
    fn fly(&mut self, parts: u16, flight: Flight) -> Token {
        let head = self.chain.head;
        if let Some(place) = self.flights.get_mut(usize::from(head)) {
            *place = Some(Flight { parts, ..flight });
            self.in_flight += 1;
        }
        Token { head, generation: self.generation }
    }
}

/// The beginning of a transfer's data.
struct Part {
    /// Bytes: whole sectors, at most [`MAX_BYTES`].
    bytes: u64,
    /// How many pieces it has, at most [`MAX_SEGMENTS`].
    segments: usize,
    /// What the last of them really goes on with.
    cut_off: Option<Segment>,
}

/// Cuts the largest part off `data`, whose last piece is shortened for that.
fn cut_part(data: &mut [Segment]) -> Part {
    let (mut bytes, mut segments) = (0, 0_usize);
    for segment in data.iter().take(MAX_SEGMENTS as usize) {
        if bytes >= MAX_BYTES {
            break;
        }
        bytes += u64::from(segment.len);
        segments += 1;
    }
    // Back to the end of a sector, over whole pieces and into one.
    let mut excess = bytes - bytes.min(MAX_BYTES) / SECTOR * SECTOR;
    bytes -= excess;
    while let Some(last) = segments.checked_sub(1).and_then(|last| data.get_mut(last)) {
        if u64::from(last.len) > excess {
            let (len, left) = (last.len, last.len - excess as u32);
            let address = last.address.wrapping_add(left.into());
            let cut_off = (excess > 0).then_some(Segment { address, len: len - left });
            last.len = left;
            return Part { bytes, segments, cut_off };
        }
        excess -= u64::from(last.len);
        segments -= 1;
    }
    Part { bytes, segments, cut_off: None }
}
