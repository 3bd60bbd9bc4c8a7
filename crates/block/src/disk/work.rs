//! One step of one request: which sectors come next, whether they are in RAM or on the host's disk, and which pieces of the
//! guest's memory belong to them.

use arrayvec::ArrayVec;
use devices::virtio::Segment;
use devices::virtio::block::{Kind, MAX_SEGMENTS, Token};
use memory::{Extent, GuestPhysAddr, GuestRam, NotRam};
use zerocopy::IntoBytes;

use super::operation::{HostAbilities, OPERATION_SEGMENTS, Operation, OperationKind, Source};
use crate::SECTOR;
use crate::overlay::{Full, Overlay, SECTOR_WORDS};

/// Sectors of an operation on the host's disk: a large request does not fill its queue at once.
pub(super) const OPERATION_SECTORS: u64 = 2048;
/// Sectors that are copied in a step.
pub(super) const COPIED: u64 = 64;

/// A guest's request, copied: the one that the device gave out is gone by the time it is done.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Wanted {
    pub(super) token: Token,
    pub(super) kind: Kind,
    pub(super) sector: u64,
    pub(super) segments: ArrayVec<Segment, { MAX_SEGMENTS as usize }>,
}

/// Where the request is whose parts are being handed out.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cursor {
    pub(super) tag: usize,
    /// Sectors that were handed out.
    pub(super) done: u64,
    /// A flush was handed out.
    pub(super) flushed: bool,
    pub(super) segment: usize,
    /// Bytes of the segment that were handed out.
    pub(super) offset: u32,
}

/// Why a request cannot go on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Failure {
    /// Its memory is not RAM, or is in too many small pieces.
    Memory,
    /// There is no room in RAM for what it writes.
    OverlayFull,
}

/// One step of one request.
pub(super) struct Work<'a> {
    pub(super) source: &'a Source,
    pub(super) overlay: &'a mut Option<Overlay>,
    pub(super) ram: &'a GuestRam,
    pub(super) request: &'a Wanted,
    /// Sectors that are left.
    pub(super) left: u64,
}

impl Work<'_> {
    /// Moves the cursor on; the operation that is to be done for that, or none where it is done already.
    pub(super) fn next(&mut self, cursor: &mut Cursor) -> Result<Option<Operation>, Failure> {
        let sector = self.request.sector + cursor.done;
        match self.request.kind {
            Kind::Read => {
                let (in_overlay, run) = self.run(sector);
                match self.source {
                    Source::Host { first, abilities } if !in_overlay => {
                        self.transfer(cursor, OperationKind::Read, first + sector, run, abilities).map(Some)
                    }
                    _ => self.copy_out(cursor, in_overlay, sector, run.min(COPIED)).map(|()| None),
                }
            }
            Kind::Write => match self.source {
                Source::Host { first, abilities } if self.overlay.is_none() => {
                    let (first, left) = (first + sector, self.left);
                    self.transfer(cursor, OperationKind::Write, first, left, abilities).map(Some)
                }
                _ => self.copy_in(cursor, sector, self.left.min(COPIED)).map(|()| None),
            },
            Kind::Flush => {
                cursor.flushed = true;
                let host = matches!(self.source, Source::Host { abilities, .. } if abilities.flush);
                let flush = host && self.overlay.is_none();
                Ok(flush.then(|| self.operation(cursor, OperationKind::Flush, 0)))
            }
            Kind::Discard { .. } => {
                let Source::Host { first, abilities } = self.source else { return Err(Failure::Memory) };
                let sectors = self.left.min(u64::from(abilities.discard)) as u32;
                cursor.done += u64::from(sectors);
                Ok(Some(self.operation(cursor, OperationKind::Discard { sectors }, first + sector)))
            }
            Kind::WriteZeroes { unmap, .. } => match self.source {
                Source::Host { first, abilities } if self.overlay.is_none() => {
                    self.zero(cursor, first + sector, unmap, abilities).map(Some)
                }
                _ => {
                    let count = self.left.min(COPIED);
                    for sector in sector..sector + count {
                        self.keep(sector, &[0; SECTOR_WORDS])?;
                    }
                    cursor.done += count;
                    Ok(None)
                }
            },
        }
    }

    /// Whether the sector is in the overlay, and how many from it on are as it is.
    fn run(&self, sector: u64) -> (bool, u64) {
        let has = |sector| self.overlay.as_ref().is_some_and(|overlay| overlay.read(sector).is_some());
        let first = has(sector);
        if self.overlay.is_none() {
            return (false, self.left);
        }
        // A step's worth: looking is work, too.
        let same = (sector + 1..sector + self.left.min(COPIED)).take_while(|sector| has(*sector) == first);
        (first, 1 + same.count() as u64)
    }

    fn operation(&self, cursor: &Cursor, kind: OperationKind, sector: u64) -> Operation {
        Operation { tag: cursor.tag, kind, sector, memory: ArrayVec::new() }
    }

    /// Hands out the next pieces of memory for at most `limit` sectors.
    fn transfer(
        &self,
        cursor: &mut Cursor,
        kind: OperationKind,
        sector: u64,
        limit: u64,
        abilities: &HostAbilities,
    ) -> Result<Operation, Failure> {
        let mut operation = self.operation(cursor, kind, sector);
        let pieces = abilities.segments.clamp(1, OPERATION_SEGMENTS);
        let longest = u64::from(abilities.segment_size);
        let wanted = limit.min(OPERATION_SECTORS) * SECTOR;
        let mut at = *cursor;
        let mut bytes = 0;
        while bytes < wanted
            && let Some(len) = self.piece(&mut at, wanted - bytes)
        {
            let len = len.min(longest);
            let address = self.place(&at).ok_or(Failure::Memory)?;
            let start = match kind {
                OperationKind::Read => self.ram.dma_target(address, len),
                _ => self.ram.dma_source(address, len),
            };
            let piece = Extent::new(start.map_err(|NotRam| Failure::Memory)?, len);
            let full = operation.memory.len() == pieces;
            match operation.memory.last_mut() {
                // What is contiguous in the guest's RAM is so in the host's.
                Some(last) if last.end() == piece.start && last.size + len <= longest => last.size += len,
                _ if full => break,
                _ => operation.memory.push(piece),
            }
            bytes += len;
            at.offset += len as u32;
        }
        // Pieces may end within a sector, of which the rest is for the next operation to start with.
        let whole = bytes / SECTOR * SECTOR;
        if whole == 0 {
            return Err(Failure::Memory);
        }
        cut(&mut operation.memory, whole);
        cursor.done += whole / SECTOR;
        let mut left = whole;
        while left > 0
            && let Some(len) = self.piece(cursor, left)
        {
            cursor.offset += len as u32;
            left -= len;
        }
        Ok(operation)
    }

    /// Writes zeros, or asks the host's disk to.
    fn zero(
        &self,
        cursor: &mut Cursor,
        sector: u64,
        unmap: bool,
        abilities: &HostAbilities,
    ) -> Result<Operation, Failure> {
        if abilities.write_zeroes > 0 {
            let sectors = self.left.min(u64::from(abilities.write_zeroes)) as u32;
            cursor.done += u64::from(sectors);
            return Ok(self.operation(cursor, OperationKind::WriteZeroes { sectors, unmap }, sector));
        }
        let mut operation = self.operation(cursor, OperationKind::Write, sector);
        let piece = abilities.zeros.size.min(u64::from(abilities.segment_size)) / SECTOR;
        let mut left = self.left.min(OPERATION_SECTORS);
        while left > 0
            && piece > 0
            && operation.memory.len() < abilities.segments.clamp(1, OPERATION_SEGMENTS)
        {
            let sectors = left.min(piece);
            operation.memory.push(Extent::new(abilities.zeros.start, sectors * SECTOR));
            cursor.done += sectors;
            left -= sectors;
        }
        if operation.memory.is_empty() { Err(Failure::Memory) } else { Ok(operation) }
    }

    /// Copies sectors to the guest, all of them from the overlay or all of them from the image.
    fn copy_out(
        &self,
        cursor: &mut Cursor,
        in_overlay: bool,
        sector: u64,
        count: u64,
    ) -> Result<(), Failure> {
        match (&self.overlay, self.source) {
            (Some(overlay), _) if in_overlay => (sector..sector + count)
                .try_for_each(|sector| self.copy_words(cursor, overlay.read(sector).ok_or(Failure::Memory)?)),
            (_, Source::Image(words)) => {
                let (first, count) = (sector as usize * SECTOR_WORDS, count as usize * SECTOR_WORDS);
                let words = words.get(first..).and_then(|words| words.get(..count));
                self.copy_words(cursor, words.ok_or(Failure::Memory)?)
            }
            _ => Err(Failure::Memory),
        }
    }

    /// Copies whole sectors to the guest.
    fn copy_words(&self, cursor: &mut Cursor, words: &[u64]) -> Result<(), Failure> {
        let bytes = words.as_bytes();
        self.copy(cursor, bytes.len() as u64, |address, range| {
            self.ram.device_write(address, bytes.get(range).ok_or(NotRam)?)
        })
    }

    /// Copies sectors from the guest to the overlay.
    fn copy_in(&mut self, cursor: &mut Cursor, sector: u64, count: u64) -> Result<(), Failure> {
        for sector in sector..sector + count {
            let mut words = [0; SECTOR_WORDS];
            let bytes = words.as_mut_bytes();
            self.copy(cursor, SECTOR, |address, range| {
                self.ram.read(address, bytes.get_mut(range).ok_or(NotRam)?)
            })?;
            self.keep(sector, &words)?;
        }
        Ok(())
    }

    fn keep(&mut self, sector: u64, words: &[u64; SECTOR_WORDS]) -> Result<(), Failure> {
        let overlay = self.overlay.as_mut().ok_or(Failure::OverlayFull)?;
        overlay.write(sector, words).map_err(|Full| Failure::OverlayFull)
    }

    /// Moves the cursor over whole sectors, piece by piece: each one's address, and which of the bytes it is.
    fn copy(
        &self,
        cursor: &mut Cursor,
        bytes: u64,
        mut piece: impl FnMut(GuestPhysAddr, core::ops::Range<usize>) -> Result<(), NotRam>,
    ) -> Result<(), Failure> {
        let mut done = 0;
        while done < bytes {
            let len = self.piece(cursor, bytes - done).ok_or(Failure::Memory)?;
            let address = self.place(cursor).ok_or(Failure::Memory)?;
            piece(address, done as usize..(done + len) as usize).map_err(|NotRam| Failure::Memory)?;
            cursor.offset += len as u32;
            done += len;
        }
        cursor.done += bytes / SECTOR;
        Ok(())
    }

    /// Bytes at the cursor that are in one piece, at most `limit`, once the cursor has left pieces that are used up.
    fn piece(&self, cursor: &mut Cursor, limit: u64) -> Option<u64> {
        loop {
            let segment = self.request.segments.get(cursor.segment)?;
            match segment.len.checked_sub(cursor.offset).filter(|len| *len > 0) {
                Some(len) => return Some(u64::from(len).min(limit)),
                None => (cursor.segment, cursor.offset) = (cursor.segment + 1, 0),
            }
        }
    }

    /// The address at the cursor.
    fn place(&self, cursor: &Cursor) -> Option<GuestPhysAddr> {
        self.request.segments.get(cursor.segment)?.address.checked_add(u64::from(cursor.offset))
    }
}

/// Shortens `memory` to its first `bytes` bytes.
fn cut(memory: &mut ArrayVec<Extent, OPERATION_SEGMENTS>, bytes: u64) {
    let mut left = bytes;
    memory.retain(|piece| {
        piece.size = piece.size.min(left);
        left -= piece.size;
        piece.size > 0
    });
}
