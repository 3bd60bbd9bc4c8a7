//! What a chain asks of the disk (virtio 1.2, "Block Device", "Device Operation").

use memory::{GuestPhysAddr, GuestRam};

use super::layout::{MAX_DISCARD_SECTORS, feature, request, status};
use super::{Block, Flight, Kind, MAX_BYTES, Request, Rest, SECTOR, Status, Taken, Token};
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
        let Some(status_at) = self.chain.cut_last_byte().filter(|_| !in_flight) else {
            self.transport.fail();
            return Taken::Answered;
        };
        match self.parse(ram, status_at) {
            Ok(taken) => taken,
            Err(Answer::Status(code)) => {
                self.answer(ram, head, status_at, code, 0);
                Taken::Answered
            }
            Err(Answer::Broken) => {
                self.transport.fail();
                Taken::Answered
            }
        }
    }

    fn parse(&mut self, ram: &GuestRam, status_at: GuestPhysAddr) -> Result<Taken, Answer> {
        let mut header = [0; HEADER];
        if gather(ram, self.chain.readable(), 0, &mut header)? < HEADER {
            return Err(Answer::Broken);
        }
        let [t0, t1, t2, t3, _, _, _, _, sector @ ..] = header;
        let (kind, sector) = (u32::from_le_bytes([t0, t1, t2, t3]), u64::from_le_bytes(sector));
        match kind {
            request::IN => self.transfer(true, sector, status_at),
            request::OUT if self.disk.read_only => Err(IO_ERROR),
            request::OUT => self.transfer(false, sector, status_at),
            request::FLUSH if self.transport.has(feature::FLUSH) => {
                Ok(Taken::Plain(self.fly(1, 0, status_at), Kind::Flush, 0))
            }
            request::GET_ID => {
                // As on QEMU, a short buffer gets the beginning.
                let written = scatter(ram, self.chain.writable(), 0, &self.disk.serial)?;
                self.answer(ram, self.chain.head, status_at, status::OK, written as u32);
                Ok(Taken::Answered)
            }
            request::DISCARD if self.transport.has(feature::DISCARD) => {
                let (sector, sectors, unmap) = self.range(ram)?;
                if unmap {
                    return Err(UNSUPPORTED);
                }
                Ok(Taken::Plain(self.fly(1, 0, status_at), Kind::Discard { sectors }, sector))
            }
            request::WRITE_ZEROES if self.transport.has(feature::WRITE_ZEROES) => {
                let (sector, sectors, unmap) = self.range(ram)?;
                Ok(Taken::Plain(self.fly(1, 0, status_at), Kind::WriteZeroes { sectors, unmap }, sector))
            }
            _ => Err(UNSUPPORTED),
        }
    }

    /// A read or a write of all data in the chain.
    fn transfer(&mut self, is_read: bool, sector: u64, status_at: GuestPhysAddr) -> Result<Taken, Answer> {
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
        let written = if is_read { bytes as u32 } else { 0 };
        let token = self.fly(0, written, status_at);
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

    /// The next part of the transfer in `rest`.
    pub(super) fn next_part(&mut self) -> Option<Request<'_>> {
        let Rest { token, is_read, sector, first, cut_off } = self.rest.take()?;
        self.flights.get_mut(usize::from(token.head))?.as_mut()?.parts += 1;
        let data = if is_read { self.chain.writable_mut() } else { self.chain.readable_mut() };
        if let (Some(segment), Some(cut_off)) = (data.get_mut(first), cut_off) {
            *segment = cut_off;
        }
        let (mut room, mut end, mut cut_off) = (MAX_BYTES, first, None);
        while let Some(segment) = data.get_mut(end).filter(|_| room > 0) {
            end += 1;
            if u64::from(segment.len) > room {
                let len = segment.len - room as u32;
                cut_off = Some(Segment { address: segment.address.wrapping_add(room), len });
                segment.len = room as u32;
            }
            room -= u64::from(segment.len);
        }
        let next = if cut_off.is_some() { end - 1 } else { end };
        if next < data.len() {
            let sector = sector + (MAX_BYTES - room) / SECTOR;
            self.rest = Some(Rest { token, is_read, sector, first: next, cut_off });
        }
        let kind = if is_read { Kind::Read } else { Kind::Write };
        let data = if is_read { self.chain.writable() } else { self.chain.readable() };
        Some(Request { token, kind, sector, segments: data.get(first..end)? })
    }

    /// Notes that a request is in flight.
    fn fly(&mut self, parts: u16, written: u32, status_at: GuestPhysAddr) -> Token {
        let head = self.chain.head;
        if let Some(place) = self.flights.get_mut(usize::from(head)) {
            *place = Some(Flight { parts, worst: Status::Ok, written, status_at });
            self.in_flight += 1;
        }
        Token { head, generation: self.generation }
    }
}
