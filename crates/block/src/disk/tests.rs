//! Guests' requests against a host disk of bytes, and against what a disk should hold.

use super::work::{COPIED, OPERATION_SECTORS};
use super::*;
use alloc::vec;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering};
use devices::virtio::Segment;
use memory::{BLOCK_SIZE, Extent, GuestPhysAddr, HostPhysAddr};
use proptest::prelude::*;

const GUEST: GuestPhysAddr = GuestPhysAddr(0x8000_0000);
const HOST: HostPhysAddr = HostPhysAddr(0x1_4000_0000);
const ZEROS: HostPhysAddr = HostPhysAddr(0x9000_0000);
/// The host disk, and the guest's part of it.
const HOST_SECTORS: u64 = 400;
const FIRST: u64 = 100;
const SECTORS: u64 = 200;

/// A request that owns its segments.
#[derive(Clone, Debug)]
struct Asked {
    kind: Kind,
    sector: u64,
    segments: Vec<Segment>,
}

impl Asked {
    fn given(&self) -> Request<'_> {
        let Self { kind, sector, ref segments } = *self;
        Request { token: token(sector), kind, sector, segments }
    }
}

/// A guest's RAM, and what the host's disk sees of it.
struct Machine {
    ram: GuestRam,
    words: &'static [AtomicU64],
    disk: Vec<u8>,
    flushes: usize,
}

impl Machine {
    fn new() -> Self {
        let words: &'static [AtomicU64] =
            (0..BLOCK_SIZE / 8).map(|_| AtomicU64::new(0)).collect::<Vec<_>>().leak();
        let ram = GuestRam::new(words, GUEST, HOST, Vec::new());
        let disk = (0..HOST_SECTORS * SECTOR).map(|at| (at / SECTOR * 7 + at % 251) as u8).collect();
        Self { ram, words, disk, flushes: 0 }
    }

    /// Carries out what the disk wants done, as the host's disk would.
    fn carry_out(&mut self, operation: &Operation, abilities: &HostAbilities) {
        assert!(operation.memory.len() <= abilities.segments.min(OPERATION_SEGMENTS));
        let mut at = (operation.sector * SECTOR) as usize;
        let bytes: u64 = operation.memory.iter().map(|piece| piece.size).sum();
        assert!(bytes.is_multiple_of(SECTOR) && bytes <= OPERATION_SECTORS * SECTOR);
        for piece in &operation.memory {
            assert!(piece.size > 0 && piece.size <= u64::from(abilities.segment_size));
            let from_zeros = piece.start >= ZEROS && piece.start < HOST;
            for offset in 0..piece.size {
                if from_zeros {
                    assert_eq!(operation.kind, OperationKind::Write);
                    assert!(piece.end().0 <= ZEROS.0 + abilities.zeros.size);
                    self.disk[at] = 0;
                } else {
                    let place = piece.start.0 + offset - HOST.0;
                    let (word, shift) = (&self.words[(place / 8) as usize], place % 8 * 8);
                    let old = word.load(Ordering::Relaxed);
                    match operation.kind {
                        OperationKind::Read => {
                            let new = u64::from(self.disk[at]) << shift;
                            word.store(old & !(0xff << shift) | new, Ordering::Relaxed);
                        }
                        OperationKind::Write => self.disk[at] = (old >> shift) as u8,
                        _ => panic!("{operation:?} has memory"),
                    }
                }
                at += 1;
            }
        }
        match operation.kind {
            OperationKind::Read | OperationKind::Write => assert!(bytes > 0),
            OperationKind::Flush => self.flushes += 1,
            OperationKind::Discard { sectors } => {
                assert!(sectors > 0 && sectors <= abilities.discard);
                self.disk[at..][..(u64::from(sectors) * SECTOR) as usize].fill(0xdd);
            }
            OperationKind::WriteZeroes { sectors, .. } => {
                assert!(sectors > 0 && sectors <= abilities.write_zeroes);
                self.disk[at..][..(u64::from(sectors) * SECTOR) as usize].fill(0);
            }
        }
    }

    /// Brings a request to its end, with its operations finished in an order that `order` chooses.
    fn run(&mut self, disk: &mut Disk, request: Asked, abilities: &HostAbilities, order: u64) -> Status {
        let token = token(request.sector);
        assert!(disk.accept(&request.given()));
        let mut submitted = Vec::new();
        let mut order = order;
        for _ in 0..100_000 {
            match disk.advance(&self.ram) {
                Step::Worked => continue,
                Step::Submit(operation) => {
                    submitted.push(operation);
                    if order & 1 == 0 {
                        continue;
                    }
                }
                Step::Ended(ended, status) => {
                    assert_eq!((ended, submitted.len()), (token, 0));
                    return status;
                }
                Step::Nothing => assert!(!submitted.is_empty(), "it hangs"),
            }
            order = order.rotate_right(3) ^ 0x5bd1;
            let operation = submitted.swap_remove(order as usize % submitted.len());
            self.carry_out(&operation, abilities);
            if let Some((ended, status)) = disk.finished(&self.ram, operation.tag, Status::Ok) {
                assert_eq!((ended, submitted.len()), (token, 0));
                return status;
            }
        }
        panic!("it never ends")
    }
}

fn abilities() -> HostAbilities {
    HostAbilities {
        segments: 32,
        segment_size: 1 << 20,
        flush: true,
        discard: 1000,
        write_zeroes: 0,
        zeros: Extent::new(ZEROS, 4096),
    }
}

fn part() -> Range {
    Range { first: FIRST, count: SECTORS }
}

fn overlay(sectors: u64) -> Overlay {
    Overlay::new(vec![!0; Overlay::words_for(sectors)].leak(), 77)
}

/// A request whose memory begins at `offset` in guest RAM, in pieces of these lengths.
fn request(kind: Kind, sector: u64, offset: u64, lens: &[u32]) -> Asked {
    let mut at = GUEST.0.wrapping_add(offset);
    let mut segments = Vec::new();
    for len in lens {
        segments.push(Segment { address: GuestPhysAddr(at), len: *len });
        // A gap, so that pieces are not contiguous.
        at = at.wrapping_add(u64::from(*len) + 8);
    }
    Asked { kind, sector, segments }
}

fn token(sector: u64) -> Token {
    Token::from(5 << 16 | u64::from(sector as u16))
}

#[test]
fn a_read_goes_straight_to_the_guests_memory_in_one_operation() {
    let (mut machine, mut disk) = (Machine::new(), Disk::on_host(part(), abilities(), Writes::ToHost));
    assert!(disk.accept(&request(Kind::Read, 3, 0x1000, &[4096]).given()));
    let Step::Submit(operation) = disk.advance(&machine.ram) else { panic!("nothing to submit") };
    assert_eq!((operation.kind, operation.sector), (OperationKind::Read, FIRST + 3));
    assert_eq!(operation.memory[..], [Extent::new(HOST.wrapping_add(0x1000), 4096)]);
    assert_eq!((disk.in_flight(), disk.advance(&machine.ram)), (1, Step::Nothing));
    machine.carry_out(&operation, &abilities());
    assert_eq!(disk.finished(&machine.ram, operation.tag, Status::Ok), Some((token(3), Status::Ok)));
    let mut bytes = [0; 4096];
    machine.ram.read(GUEST.wrapping_add(0x1000), &mut bytes).unwrap();
    assert_eq!(bytes[..], machine.disk[((FIRST + 3) * SECTOR) as usize..][..4096]);
    assert_eq!((disk.in_flight(), disk.counters().sectors_read, disk.is_dirty()), (0, 8, false));
}

#[test]
fn contiguous_pieces_become_one() {
    let (machine, mut disk) = (Machine::new(), Disk::on_host(part(), abilities(), Writes::ToHost));
    let mut request = request(Kind::Write, 0, 0, &[4096]);
    request.segments.push(Segment { address: GuestPhysAddr(GUEST.0 + 4096), len: 8192 });
    assert!(disk.accept(&request.given()));
    let Step::Submit(operation) = disk.advance(&machine.ram) else { panic!("nothing to submit") };
    assert_eq!(operation.memory[..], [Extent::new(HOST, 3 * 4096)]);
}

#[test]
fn what_is_out_of_bounds_or_not_whole_sectors_fails_and_reaches_nobody() {
    let (mut machine, mut disk) = (Machine::new(), Disk::on_host(part(), abilities(), Writes::ToHost));
    let before = machine.disk.clone();
    let discard = |sectors| Kind::Discard { sectors };
    let zero = |sectors| Kind::WriteZeroes { sectors, unmap: false };
    let bad = [
        request(Kind::Read, SECTORS, 0, &[512]),
        request(Kind::Write, SECTORS - 1, 0, &[1024]),
        request(Kind::Write, u64::MAX, 0, &[512]),
        request(Kind::Write, 0, 0, &[511]),
        request(discard(SECTORS + 1), 0, 0, &[]),
        request(discard(u64::MAX), 2, 0, &[]),
        request(zero(1), SECTORS, 0, &[]),
        // Not RAM.
        request(Kind::Read, 0, BLOCK_SIZE - 512, &[1024]),
        request(Kind::Write, 0, u64::MAX - GUEST.0, &[512]),
    ];
    for request in bad {
        assert_eq!(machine.run(&mut disk, request.clone(), &abilities(), 0), Status::IoErr, "{request:?}");
    }
    assert!(machine.disk == before);
    assert_eq!(disk.counters().errors, 9);
    assert!(disk.has_room());
}

#[test]
fn a_readonly_disk_is_read_and_refuses_all_else() {
    let (mut machine, mut disk) = (Machine::new(), Disk::on_host(part(), abilities(), Writes::Refused));
    let before = machine.disk.clone();
    assert!(disk.is_readonly() && !disk.has_discard());
    for kind in [Kind::Write, Kind::Discard { sectors: 1 }, Kind::WriteZeroes { sectors: 1, unmap: true }] {
        let lens: &[u32] = if kind == Kind::Write { &[512] } else { &[] };
        assert_eq!(machine.run(&mut disk, request(kind, 0, 0, lens), &abilities(), 0), Status::IoErr);
    }
    assert_eq!(machine.run(&mut disk, request(Kind::Read, 0, 0, &[512]), &abilities(), 0), Status::Ok);
    assert_eq!(machine.run(&mut disk, request(Kind::Flush, 0, 0, &[]), &abilities(), 0), Status::Ok);
    assert!(machine.disk == before);
}

/// *no-write-lost*
#[test]
fn a_flush_is_handed_on_where_writes_are() {
    let mut machine = Machine::new();
    let mut disk = Disk::on_host(part(), abilities(), Writes::ToHost);
    machine.run(&mut disk, request(Kind::Write, 0, 0, &[512]), &abilities(), 0);
    assert!(disk.is_dirty());
    assert_eq!(machine.run(&mut disk, request(Kind::Flush, 0, 0, &[]), &abilities(), 0), Status::Ok);
    assert_eq!(machine.flushes, 1);
    let mut snapshot = Disk::on_host(part(), abilities(), Writes::Kept);
    snapshot.give_room(overlay(64));
    machine.run(&mut snapshot, request(Kind::Write, 0, 0, &[512]), &abilities(), 0);
    assert_eq!(machine.run(&mut snapshot, request(Kind::Flush, 0, 0, &[]), &abilities(), 0), Status::Ok);
    assert!(!snapshot.is_dirty());
    assert_eq!(machine.flushes, 1);
}

#[test]
fn a_failed_part_fails_the_request_once_all_parts_are_back() {
    let few = HostAbilities { segments: 1, ..abilities() };
    let (machine, mut disk) = (Machine::new(), Disk::on_host(part(), few, Writes::ToHost));
    assert!(disk.accept(&request(Kind::Read, 0, 0, &[512, 512, 512]).given()));
    let (Step::Submit(first), Step::Submit(second)) =
        (disk.advance(&machine.ram), disk.advance(&machine.ram))
    else {
        panic!("not in parts")
    };
    assert_eq!(disk.finished(&machine.ram, first.tag, Status::IoErr), None);
    // The third part is not begun any more.
    assert_eq!(disk.advance(&machine.ram), Step::Nothing);
    assert_eq!(disk.finished(&machine.ram, second.tag, Status::Ok), Some((token(0), Status::IoErr)));
    assert_eq!(disk.finished(&machine.ram, second.tag, Status::Ok), None);
    assert_eq!((disk.in_flight(), disk.counters().errors), (0, 1));
}

#[test]
fn a_guest_has_so_many_operations_under_way_and_no_more() {
    let few = HostAbilities { segments: 1, ..abilities() };
    let (machine, mut disk) = (Machine::new(), Disk::on_host(part(), few, Writes::ToHost));
    assert!(disk.accept(&request(Kind::Read, 0, 0, &[512; 40]).given()));
    let submitted = (0..40).take_while(|_| matches!(disk.advance(&machine.ram), Step::Submit(_))).count();
    assert_eq!(submitted, DEPTH);
    assert_eq!(disk.finished(&machine.ram, 0, Status::Ok), None);
    assert!(matches!(disk.advance(&machine.ram), Step::Submit(_)));
    assert_eq!(disk.advance(&machine.ram), Step::Nothing);
}

#[test]
fn requests_end_in_the_order_that_the_hosts_disk_chooses() {
    let (machine, mut disk) = (Machine::new(), Disk::on_host(part(), abilities(), Writes::ToHost));
    let mut tags = Vec::new();
    for sector in 0..DEPTH as u64 {
        assert!(disk.has_room());
        assert!(disk.accept(&request(Kind::Read, sector, 0x1000 * sector, &[512]).given()));
        let Step::Submit(operation) = disk.advance(&machine.ram) else { panic!("nothing to submit") };
        tags.push((operation.tag, sector));
        assert_eq!(disk.advance(&machine.ram), Step::Nothing);
    }
    assert!(!disk.has_room());
    for (tag, sector) in tags.into_iter().rev() {
        assert_eq!(disk.finished(&machine.ram, tag, Status::Ok), Some((token(sector), Status::Ok)));
    }
    assert_eq!(disk.in_flight(), 0);
}

#[test]
fn a_full_overlay_fails_writes_and_keeps_what_it_has() {
    let (mut machine, mut disk) = (Machine::new(), Disk::on_host(part(), abilities(), Writes::Kept));
    disk.give_room(overlay(16));
    machine.ram.write(GUEST, &[0xab; 8192]).unwrap();
    let write = |sector| request(Kind::Write, sector, 0, &[4096]);
    assert_eq!(machine.run(&mut disk, write(0), &abilities(), 0), Status::Ok);
    assert_eq!(machine.run(&mut disk, write(8), &abilities(), 0), Status::Ok);
    assert_eq!(machine.run(&mut disk, write(64), &abilities(), 0), Status::IoErr);
    assert_eq!((disk.counters().overlay_full, disk.overlay_usage()), (1, Some((8192, 8192))));
    assert_eq!(machine.run(&mut disk, request(Kind::Read, 0, 0x4000, &[8192]), &abilities(), 0), Status::Ok);
    let mut bytes = [0; 8192];
    machine.ram.read(GUEST.wrapping_add(0x4000), &mut bytes).unwrap();
    assert!(bytes.iter().all(|byte| *byte == 0xab));
}

#[test]
fn what_is_abandoned_begins_no_further_part_and_is_over_when_its_parts_are() {
    let few = HostAbilities { segments: 1, ..abilities() };
    let (machine, mut disk) = (Machine::new(), Disk::on_host(part(), few, Writes::ToHost));
    assert!(disk.accept(&request(Kind::Read, 0, 0, &[512, 512, 512]).given()));
    disk.abandon();
    assert_eq!(disk.in_flight(), 0);
    assert!(disk.accept(&request(Kind::Read, 0, 0, &[512, 512, 512]).given()));
    let Step::Submit(first) = disk.advance(&machine.ram) else { panic!("nothing to submit") };
    disk.abandon();
    assert_eq!((disk.advance(&machine.ram), disk.in_flight()), (Step::Nothing, 1));
    assert!(disk.finished(&machine.ram, first.tag, Status::Ok).is_some());
    assert_eq!(disk.in_flight(), 0);
}

#[test]
fn a_large_copy_is_done_in_steps() {
    let words = vec![1; 4096 * SECTOR_WORDS].leak();
    let (machine, mut disk) = (Machine::new(), Disk::of_image(words, true));
    assert!(disk.is_readonly());
    assert!(disk.accept(&request(Kind::Read, 0, 0, &[1 << 20]).given()));
    let steps = (0..1000).take_while(|_| disk.advance(&machine.ram) == Step::Worked).count() as u64;
    assert_eq!(steps, (1 << 20) / SECTOR / COPIED);
    assert!(disk.has_room());
}

#[derive(Clone, Debug)]
struct Act {
    kind: u8,
    sector: u64,
    lens: Vec<u32>,
    count: u64,
    fill: u8,
    order: u64,
}

fn act() -> impl Strategy<Value = Act> {
    let len = prop_oneof![3 => Just(512u32), 2 => Just(4096), 2 => 1u32..1500, 1 => Just(30_000)];
    let parts =
        (0u8..10, 0..SECTORS + 4, prop::collection::vec(len, 1..8), 0u64..40, any::<u8>(), any::<u64>());
    parts.prop_map(|(kind, sector, lens, count, fill, order)| Act { kind, sector, lens, count, fill, order })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(120))]

    /// A disk holds what was written last, whatever it is made of and in whatever pieces requests come.
    #[test]
    fn a_disk_holds_what_was_written_last(
        acts in prop::collection::vec(act(), 1..30),
        segments in 1usize..6,
        segment_size in prop::sample::select(vec![512u32, 1024, 4096, 1 << 20]),
        write_zeroes in prop::sample::select(vec![0u32, 3, 1000]),
        made_of in 0u8..3,
    ) {
        let host = HostAbilities { segments, segment_size, write_zeroes, discard: 7, ..abilities() };
        let mut machine = Machine::new();
        let untouched = machine.disk.clone();
        let part_bytes = (FIRST * SECTOR) as usize..((FIRST + SECTORS) * SECTOR) as usize;
        let mut model = untouched[part_bytes.clone()].to_vec();
        let mut disk = match made_of {
            0 => Disk::on_host(part(), host, Writes::ToHost),
            1 => Disk::on_host(part(), host, Writes::Kept),
            _ => {
                let words = model.as_chunks::<8>().0.iter().map(|bytes| u64::from_le_bytes(*bytes));
                Disk::of_image(words.collect::<Vec<_>>().leak(), false)
            }
        };
        if disk.keeps_writes() {
            disk.give_room(overlay(SECTORS));
        }
        for act in acts {
            let Act { kind, sector, mut lens, count, fill, order } = act;
            let sum: u32 = lens.iter().sum();
            // Mostly whole sectors.
            if fill != 0 {
                lens.push(512 - sum % 512);
            }
            let bytes = u64::from(lens.iter().sum::<u32>());
            let is_whole = bytes.is_multiple_of(SECTOR);
            let inside = sector + bytes / SECTOR <= SECTORS;
            let at = (sector * SECTOR) as usize;
            let request_of = |kind| request(kind, sector, 0, &lens);
            // A sector in more pieces than the host's disk takes cannot be handed on.
            let tiny = lens.len() > segments && lens.iter().any(|len| !len.is_multiple_of(512));
            match kind {
                0..4 => {
                    let mut data = Vec::new();
                    for (segment, n) in request_of(Kind::Read).segments.iter().zip(0u8..) {
                        let piece = vec![fill.wrapping_add(n); segment.len as usize];
                        machine.ram.write(segment.address, &piece).unwrap();
                        data.extend(piece);
                    }
                    let status = machine.run(&mut disk, request_of(Kind::Write), &host, order);
                    if tiny && status == Status::IoErr {
                        // Some of it may have been written.
                        return Ok(());
                    }
                    prop_assert_eq!(status == Status::Ok, is_whole && inside);
                    if status == Status::Ok {
                        model[at..][..data.len()].copy_from_slice(&data);
                    }
                }
                4..8 => {
                    let request = request_of(Kind::Read);
                    let status = machine.run(&mut disk, request.clone(), &host, order);
                    if tiny && status == Status::IoErr {
                        continue;
                    }
                    prop_assert_eq!(status == Status::Ok, is_whole && inside);
                    if status == Status::Ok {
                        let mut expected = &model[at..][..bytes as usize];
                        for segment in &request.segments {
                            let mut piece = vec![0; segment.len as usize];
                            machine.ram.read(segment.address, &mut piece).unwrap();
                            prop_assert_eq!(&piece[..], &expected[..piece.len()]);
                            expected = &expected[piece.len()..];
                        }
                    }
                }
                8 => {
                    let kind = Kind::WriteZeroes { sectors: count, unmap: fill & 1 != 0 };
                    let status = machine.run(&mut disk, request(kind, sector, 0, &[]), &host, order);
                    prop_assert_eq!(status == Status::Ok, sector + count <= SECTORS);
                    if status == Status::Ok {
                        model[at..][..(count * SECTOR) as usize].fill(0);
                    }
                }
                _ => {
                    let kind = Kind::Discard { sectors: count };
                    let status = machine.run(&mut disk, request(kind, sector, 0, &[]), &host, order);
                    prop_assert_eq!(disk.has_discard(), made_of == 0);
                    prop_assert_eq!(status == Status::Ok, made_of == 0 && sector + count <= SECTORS);
                    if status == Status::Ok {
                        model[at..][..(count * SECTOR) as usize].fill(0xdd);
                    }
                }
            }
        }
        prop_assert_eq!(disk.in_flight(), 0);
        // Nothing outside the part was touched, and nothing in it where writes are kept in RAM.
        prop_assert!(machine.disk[..part_bytes.start] == untouched[..part_bytes.start]);
        prop_assert!(machine.disk[part_bytes.end..] == untouched[part_bytes.end..]);
        let expected = if made_of == 0 { &model[..] } else { &untouched[part_bytes.clone()] };
        prop_assert!(machine.disk[part_bytes] == *expected);
    }
}
