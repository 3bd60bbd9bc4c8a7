//! The block device as a driver sees it.

extern crate std;

use std::vec::Vec;
use std::{assert_eq, vec};

use super::layout::feature;
use super::*;
use crate::virtio::Slot;
use crate::virtio::slot::Effect;
use crate::virtio::testing::{
    DATA, INDIRECT, INDIRECT_DESC, NEXT, RAM, Ring, VERSION_1, WRITE, bring_up, bring_up_legacy, descriptor,
    get, negotiate, put, ram, read, write,
};

mod drivers;
mod parts;

/// Where headers and status bytes are.
const HEADER: u64 = RAM + 0x8_0000;
const STATUS: u64 = RAM + 0x8_1000;
const SECTORS: u64 = 1 << 22;

struct Bench {
    ram: GuestRam,
    slot: Slot,
    ring: Ring,
}

/// A request as the caller got it, kept.
#[derive(Debug, PartialEq)]
struct Got {
    token: Token,
    kind: Kind,
    sector: u64,
    segments: Vec<(u64, u32)>,
}

impl Bench {
    fn new(disk: Disk, features: u64) -> Self {
        let mut slot = Slot::Block(Block::new(disk));
        let ram = ram();
        let ring = bring_up(&mut slot, features | VERSION_1, 1, 128).remove(0);
        Self { ram, slot, ring }
    }

    fn plain() -> Self {
        Self::new(disk(), feature::FLUSH | INDIRECT_DESC)
    }

    fn has_requests(&mut self) -> bool {
        let Self { slot: Slot::Block(block), ram, .. } = self else { panic!("a disk") };
        block.has_requests(ram)
    }

    fn is_behind(&self) -> bool {
        let Self { slot: Slot::Block(block), .. } = self else { panic!("a disk") };
        block.is_behind()
    }

    fn next(&mut self) -> Option<Got> {
        let Self { slot: Slot::Block(block), ram, .. } = self else { panic!("a disk") };
        block.next_request(ram).map(|request| Got {
            token: request.token,
            kind: request.kind,
            sector: request.sector,
            segments: request.segments.iter().map(|segment| (segment.address.0, segment.len)).collect(),
        })
    }

    fn complete(&mut self, token: Token, status: Status) {
        let Self { slot: Slot::Block(block), ram, .. } = self else { panic!("a disk") };
        block.complete(ram, token, status);
    }

    fn header(&self, kind: u32, sector: u64) {
        let mut bytes = [0xee; 16];
        bytes[..4].copy_from_slice(&kind.to_le_bytes());
        bytes[8..].copy_from_slice(&sector.to_le_bytes());
        put(&self.ram, HEADER, &bytes);
        put(&self.ram, STATUS, &[0xff]);
    }

    /// Offers a request in descriptors from `first` on.
    fn offer(&mut self, first: u16, kind: u32, sector: u64, out: &[(u64, u32)], inward: &[(u64, u32)]) {
        self.header(kind, sector);
        let out: Vec<_> = [(HEADER, 16)].iter().chain(out).copied().collect();
        let inward: Vec<_> = inward.iter().chain(&[(STATUS, 1)]).copied().collect();
        self.ring.offer_chain(&self.ram, first, &out, &inward);
    }

    fn status(&self) -> u8 {
        get::<1>(&self.ram, STATUS)[0]
    }

    /// Offers a request that is answered without the disk: its status.
    fn answer(&mut self, kind: u32, sector: u64, out: &[(u64, u32)], inward: &[(u64, u32)]) -> u8 {
        self.offer(0, kind, sector, out, inward);
        assert_eq!(self.next(), None);
        assert_eq!(self.ring.used(&self.ram).map(|(head, _)| head), Some(0));
        self.status()
    }

    fn is_broken(&self) -> bool {
        read(&self.slot, 0x70) & 64 != 0
    }
}

fn disk() -> Disk {
    Disk { sectors: SECTORS, serial: *b"disk 0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", ..Disk::default() }
}

const IN: u32 = 0;
const OUT: u32 = 1;

#[test]
fn a_read_is_handed_out_and_its_answer_comes_back() {
    let mut bench = Bench::plain();
    bench.offer(5, IN, 7, &[], &[(DATA, 1024), (DATA + 0x5000, 512)]);
    let got = bench.next().unwrap();
    assert_eq!((got.kind, got.sector), (Kind::Read, 7));
    assert_eq!(got.segments, [(DATA, 1024), (DATA + 0x5000, 512)]);
    assert_eq!((bench.status(), bench.ring.used(&bench.ram)), (0xff, None));
    bench.complete(got.token, Status::Ok);
    assert_eq!(bench.status(), 0);
    assert_eq!(bench.ring.used(&bench.ram), Some((5, 1537)));
    assert!(bench.slot.irq_level());
    assert_eq!(read(&bench.slot, 0x60), 1);
    let _ = write(&mut bench.slot, 0x64, 1);
    assert!(!bench.slot.irq_level());
    assert_eq!(bench.next(), None);
}

#[test]
fn requests_may_be_completed_in_any_order() {
    let mut bench = Bench::plain();
    bench.offer(0, OUT, 1, &[(DATA, 512)], &[]);
    let first = bench.next().unwrap();
    bench.offer(10, IN, 2, &[], &[(DATA, 512)]);
    let second = bench.next().unwrap();
    assert_eq!((first.kind, second.kind), (Kind::Write, Kind::Read));
    assert_eq!(bench.slot.in_flight(), 2);
    bench.complete(second.token, Status::Ok);
    bench.complete(first.token, Status::IoErr);
    assert_eq!(bench.ring.used(&bench.ram), Some((10, 513)));
    assert_eq!(bench.ring.used(&bench.ram), Some((0, 1)));
    assert_eq!(bench.status(), 1);
    assert_eq!(bench.slot.in_flight(), 0);
}

#[test]
fn header_and_status_may_share_buffers_with_the_data_or_be_torn() {
    let mut bench = Bench::plain();
    bench.header(OUT, 3);
    // The header in two pieces, the second of which goes over into the data.
    bench.ring.offer_chain(&bench.ram, 0, &[(HEADER, 9), (HEADER + 9, 7 + 500), (DATA, 12)], &[(STATUS, 1)]);
    let got = bench.next().unwrap();
    assert_eq!((got.kind, got.sector), (Kind::Write, 3));
    assert_eq!(got.segments, [(HEADER + 16, 500), (DATA, 12)]);
    bench.header(IN, 4);
    bench.ring.offer_chain(&bench.ram, 10, &[(HEADER, 16)], &[(DATA, 513)]);
    let got = bench.next().unwrap();
    assert_eq!(got.segments, [(DATA, 512)]);
    bench.complete(got.token, Status::Unsupported);
    assert_eq!(get::<1>(&bench.ram, DATA + 512), [2]);
}

#[test]
fn an_indirect_table_is_one_descriptor_of_the_queue() {
    let mut bench = Bench::plain();
    bench.header(IN, 1);
    let table = DATA + 0x8008;
    for (n, (part, flags)) in
        [((HEADER, 16), NEXT), ((DATA, 512), NEXT | WRITE), ((STATUS, 1), WRITE)].into_iter().enumerate()
    {
        put(&bench.ram, table + 16 * n as u64, &descriptor(part, flags, n as u16 + 1));
    }
    bench.ring.descriptor(&bench.ram, 7, (table, 48), INDIRECT, 0);
    bench.ring.offer(&bench.ram, 7);
    let got = bench.next().unwrap();
    assert_eq!(got.segments, [(DATA, 512)]);
    bench.complete(got.token, Status::Ok);
    assert_eq!(bench.ring.used(&bench.ram), Some((7, 513)));
}

#[test]
fn sectors_that_are_not_on_the_disk_are_refused() {
    let mut bench = Bench::plain();
    for (sector, len) in
        [(SECTORS, 512), (SECTORS - 1, 1024), (u64::MAX, 512), (u64::MAX, 1024), (u64::MAX / 2, 512)]
    {
        assert_eq!(bench.answer(IN, sector, &[], &[(DATA, len)]), 1);
        assert_eq!(bench.answer(OUT, sector, &[(DATA, len)], &[]), 1);
    }
    bench.offer(0, IN, SECTORS - 1, &[], &[(DATA, 512)]);
    assert!(bench.next().is_some());
}

#[test]
fn data_is_whole_sectors() {
    let mut bench = Bench::plain();
    assert_eq!(bench.answer(IN, 0, &[], &[(DATA, 511)]), 1);
    assert_eq!(bench.answer(OUT, 0, &[(DATA, 512), (DATA, 1)], &[]), 1);
    assert_eq!(bench.answer(IN, 0, &[], &[]), 0, "nothing is soon read");
}

#[test]
fn a_read_only_disk_takes_no_writes() {
    let all = Disk { read_only: true, discard: true, write_zeroes: true, ..disk() };
    let mut bench = Bench::new(all, feature::RO);
    let _ = write(&mut bench.slot, 0x14, 0);
    let offered = u64::from(read(&bench.slot, 0x10));
    assert_eq!(offered & (feature::RO | feature::DISCARD | feature::WRITE_ZEROES), feature::RO);
    assert_eq!(bench.answer(OUT, 0, &[(DATA, 512)], &[]), 1);
    assert_eq!(bench.answer(11, 0, &[(DATA, 16)], &[]), 2);
    assert_eq!(bench.answer(13, 0, &[(DATA, 16)], &[]), 2);
}

#[test]
fn types_that_are_unknown_or_not_offered_are_unsupported() {
    let mut bench = Bench::plain();
    for kind in [2, 3, 6, 7, 10, 11, 12, 13, 14, 16, u32::MAX] {
        assert_eq!(bench.answer(kind, 0, &[(DATA, 16)], &[]), 2, "{kind}");
    }
}

#[test]
fn a_barrier_and_the_direction_are_no_part_of_a_type() {
    const BARRIER: u32 = 1 << 31;
    for (kind, expected) in [
        (BARRIER | IN, Kind::Read),
        (BARRIER | OUT, Kind::Write),
        (4, Kind::Flush),
        (5, Kind::Flush),
        (BARRIER | 5, Kind::Flush),
    ] {
        let mut bench = Bench::plain();
        let data = [(DATA, 512)];
        let (out, inward): (&[_], &[_]) = if kind & OUT != 0 { (&data, &[]) } else { (&[], &data) };
        bench.offer(0, kind, 0, out, inward);
        assert_eq!(bench.next().unwrap().kind, expected, "{kind:#x}");
    }
}

#[test]
fn a_flush_goes_to_the_disk() {
    let mut bench = Bench::plain();
    bench.offer(0, 4, 0x1234, &[], &[]);
    let got = bench.next().unwrap();
    assert_eq!((got.kind, got.sector, &got.segments[..]), (Kind::Flush, 0, &[][..]));
    bench.complete(got.token, Status::Ok);
    assert_eq!((bench.status(), bench.ring.used(&bench.ram)), (0, Some((0, 1))));
}

#[test]
fn the_serial_number_is_told_as_far_as_there_is_room() {
    let mut bench = Bench::plain();
    put(&bench.ram, DATA, &[0xaa; 24]);
    assert_eq!(bench.answer(8, 0, &[], &[(DATA, 24)]), 0);
    assert_eq!(&get::<24>(&bench.ram, DATA), b"disk 0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\xaa\xaa\xaa\xaa");
    put(&bench.ram, DATA, &[0xaa; 24]);
    assert_eq!(bench.answer(8, 0, &[], &[(DATA, 3)]), 0);
    assert_eq!(&get::<4>(&bench.ram, DATA), b"dis\xaa");
}

#[test]
fn ranges_to_discard_and_to_clear_are_checked() {
    let mut bench = Bench::new(
        Disk { discard: true, write_zeroes: true, ..disk() },
        feature::DISCARD | feature::WRITE_ZEROES,
    );
    let range = |bench: &Bench, sector: u64, sectors: u32, flags: u32| {
        put(&bench.ram, DATA, &sector.to_le_bytes());
        put(&bench.ram, DATA + 8, &sectors.to_le_bytes());
        put(&bench.ram, DATA + 12, &flags.to_le_bytes());
    };
    let data = [(DATA, 16)];
    for (sector, sectors, flags, status) in [
        (SECTORS, 1, 0, 1),
        (u64::MAX, 1, 0, 1),
        (u64::MAX - 1, u32::MAX, 0, 1),
        (0, MAX_DISCARD_SECTORS + 1, 0, 1),
        (0, 1, 2, 2),
        (0, 1, u32::MAX, 2),
    ] {
        range(&bench, sector, sectors, flags);
        assert_eq!(bench.answer(11, 0, &data, &[]), status);
        assert_eq!(bench.answer(13, 0, &data, &[]), status);
    }
    range(&bench, 8, 16, 1);
    assert_eq!(bench.answer(11, 0, &data, &[]), 2, "unmap is for zeroes");
    assert_eq!(bench.answer(13, 0, &[(DATA, 15)], &[]), 1);
    assert_eq!(bench.answer(13, 0, &[(DATA, 32)], &[]), 2);
    bench.offer(0, 13, 0, &data, &[]);
    let got = bench.next().unwrap();
    assert_eq!((got.kind, got.sector), (Kind::WriteZeroes { sectors: 16, unmap: true }, 8));
    range(&bench, 8, MAX_DISCARD_SECTORS, 0);
    bench.offer(10, 11, 0, &data, &[]);
    assert_eq!(bench.next().unwrap().kind, Kind::Discard { sectors: MAX_DISCARD_SECTORS.into() });
}

/// Overlapping buffers, for there is little RAM here.
fn large() -> Vec<(u64, u32)> {
    vec![(DATA, 1 << 20), (DATA + 512, (1 << 21) - 512), (DATA + 4, 1024), (DATA, 1 << 20)]
}

#[test]
fn a_chain_without_room_for_header_or_status_breaks_the_device() {
    for (readable, writable) in [
        (&[(HEADER, 15)][..], &[(STATUS, 1)][..]),
        (&[], &[(STATUS, 1)]),
        (&[(HEADER, 16), (DATA, 512)], &[]),
    ] {
        let mut bench = Bench::plain();
        bench.header(IN, 0);
        bench.ring.offer_chain(&bench.ram, 0, readable, writable);
        assert_eq!(bench.next(), None);
        assert!(bench.is_broken() && bench.slot.irq_level());
        assert_eq!(read(&bench.slot, 0x60), 3, "a change of configuration, as on QEMU");
        assert_eq!(bench.ring.used(&bench.ram), None);
    }
}

#[test]
fn a_chain_that_is_offered_while_it_is_in_flight_breaks_the_device() {
    let mut bench = Bench::plain();
    bench.offer(0, IN, 0, &[], &[(DATA, 512)]);
    let got = bench.next().unwrap();
    bench.ring.offer(&bench.ram, 0);
    assert_eq!(bench.next(), None);
    assert!(bench.is_broken());
    bench.complete(got.token, Status::Ok);
    assert_eq!((bench.status(), bench.slot.in_flight()), (0xff, 0), "the driver gets nothing more");
}

/// *drained-reset*
#[test]
fn a_reset_waits_for_what_is_in_flight_and_takes_nothing_more() {
    let mut bench = Bench::plain();
    bench.offer(0, IN, 0, &[], &[(DATA, 512)]);
    bench.offer(10, IN, 0, &[], &[(DATA, 512)]);
    let got = bench.next().unwrap();
    for (register, value) in [(0x70, 0), (0x44, 0)] {
        assert_eq!(write(&mut bench.slot, register, value), Effect::Draining);
        assert_eq!((read(&bench.slot, 0x70), read(&bench.slot, 0x44)), (15, 1));
    }
    assert_eq!(bench.next(), None);
    assert!(!bench.slot.is_broken());
    bench.complete(got.token, Status::Ok);
    assert_eq!(bench.ring.used(&bench.ram), Some((0, 513)));
    assert_eq!(write(&mut bench.slot, 0x70, 0), Effect::Reset);
    assert_eq!((read(&bench.slot, 0x70), read(&bench.slot, 0x44)), (0, 0));
    assert!(!bench.slot.irq_level());
}

#[test]
fn a_reset_drops_parts_that_nobody_has_yet() {
    for taken in 0..3 {
        let mut bench = Bench::plain();
        bench.offer(0, IN, 0, &[], &large());
        let tokens: Vec<_> = (0..1 + taken).filter_map(|_| bench.next()).map(|part| part.token).collect();
        for token in &tokens[1..] {
            bench.complete(*token, Status::Ok);
        }
        assert_eq!(write(&mut bench.slot, 0x70, 0), Effect::Draining);
        bench.complete(tokens[0], Status::Ok);
        assert_eq!(write(&mut bench.slot, 0x70, 0), Effect::Reset);
    }
    let mut bench = Bench::plain();
    bench.offer(0, IN, 0, &[], &large());
    let token = bench.next().unwrap().token;
    bench.complete(token, Status::Ok);
    assert_eq!(bench.slot.in_flight(), 1);
    assert_eq!(write(&mut bench.slot, 0x70, 0), Effect::Reset);
    assert_eq!(bench.slot.in_flight(), 0);
}

#[test]
fn what_was_in_flight_when_the_board_was_reset_touches_nothing() {
    let mut bench = Bench::plain();
    bench.offer(0, IN, 0, &[], &[(DATA, 512)]);
    let old = bench.next().unwrap();
    bench.slot.reset();
    assert_eq!(bench.slot.in_flight(), 0);
    put(&bench.ram, RAM, &[0; 0x4000]);
    bench.ring = bring_up(&mut bench.slot, VERSION_1, 1, 128).remove(0);
    bench.offer(0, IN, 0, &[], &[(DATA, 512)]);
    let new = bench.next().unwrap();
    assert_ne!(old.token, new.token);
    bench.complete(old.token, Status::Ok);
    assert_eq!((bench.status(), bench.ring.used(&bench.ram)), (0xff, None));
    bench.complete(new.token, Status::Ok);
    assert_eq!((bench.status(), bench.ring.used(&bench.ram)), (0, Some((0, 513))));
}

#[test]
fn the_configuration_says_what_the_disk_is() {
    let bench = Bench::new(Disk { discard: true, write_zeroes: true, ..disk() }, 0);
    let word = |offset: u64| read(&bench.slot, 0x100 + offset);
    assert_eq!((word(0), word(4), word(12), word(20)), (SECTORS as u32, 0, 254, 512));
    assert_eq!((word(36), word(40), word(44)), (MAX_DISCARD_SECTORS, 1, 1));
    assert_eq!((word(48), word(52), word(56)), (MAX_DISCARD_SECTORS, 1, 1));
    assert_eq!(word(60), u32::MAX, "beyond its end");
}

#[test]
fn one_call_answers_a_bounded_number_of_requests() {
    let mut bench = Bench::plain();
    bench.header(99, 0);
    for n in (0..128u16).step_by(2) {
        bench.ring.offer_chain(&bench.ram, n, &[(HEADER, 16)], &[(STATUS, 1)]);
    }
    let mut answered = Vec::new();
    while bench.has_requests() {
        assert_eq!(bench.next(), None);
        answered.push(core::iter::from_fn(|| bench.ring.used(&bench.ram)).count());
    }
    assert_eq!(answered, [BATCH; 64 / BATCH]);
    assert!(!bench.is_broken());
}
