//! The same driver on our disk and on QEMU's, legacy and modern, whose registers, rings and answers are compared.
//!
//! Left out, because we differ on purpose: features that we do not have, and that QEMU looks for a queue in RAM when a
//! driver says where it is, not when it is used for the first time.

use std::sync::atomic::AtomicU64;

use devices::virtio::block::{Block, Disk, Kind, Status};
use devices::virtio::{Slot, Version};
use devices::{Board, BoardTime, SlotId};
use isa::Width;
use memory::{BLOCK_SIZE, GuestPhysAddr, GuestRam, HostPhysAddr};

use proptest::prelude::*;

use crate::Qemu;

const DISK: u64 = 0x1000_1000;
const TABLE: u64 = 0x8000_0000;
/// Behind the rings of the longest queue.
const HEADER: u64 = TABLE + 0x1_0000;
const STATUS: u64 = TABLE + 0x1_0100;
const DATA: u64 = TABLE + 0x1_1000;
const SIZE: u16 = 8;
const SECTORS: u64 = 2048;

const NEXT: u16 = 1;
const WRITE: u16 = 2;
const INDIRECT: u16 = 4;

/// Our board and RAM beside QEMU's.
struct Both {
    qemu: Qemu,
    board: Board,
    ram: GuestRam,
    version: Version,
    /// Where the rings are, and how many entries they have.
    available: u64,
    used: u64,
    size: u16,
    offered: u16,
}

/// Both transports.
const VERSIONS: [Version; 2] = [Version::Legacy, Version::Modern];

impl Both {
    fn new(version: Version) -> Self {
        let disk = Disk {
            sectors: SECTORS,
            discard: true,
            write_zeroes: true,
            serial: *b"serial\0\0\0\0\0\0\0\0\0\0\0\0\0\0",
            ..Disk::default()
        };
        let words: Vec<_> = (0..BLOCK_SIZE / 8).map(|_| AtomicU64::new(0)).collect();
        let qemu = Qemu::with(&[
            "-global",
            if version == Version::Legacy {
                "virtio-mmio.force-legacy=true"
            } else {
                "virtio-mmio.force-legacy=false"
            },
            "-drive",
            "if=none,id=disk,driver=null-co,size=1M,read-zeroes=on,discard=unmap",
            "-device",
            "virtio-blk-device,drive=disk,serial=serial,bus=virtio-mmio-bus.0",
        ]);
        let ram = GuestRam::new(words.leak(), GuestPhysAddr(TABLE), HostPhysAddr(0x4000_0000), Vec::new());
        let board = Board::new(1, 0, vec![Slot::Block(Block::new(disk))]).with_virtio(version);
        Self { qemu, board, ram, version, available: 0, used: 0, size: SIZE, offered: 0 }
    }

    fn ours(&mut self, offset: u64, width: Width) -> u64 {
        self.board.read(GuestPhysAddr(DISK + offset), width, BoardTime(0)).unwrap().value
    }

    #[track_caller]
    fn same_wide(&mut self, offset: u64, width: Width) -> u64 {
        let (ours, theirs) = (self.ours(offset, width), self.qemu.read(DISK + offset, width));
        assert_eq!(ours, theirs, "register {offset:#x}, {width:?}");
        ours
    }

    /// A register, the same on both.
    #[track_caller]
    fn same(&mut self, offset: u64) -> u64 {
        self.same_wide(offset, Width::Word)
    }

    fn write(&mut self, offset: u64, value: u64) {
        self.qemu.write(DISK + offset, Width::Word, value);
        let _ = self.board.write(GuestPhysAddr(DISK + offset), Width::Word, value, BoardTime(0)).unwrap();
        let ram = &self.ram;
        // A disk of zeros that forgets what is written.
        self.board.serve(SlotId::new(0).unwrap(), |slot| {
            let Slot::Block(block) = slot else { panic!("a disk") };
            while let Some(request) = block.next_request(ram) {
                if request.kind == Kind::Read {
                    let zeros = |len| vec![0; len as usize];
                    let segments = request.segments.iter();
                    segments.for_each(|s| ram.device_write(s.address, &zeros(s.len)).unwrap());
                }
                let token = request.token;
                block.complete(ram, token, Status::Ok);
            }
        });
    }

    fn put(&mut self, address: u64, bytes: &[u8]) {
        self.ram.write(GuestPhysAddr(address), bytes).unwrap();
        for (n, byte) in bytes.iter().enumerate() {
            self.qemu.write(address + n as u64, Width::Byte, (*byte).into());
        }
    }

    fn descriptor(&mut self, index: u16, (address, len): (u64, u32), flags: u16, next: u16) {
        self.descriptor_in(TABLE, index, (address, len), flags, next);
    }

    fn descriptor_in(&mut self, table: u64, index: u16, (address, len): (u64, u32), flags: u16, next: u16) {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&address.to_le_bytes());
        bytes[8..12].copy_from_slice(&len.to_le_bytes());
        bytes[12..14].copy_from_slice(&flags.to_le_bytes());
        bytes[14..].copy_from_slice(&next.to_le_bytes());
        self.put(table + 16 * u64::from(index), &bytes);
    }

    /// A reset, and the way to a disk that runs.
    fn bring_up(&mut self) {
        self.set_up(SIZE, TABLE, 4096);
        let features_ok = if self.version == Version::Modern { 8 } else { 0 };
        self.write(0x70, 7 | features_ok);
        assert_eq!((self.same(0x70), self.same(0x60)), (7 | features_ok, 0));
    }

    /// A reset, and the way to a disk with a queue of `size` descriptors at `table`, whose driver has not said that it is
    /// ready. `align` is that of the used ring.
    fn set_up(&mut self, size: u16, table: u64, align: u64) {
        self.available = table + 16 * u64::from(size);
        self.used = (self.available + 4 + 2 * u64::from(size)).next_multiple_of(align);
        self.size = size;
        self.offered = 0;
        self.write(0x70, 0);
        self.put(self.available, &[0; 4]);
        self.put(self.used, &[0; 4]);
        assert_eq!((self.same(0x70), self.same(0x40), self.same(0x44), self.same(0x60)), (0, 0, 0, 0));
        for (offset, value) in [(0x70, 1), (0x70, 3), (0x24, 0), (0x20, 1 << 28 | 1 << 14 | 1 << 13 | 1 << 9)]
        {
            self.write(offset, value);
            self.same(0x70);
        }
        match self.version {
            Version::Legacy => {
                // A page size that gives the place to the byte.
                for (offset, value) in
                    [(0x28, 1), (0x30, 0), (0x38, size.into()), (0x3c, align), (0x40, table)]
                {
                    self.write(offset, value);
                }
                assert_eq!(self.same(0x40), table);
            }
            Version::Modern => {
                for (offset, value) in [
                    (0x24, 1),
                    (0x20, 1),
                    (0x70, 11),
                    (0x30, 0),
                    (0x38, size.into()),
                    (0x80, table),
                    (0x90, self.available),
                    (0xa0, self.used),
                ] {
                    self.write(offset, value);
                }
                assert_eq!((self.same(0x70), self.same(0x44)), (11, 0));
                self.write(0x44, 1);
                assert_eq!(self.same(0x44), 1);
            }
        }
    }

    /// Makes `head` available and kicks.
    fn offer(&mut self, head: u16) {
        let slot = u64::from(self.offered % self.size);
        self.put(self.available + 4 + 2 * slot, &head.to_le_bytes());
        self.advance(1);
    }

    fn advance(&mut self, by: u16) {
        self.offered = self.offered.wrapping_add(by);
        self.put(self.available + 2, &self.offered.to_le_bytes());
        self.write(0x50, 0);
    }

    /// Waits until QEMU has answered.
    fn wait(&mut self) {
        for _ in 0..1000 {
            if self.qemu.read(DISK + 0x60, Width::Word) != 0 {
                return;
            }
        }
        panic!("QEMU does nothing");
    }

    /// What lies in guest memory, the same on both.
    #[track_caller]
    fn same_memory(&mut self, address: u64) -> u64 {
        let mut byte = [0];
        self.ram.read(GuestPhysAddr(address), &mut byte).unwrap();
        assert_eq!(u64::from(byte[0]), self.qemu.read(address, Width::Byte), "memory at {address:#x}");
        byte[0].into()
    }

    /// Asks for something; the answer, the same on both.
    #[track_caller]
    fn ask(&mut self, kind: u32, sector: u64, out: Option<u32>, inward: Option<u32>) -> u64 {
        let mut header = [0; 16];
        header[..4].copy_from_slice(&kind.to_le_bytes());
        header[8..].copy_from_slice(&sector.to_le_bytes());
        self.put(HEADER, &header);
        self.put(STATUS, &[0xff]);
        let table = self.available - 16 * u64::from(self.size);
        self.descriptor_in(table, 0, (HEADER, 16), NEXT, 1);
        match (out, inward) {
            (Some(len), _) => self.descriptor_in(table, 1, (DATA, len), NEXT, 2),
            (None, Some(len)) => self.descriptor_in(table, 1, (DATA, len), NEXT | WRITE, 2),
            (None, None) => self.descriptor_in(table, 0, (HEADER, 16), NEXT, 2),
        }
        self.descriptor_in(table, 2, (STATUS, 1), WRITE, 0);
        self.offer(0);
        self.wait();
        self.same(0x70);
        assert_eq!(self.same(0x60), 1);
        self.write(0x64, 1);
        self.same(0x60);
        let status = self.same_memory(STATUS);
        // The used ring's index, and its last entry.
        let entry = self.used + 4 + 8 * u64::from((self.offered - 1) % self.size);
        for address in (self.used..self.used + 4).chain(entry..entry + 8) {
            self.same_memory(address);
        }
        status
    }
}

#[test]
fn a_disk_shows_itself_as_on_qemu() {
    for version in VERSIONS {
        let mut both = Both::new(version);
        for offset in (0..0x10).chain(0x14..0x100).step_by(4) {
            both.same(offset);
        }
        for width in [Width::Byte, Width::Half] {
            assert_eq!(both.same_wide(0, width), 0);
        }
        both.same_wide(0, Width::Double);
        // What we offer QEMU offers, too.
        for half in [0, 1, 2] {
            both.write(0x14, half);
            let (ours, theirs) = (both.ours(0x10, Width::Word), both.qemu.read(DISK + 0x10, Width::Word));
            assert_eq!(ours & !theirs, 0, "half {half}");
            assert_eq!(ours & 1, theirs & 1, "version 1, or none");
        }
        // Capacity, buffers of a request, size of a block, and the ends.
        for offset in [0x100, 0x104, 0x108, 0x10c, 0x114, 0x1f8] {
            both.same(offset);
            both.same_wide(offset, Width::Half);
            both.same_wide(offset + 1, Width::Byte);
        }
        for queue in [1, 5, 1024, 0, u64::from(u32::MAX)] {
            both.write(0x30, queue);
            both.same(0x34);
            both.same(0x40);
            both.same(0x44);
        }
        both.bring_up();
    }
}

#[test]
fn requests_are_answered_as_on_qemu() {
    for version in VERSIONS {
        let mut both = Both::new(version);
        both.bring_up();
        let mut answers = Vec::new();
        const BARRIER: u32 = 1 << 31;
        for (kind, sector, out, inward) in [
            (0, 0, None, Some(512)),
            (0, SECTORS - 2, None, Some(1024)),
            (0, SECTORS - 1, None, Some(1024)),
            (0, SECTORS, None, Some(512)),
            (0, u64::MAX, None, Some(512)),
            (0, 0, None, Some(500)),
            (BARRIER, 0, None, Some(512)),
            (1, 5, Some(512), None),
            (1 | BARRIER, 5, Some(512), None),
            (1, SECTORS, Some(512), None),
            (4, 0, None, None),
            (5, 0, None, None),
            (8, 0, None, Some(20)),
            (9, 0, None, Some(20)),
            (99, 0, None, Some(20)),
            (10, 0, Some(16), None),
            (12, 0, Some(16), None),
            (11, 0, Some(32), None),
        ] {
            answers.push(both.ask(kind, sector, out, inward));
        }
        assert_eq!(answers, [0, 0, 1, 1, 1, 1, 0, 0, 0, 1, 0, 0, 0, 0, 2, 2, 2, 2]);
        // Ranges: sectors, number, flags.
        for (sector, sectors, flags, discard, zeroes) in [
            (8u64, 8u32, 0u32, 0, 0),
            (SECTORS, 8, 0, 1, 1),
            (u64::MAX, 1, 0, 1, 1),
            (0, 8, 2, 2, 2),
            (0, 8, 1, 2, 0),
        ] {
            both.put(DATA, &sector.to_le_bytes());
            both.put(DATA + 8, &sectors.to_le_bytes());
            both.put(DATA + 12, &flags.to_le_bytes());
            assert_eq!(both.ask(11, 0, Some(16), None), discard);
            assert_eq!(both.ask(13, 0, Some(16), None), zeroes);
        }
    }
}

/// What was not agreed upon: nothing at all, and then whatever was asked for, not only what was offered.
#[test]
fn a_driver_that_agrees_to_nothing_is_served_as_on_qemu() {
    for (version, features) in VERSIONS.into_iter().flat_map(|version| [(version, 0), (version, !0)]) {
        let mut both = Both::new(version);
        both.set_up(SIZE, TABLE, 4096);
        both.write(0x70, 3);
        for half in [0, 1] {
            both.write(0x24, half);
            // Without the event index, which would have to be in the rings.
            both.write(0x20, features & !(1 << 29) & 0xffff_ffff);
        }
        for status in [11, 15, 4] {
            both.write(0x70, status);
            both.same(0x70);
            assert_eq!(both.ask(0, 0, None, Some(512)), 0);
            assert_eq!(both.ask(4, 0, None, None), 0);
            both.put(DATA, &[0; 16]);
            both.ask(11, 0, Some(16), None);
            both.ask(13, 0, Some(16), None);
        }
    }
}

#[test]
fn a_queue_of_any_size_at_any_place_works_as_on_qemu_before_its_driver_is_ready() {
    for version in VERSIONS {
        let mut both = Both::new(version);
        for (size, table, align) in [
            (8, TABLE, 4096),
            (1024, TABLE, 4096),
            (256, TABLE, 4096),
            (7, TABLE, 16),
            (10, TABLE + 8, 4),
            (10, TABLE + 1, 1),
            (6, TABLE + 3, 48),
            (3, TABLE + 0x2000, 6144),
        ] {
            both.set_up(size, table, align);
            for _ in 0..2 * size.min(12) {
                assert_eq!(both.ask(0, 1, None, Some(512)), 0, "{version:?} {size} {table:#x} {align}");
            }
        }
        // What is no size leaves the queue as long as it is by itself, which is 256 descriptors.
        for size in [0, 1025, 0x1_0008] {
            both.set_up(256, TABLE, 4096);
            both.write(0x38, size);
            for _ in 0..9 {
                assert_eq!(both.ask(0, 1, None, Some(512)), 0);
            }
        }
    }
}

/// Registers that a driver writes in any order and with any values, and then reads.
fn write_anything() -> impl Strategy<Value = (u64, u64)> {
    // Queues are put into RAM alone, and never start to work: nothing is available.
    let place = prop_oneof![Just(TABLE), Just(TABLE + 0x2000), Just(TABLE + 0x7ff0)];
    prop_oneof![
        4 => prop::sample::select(vec![0, 1, 2, 3, 4, 7, 11, 15, 0x80, 0xff, 0x100, 0x4f]).prop_map(|v| (0x70, v)),
        2 => (0..3u64).prop_map(|v| (0x14, v)),
        2 => (0..3u64).prop_map(|v| (0x24, v)),
        2 => any::<u32>().prop_map(|v| (0x20, u64::from(v & !(1 << 29)))),
        2 => prop::sample::select(vec![0, 1, 2, 1023, 1024, 0xffff_ffff]).prop_map(|v| (0x30, v)),
        2 => prop::sample::select(vec![0, 1, 8, 10, 1024, 1025, 0xffff_ffff]).prop_map(|v| (0x38, v)),
        2 => prop::sample::select(vec![1, 0, 3]).prop_map(|v| (0x28, v)),
        1 => prop::sample::select(vec![0, 1, 4, 4096]).prop_map(|v| (0x3c, v)),
        2 => prop_oneof![3 => place.clone(), 1 => Just(0)].prop_map(|v| (0x40, v)),
        2 => (0..3u64).prop_map(|v| (0x44, v)),
        1 => (prop::sample::select(vec![0x80, 0x90, 0xa0]), place),
        1 => prop::sample::select(vec![0x84, 0x94, 0xa4]).prop_map(|offset| (offset, 0)),
        1 => any::<u32>().prop_map(|v| (0x64, v.into())),
        1 => (0..2u64).prop_map(|v| (0x50, v)),
        1 => (0x100..0x13cu64, any::<u32>()).prop_map(|(offset, v)| (offset & !3, v.into())),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(16) })]

    #[test]
    fn registers_read_as_on_qemu_whatever_was_written(
        version in prop::sample::select(VERSIONS.to_vec()),
        steps in prop::collection::vec(write_anything(), 1..120),
    ) {
        let mut both = Both::new(version);
        for (offset, value) in [(0x80, TABLE), (0x90, TABLE + 0x4000), (0xa0, TABLE + 0x5000)] {
            both.write(offset, value);
        }
        for (offset, value) in steps {
            both.write(offset, value);
            for offset in [0x34, 0x40, 0x60, 0x70] {
                both.same(offset);
            }
            // There, a queue that does not exist may be ready.
            if both.same(0x34) != 0 {
                both.same(0x44);
            }
            let (ours, theirs) = (both.ours(0x10, Width::Word), both.qemu.read(DISK + 0x10, Width::Word));
            prop_assert_eq!(ours & !theirs, 0, "other features after {:#x}: {:#x}", offset, value);
        }
    }
}

#[test]
fn rings_that_break_a_disk_break_qemus() {
    type Break = fn(&mut Both);
    let wrong: [(&str, Break); 9] = [
        ("a loop", |both| {
            both.descriptor(0, (HEADER, 16), NEXT, 0);
            both.offer(0);
        }),
        ("a head that is no descriptor", |both| both.offer(SIZE)),
        ("an index too far ahead", |both| both.advance(SIZE + 1)),
        ("an empty buffer", |both| {
            both.descriptor(0, (HEADER, 0), 0, 0);
            both.offer(0);
        }),
        ("a buffer to read behind one to write", |both| {
            both.descriptor(0, (STATUS, 1), NEXT | WRITE, 1);
            both.descriptor(1, (HEADER, 16), 0, 0);
            both.offer(0);
        }),
        ("no status", |both| {
            both.descriptor(0, (HEADER, 16), 0, 0);
            both.offer(0);
        }),
        ("half a header", |both| {
            both.descriptor(0, (HEADER, 8), NEXT, 1);
            both.descriptor(1, (STATUS, 1), WRITE, 0);
            both.offer(0);
        }),
        ("a table in a table", |both| {
            both.descriptor(0, (DATA, 16), INDIRECT, 0);
            both.descriptor_in(DATA, 0, (DATA, 16), INDIRECT, 0);
            both.offer(0);
        }),
        ("half a table", |both| {
            both.descriptor(0, (DATA, 24), INDIRECT, 0);
            both.offer(0);
        }),
    ];
    for version in VERSIONS {
        let mut both = Both::new(version);
        for (name, break_it) in wrong {
            both.bring_up();
            break_it(&mut both);
            // A driver that does not know version 1 is told nothing.
            let told = if version == Version::Modern { (0x4f, 3) } else { (7, 0) };
            assert_eq!((both.same(0x70), both.same(0x60)), told, "{name}");
            assert_eq!((both.same_memory(both.used + 2), both.same_memory(both.used + 3)), (0, 0), "{name}");
            // And it stays so whatever the status says.
            both.write(0x64, 3);
            both.write(0x70, 15);
            both.write(0x50, 0);
            assert_eq!((both.same(0x70), both.same(0x60)), (15, 0), "{name}");
        }
        both.bring_up();
        assert_eq!(both.ask(0, 0, None, Some(512)), 0, "after all that");
    }
}
