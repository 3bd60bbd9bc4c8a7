//! A guest's disk at work: takes its requests and gives, step by step, what is to be done for them on the host's disk.
//!
//! Each step is bounded, so that a large request holds nobody up. Parts of a request are under way together, and requests
//! end in any order, as virtio allows. A flush needs to wait for nothing: it covers the writes that were acknowledged
//! before it, and those the host's disk has acknowledged, too: *no-write-lost*.
//!
//! This file keeps the accounts; `work` cuts requests into steps; `operation` has what is to be done on the host's disk.

mod operation;
mod work;

pub use operation::{HostAbilities, OPERATION_SEGMENTS, Operation, OperationKind, Source};

use alloc::boxed::Box;

use arrayvec::ArrayVec;
use devices::virtio::block::{Kind, MAX_SEGMENTS, Request, Status, Token};
use memory::GuestRam;

use crate::SECTOR;
use crate::gpt::Range;
use crate::overlay::{Overlay, SECTOR_WORDS};
use work::{Cursor, Failure, Wanted, Work};

/// Requests of a guest's that are under way at a time, for each of its disks, and operations on the host's disk for them:
/// the others wait, so that one guest's many requests leave room in the host's queue for everybody else's.
pub const DEPTH: usize = 16;

/// What becomes of what a guest writes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Writes {
    /// It is refused: the disk is read-only.
    Refused,
    /// It goes to the host's disk.
    ToHost,
    /// It is kept in RAM.
    Kept,
}

/// What a disk does next.
#[derive(Clone, PartialEq, Eq, Debug)]
#[allow(clippy::large_enum_variant, reason = "nothing on a guest's path allocates")]
pub enum Step {
    /// Nothing, until there is another request or something is finished.
    Nothing,
    /// It did some of the work itself, and has more.
    Worked,
    /// This is to be done on the host's disk, and `Disk::finished` to be told of it.
    Submit(Operation),
    /// A request has ended.
    Ended(Token, Status),
}

/// What was done for a guest.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
#[allow(missing_docs)]
pub struct Counters {
    pub reads: u64,
    pub writes: u64,
    pub flushes: u64,
    pub discards: u64,
    pub zeroed: u64,
    pub sectors_read: u64,
    pub sectors_written: u64,
    /// Requests that failed.
    pub errors: u64,
    /// Of those, writes for which there was no room in RAM.
    pub overlay_full: u64,
}

/// A request under way.
#[derive(Debug)]
struct Pending {
    request: Wanted,
    /// Sectors of the request.
    total: u64,
    /// Operations that are not finished.
    parts: usize,
    failed: Option<Status>,
}

/// A guest's disk.
#[derive(Debug)]
pub struct Disk {
    source: Source,
    sectors: u64,
    readonly: bool,
    /// Where writes go that do not go to the host's disk.
    overlay: Option<Overlay>,
    pending: Box<[Option<Pending>]>,
    cursor: Option<Cursor>,
    /// Operations that are not finished.
    outstanding: usize,
    /// Whether the host's disk may hold a write that was not flushed.
    dirty: bool,
    counters: Counters,
}

impl Disk {
    /// The range of a host disk.
    pub fn on_host(range: Range, abilities: HostAbilities, writes: Writes) -> Self {
        Self::new(Source::Host { first: range.first, abilities }, range.count, writes)
    }

    /// An image, of which an unfinished last sector is left out. It is never written itself.
    pub fn of_image(words: &'static [u64], readonly: bool) -> Self {
        let sectors = (words.len() / SECTOR_WORDS) as u64;
        let writes = if readonly { Writes::Refused } else { Writes::Kept };
        Self::new(Source::Image(words), sectors, writes)
    }

    fn new(source: Source, sectors: u64, writes: Writes) -> Self {
        Self {
            source,
            sectors,
            readonly: writes == Writes::Refused,
            overlay: (writes == Writes::Kept).then(Overlay::default),
            pending: (0..DEPTH).map(|_| None).collect(),
            cursor: None,
            outstanding: 0,
            dirty: false,
            counters: Counters::default(),
        }
    }

    /// Sectors.
    pub fn capacity(&self) -> u64 {
        self.sectors
    }

    /// Whether writes fail.
    pub fn is_readonly(&self) -> bool {
        self.readonly
    }

    /// Whether it wants memory for what is written: see `give_room`.
    pub fn keeps_writes(&self) -> bool {
        self.overlay.is_some()
    }

    /// Gives it room in RAM for what is written, before which there is none.
    pub fn give_room(&mut self, overlay: Overlay) {
        self.overlay = self.overlay.take().map(|_| overlay);
    }

    /// Whether it takes discards.
    pub fn has_discard(&self) -> bool {
        let host = matches!(&self.source, Source::Host { abilities, .. } if abilities.discard > 0);
        host && self.overlay.is_none() && !self.readonly
    }

    /// What was done.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Bytes that writes have taken in RAM, and that they may take; `None` where they are not kept in RAM.
    pub fn overlay_usage(&self) -> Option<(u64, u64)> {
        self.overlay.as_ref().map(Overlay::usage)
    }

    /// Requests under way.
    pub fn in_flight(&self) -> usize {
        self.pending.iter().flatten().count()
    }

    /// Whether it is to be flushed before the machine is powered off.
    pub fn is_dirty(&self) -> bool {
        self.dirty
    }

    /// Notes that all that was written is safe.
    pub fn note_flushed(&mut self) {
        self.dirty = false;
    }

    /// Whether it takes another request. One is handed out at a time.
    pub fn has_room(&self) -> bool {
        self.cursor.is_none() && self.pending.iter().any(Option::is_none)
    }

    /// Takes a request; `false` where there is no room.
    pub fn accept(&mut self, request: &Request) -> bool {
        let free = self.pending.iter_mut().enumerate().find(|(_, pending)| pending.is_none());
        let (None, Some((tag, place))) = (self.cursor, free) else { return false };
        let bytes = request.segments.iter().map(|segment| u64::from(segment.len)).sum::<u64>();
        let total = match request.kind {
            Kind::Read | Kind::Write => bytes / SECTOR,
            Kind::Discard { sectors } | Kind::WriteZeroes { sectors, .. } => sectors,
            Kind::Flush => 0,
        };
        let writes = !matches!(request.kind, Kind::Read | Kind::Flush);
        let inside = request.sector.checked_add(total).is_some_and(|end| end <= self.sectors);
        let whole = matches!(request.kind, Kind::Flush) || inside && bytes.is_multiple_of(SECTOR);
        let can = match request.kind {
            Kind::Discard { .. } => {
                matches!(&self.source, Source::Host { abilities, .. } if abilities.discard > 0)
                    && self.overlay.is_none()
            }
            _ => true,
        };
        let failed = if !whole || writes && self.readonly {
            Some(Status::IoErr)
        } else {
            (!can).then_some(Status::Unsupported)
        };
        match request.kind {
            Kind::Read => self.counters.reads += 1,
            Kind::Write => self.counters.writes += 1,
            Kind::Flush => self.counters.flushes += 1,
            Kind::Discard { .. } => self.counters.discards += 1,
            Kind::WriteZeroes { .. } => self.counters.zeroed += 1,
        }
        let Request { token, kind, sector, segments } = *request;
        let wanted = Wanted { token, kind, sector, segments: ArrayVec::new() };
        let pending = place.insert(Pending { request: wanted, total, parts: 0, failed });
        // A device gives out no more segments than these.
        pending.request.segments.extend(segments.iter().copied().take(MAX_SEGMENTS as usize));
        self.cursor = Some(Cursor { tag, done: 0, flushed: false, segment: 0, offset: 0 });
        true
    }

    /// Does the next piece of work, or says what is to be done on the host's disk, which must have room for it.
    pub fn advance(&mut self, ram: &GuestRam) -> Step {
        let Some(mut cursor) = self.cursor else { return Step::Nothing };
        let Some(pending) = self.pending.get_mut(cursor.tag).and_then(Option::as_mut) else {
            self.cursor = None;
            return Step::Nothing;
        };
        let flush = matches!(pending.request.kind, Kind::Flush);
        let over = if flush { cursor.flushed } else { cursor.done >= pending.total };
        if over || pending.failed.is_some() {
            self.cursor = None;
            return if pending.parts == 0 { self.end(ram, cursor.tag) } else { Step::Nothing };
        }
        if self.outstanding >= DEPTH {
            return Step::Nothing;
        }
        let mut work = Work {
            source: &self.source,
            overlay: &mut self.overlay,
            ram,
            request: &pending.request,
            left: pending.total - cursor.done,
        };
        let result = work.next(&mut cursor);
        self.cursor = Some(cursor);
        match result {
            Ok(None) => Step::Worked,
            Ok(Some(operation)) => {
                pending.parts += 1;
                self.outstanding += 1;
                // Written or not: it may have reached the disk.
                self.dirty |= !matches!(operation.kind, OperationKind::Read | OperationKind::Flush);
                Step::Submit(operation)
            }
            Err(failure) => {
                pending.failed = Some(Status::IoErr);
                self.counters.overlay_full += u64::from(failure == Failure::OverlayFull);
                Step::Worked
            }
        }
    }

    /// Notes that an operation on the host's disk is finished. Gives the request's token and status where it has ended by
    /// that.
    pub fn finished(&mut self, ram: &GuestRam, tag: usize, result: Status) -> Option<(Token, Status)> {
        let pending = self.pending.get_mut(tag)?.as_mut()?;
        pending.parts = pending.parts.checked_sub(1)?;
        self.outstanding = self.outstanding.saturating_sub(1);
        if result != Status::Ok {
            pending.failed.get_or_insert(result);
        }
        if pending.parts > 0 || self.cursor.is_some_and(|cursor| cursor.tag == tag) {
            return None;
        }
        match self.end(ram, tag) {
            Step::Ended(token, status) => Some((token, status)),
            _ => None,
        }
    }

    /// Begins no further part of any request, for its guest is about to be reset. Once nothing is in flight any more, the
    /// guest's memory is its own again.
    pub fn abandon(&mut self) {
        let Some(Cursor { tag, .. }) = self.cursor.take() else { return };
        let Some(place) = self.pending.get_mut(tag) else { return };
        match place {
            Some(pending) if pending.parts > 0 => pending.failed = Some(Status::IoErr),
            _ => *place = None,
        }
    }

    fn end(&mut self, ram: &GuestRam, tag: usize) -> Step {
        let Some(place) = self.pending.get_mut(tag) else { return Step::Nothing };
        // Looked at where it is: it is too large to be moved for nothing.
        let Some(Pending { request, total, failed, .. }) = place else { return Step::Nothing };
        match request.kind {
            _ if failed.is_some() => self.counters.errors += 1,
            Kind::Read => self.counters.sectors_read += *total,
            Kind::Write => self.counters.sectors_written += *total,
            Kind::Flush | Kind::Discard { .. } | Kind::WriteZeroes { .. } => {}
        }
        if request.kind == Kind::Read {
            // Also where it failed: some of it may have arrived.
            for segment in &request.segments {
                ram.dma_arrived(segment.address, u64::from(segment.len));
            }
        }
        let ended = Step::Ended(request.token, failed.unwrap_or(Status::Ok));
        *place = None;
        ended
    }
}

#[cfg(test)]
mod tests;
