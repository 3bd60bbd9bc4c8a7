//! The same driver on our disk and on QEMU's, whose registers, rings and answers are compared.
//!
//! Left out, because we differ on purpose: how long a queue may be and how many buffers a request may have, features that
//! we do not have, that QEMU accepts drivers that do not know version 1, that a change of its configuration is always an
//! interrupt for a used buffer, too, and that it says of a read that failed that everything was written.

use std::sync::atomic::AtomicU64;

use devices::virtio::Slot;
use devices::virtio::block::{Block, Disk, Kind, Status};
use devices::{Board, BoardTime};
use isa::Width;
use memory::{BLOCK_SIZE, GuestPhysAddr, GuestRam, HostPhysAddr};

use crate::Qemu;

const DISK: u64 = 0x1000_1000;
const TABLE: u64 = 0x8000_0000;
const AVAILABLE: u64 = TABLE + 0x1000;
const USED: u64 = TABLE + 0x2000;
const HEADER: u64 = TABLE + 0x3000;
const STATUS: u64 = TABLE + 0x3100;
const DATA: u64 = TABLE + 0x4000;
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
    offered: u16,
}

impl Both {
    fn new() -> Self {
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
            "virtio-mmio.force-legacy=false",
            "-drive",
            "if=none,id=disk,driver=null-co,size=1M,read-zeroes=on,discard=unmap",
            "-device",
            "virtio-blk-device,drive=disk,serial=serial,bus=virtio-mmio-bus.0",
        ]);
        let ram = GuestRam::new(words.leak(), GuestPhysAddr(TABLE), HostPhysAddr(0x4000_0000), Vec::new());
        Self { qemu, board: Board::new(1, 0, vec![Slot::Block(Block::new(disk))]), ram, offered: 0 }
    }

    fn ours(&mut self, offset: u64, width: Width) -> u64 {
        self.board.read(GuestPhysAddr(DISK + offset), width, BoardTime(0)).unwrap()
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
        self.board.serve(0, |slot| {
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
        self.put(AVAILABLE, &[0; 4]);
        self.put(USED, &[0; 4]);
        self.offered = 0;
        self.write(0x70, 0);
        assert_eq!((self.same(0x70), self.same(0x44), self.same(0x60)), (0, 0, 0));
        for (offset, value) in [(0x70, 1), (0x70, 3), (0x24, 0), (0x20, 1 << 28 | 1 << 14 | 1 << 13 | 1 << 9)]
        {
            self.write(offset, value);
            self.same(0x70);
        }
        for (offset, value) in [
            (0x24, 1),
            (0x20, 1),
            (0x70, 11),
            (0x30, 0),
            (0x38, SIZE.into()),
            (0x80, TABLE),
            (0x90, AVAILABLE),
            (0xa0, USED),
        ] {
            self.write(offset, value);
        }
        assert_eq!((self.same(0x70), self.same(0x44)), (11, 0));
        self.write(0x44, 1);
        self.write(0x70, 15);
        assert_eq!((self.same(0x70), self.same(0x44), self.same(0x60)), (15, 1, 0));
    }

    /// Makes `head` available, kicks, and waits until QEMU has answered or is broken.
    fn offer(&mut self, head: u16) {
        let slot = u64::from(self.offered % SIZE);
        self.put(AVAILABLE + 4 + 2 * slot, &head.to_le_bytes());
        self.advance(1);
    }

    fn advance(&mut self, by: u16) {
        self.offered = self.offered.wrapping_add(by);
        self.put(AVAILABLE + 2, &self.offered.to_le_bytes());
        self.write(0x50, 0);
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
        self.descriptor(0, (HEADER, 16), NEXT, 1);
        match (out, inward) {
            (Some(len), _) => self.descriptor(1, (DATA, len), NEXT, 2),
            (None, Some(len)) => self.descriptor(1, (DATA, len), NEXT | WRITE, 2),
            (None, None) => self.descriptor(0, (HEADER, 16), NEXT, 2),
        }
        self.descriptor(2, (STATUS, 1), WRITE, 0);
        self.offer(0);
        assert_eq!((self.same(0x70), self.same(0x60)), (15, 1));
        self.write(0x64, 1);
        self.same(0x60);
        let status = self.same_memory(STATUS);
        // The used ring's index, and its last entry.
        let entry = USED + 4 + 8 * u64::from((self.offered - 1) % SIZE);
        let written = if status == 0 { 8 } else { 4 };
        for address in (USED..USED + 4).chain(entry..entry + written) {
            self.same_memory(address);
        }
        status
    }
}

#[test]
fn a_disk_shows_itself_as_on_qemu() {
    let mut both = Both::new();
    for offset in [0, 4, 8, 12, 0x44, 0x60, 0x70, 0xfc, 0x18, 0x3c, 0x50, 0x64, 0xb0, 0xb4] {
        both.same(offset);
    }
    for width in [Width::Byte, Width::Half] {
        assert_eq!(both.same_wide(0, width), 0);
    }
    both.same_wide(0, Width::Double);
    // What we offer QEMU offers, too.
    for half in [0, 1] {
        both.write(0x14, half);
        let (ours, theirs) = (both.ours(0x10, Width::Word), both.qemu.read(DISK + 0x10, Width::Word));
        assert_eq!(ours & !theirs, 0, "half {half}");
    }
    // Capacity, size of a block, and the ends.
    for offset in [0x100, 0x104, 0x108, 0x114, 0x1f8] {
        both.same(offset);
        both.same_wide(offset, Width::Half);
        both.same_wide(offset + 1, Width::Byte);
    }
    both.write(0x30, 1);
    for queue in [1, 5] {
        both.write(0x30, queue);
        both.same(0x44);
    }
    both.bring_up();
}

#[test]
fn requests_are_answered_as_on_qemu() {
    let mut both = Both::new();
    both.bring_up();
    let mut answers = Vec::new();
    for (kind, sector, out, inward) in [
        (0, 0, None, Some(512)),
        (0, SECTORS - 2, None, Some(1024)),
        (0, SECTORS - 1, None, Some(1024)),
        (0, SECTORS, None, Some(512)),
        (0, u64::MAX, None, Some(512)),
        (0, 0, None, Some(500)),
        (1, 5, Some(512), None),
        (1, SECTORS, Some(512), None),
        (4, 0, None, None),
        (8, 0, None, Some(20)),
        (99, 0, None, Some(20)),
        (11, 0, Some(32), None),
    ] {
        answers.push(both.ask(kind, sector, out, inward));
    }
    assert_eq!(answers, [0, 0, 1, 1, 1, 1, 0, 1, 0, 0, 2, 2]);
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

#[test]
fn rings_that_break_a_disk_break_qemus() {
    let mut both = Both::new();
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
    for (name, break_it) in wrong {
        both.bring_up();
        break_it(&mut both);
        assert_eq!(both.same(0x70), 0x4f, "{name}");
        assert_eq!(
            (both.ours(0x60, Width::Word), both.qemu.read(DISK + 0x60, Width::Word) & 2),
            (2, 2),
            "{name}"
        );
        assert_eq!((both.same_memory(USED + 2), both.same_memory(USED + 3)), (0, 0), "{name}");
    }
    both.bring_up();
    assert_eq!(both.ask(0, 0, None, Some(512)), 0, "after all that");
}
