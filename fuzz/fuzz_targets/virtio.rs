//! Virtio devices: a driver that writes anything to registers and to the memory where its rings are.
#![no_main]

use std::sync::OnceLock;
use std::sync::atomic::AtomicU64;

use devices::virtio::{Slot, Version};
use devices::virtio::block::{Block, Disk, Kind, MAX_BYTES, Status, Token};
use devices::virtio::console::Console;
use devices::virtio::entropy::Entropy;
use devices::virtio::net::{MAX_FRAME, Net};
use devices::{Board, BoardTime, SlotId};
use isa::Width;
use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;
use memory::{BLOCK_SIZE, GuestPhysAddr, GuestRam, HostPhysAddr};

const RAM: u64 = 0x8000_0000;
const SECTORS: u64 = 1000;
const DEVICES: u64 = 4;

#[derive(Arbitrary, Debug)]
enum Step {
    /// Into the first 64 KiB of RAM.
    Memory(u16, u64),
    Descriptor(u16, u8, Descriptor),
    Register(u8, u8, u32),
    /// Queue, and where in RAM it is, in pages: table, available and used ring.
    BringUp(u8, u8, [u8; 3]),
    Serve(u8),
    Complete(u8, bool),
    Receive(u16),
    Reset,
}

#[derive(Arbitrary, Debug)]
struct Descriptor {
    address: u16,
    len: u16,
    flags: u8,
    next: u8,
}

fuzz_target!(|input: (bool, Vec<Step>)| {
    let (is_legacy, steps) = input;
    static MEMORY: OnceLock<Vec<AtomicU64>> = OnceLock::new();
    let words = MEMORY.get_or_init(|| (0..BLOCK_SIZE / 8).map(|_| AtomicU64::new(0)).collect());
    let ram = GuestRam::new(words, GuestPhysAddr(RAM), HostPhysAddr(0x4000_0000), Vec::new());
    let disk = Disk { sectors: SECTORS, discard: true, write_zeroes: true, ..Disk::default() };
    let slots = vec![
        Slot::Block(Block::new(disk)),
        Slot::Net(Net::new([2, 0, 0, 0, 0, 1])),
        Slot::Console(Console::new(None)),
        Slot::Entropy(Entropy::new()),
    ];
    let version = if is_legacy { Version::Legacy } else { Version::Modern };
    let mut board = Board::new(1, 0, slots).with_virtio(version);
    let mut taken = Vec::new();
    for step in steps {
        match step {
            Step::Memory(at, value) => ram.write(GuestPhysAddr(RAM + u64::from(at)), &value.to_le_bytes()).unwrap(),
            Step::Descriptor(at, index, Descriptor { address, len, flags, next }) => {
                let mut bytes = [0; 16];
                bytes[..8].copy_from_slice(&(RAM + u64::from(address)).to_le_bytes());
                bytes[8..10].copy_from_slice(&len.to_le_bytes());
                bytes[12..].copy_from_slice(&[flags % 8, 0, next % 8, 0]);
                let at = u64::from(at & !15) + 16 * u64::from(index % 8);
                ram.write(GuestPhysAddr(RAM + at), &bytes).unwrap();
            }
            Step::Register(slot, register, value) => write(&mut board, slot, 4 * u64::from(register), value),
            Step::BringUp(slot, queue, [table, available, used]) => {
                let page = |number: u8| RAM as u32 + 0x1000 * u32::from(number % 16);
                for (offset, value) in [
                    (0x70, 0),
                    (0x70, 3),
                    (0x24, 0),
                    (0x20, 3 << 28),
                    (0x24, 1),
                    (0x20, 1),
                    (0x70, 11),
                    (0x30, u32::from(queue % 2)),
                    (0x38, 8),
                    (0x80, page(table)),
                    (0x90, page(available)),
                    (0xa0, page(used)),
                    (0x44, 1),
                    // And what a legacy transport has in place of these.
                    (0x28, 4096),
                    (0x3c, 16 << (available % 16)),
                    (0x40, page(table) >> 12),
                    (0x70, 15),
                ] {
                    write(&mut board, slot, offset, value);
                }
            }
            Step::Serve(slot) => serve(&mut board, &ram, usize::from(slot) % 4, &mut taken),
            Step::Complete(which, fails) if !taken.is_empty() => {
                let token = taken.swap_remove(usize::from(which) % taken.len());
                complete(&mut board, &ram, token, if fails { Status::IoErr } else { Status::Ok });
            }
            Step::Complete(..) => {}
            Step::Receive(len) => {
                let bytes = vec![0xbb; usize::from(len) % (MAX_FRAME + 1)];
                board.serve(at(1), |slot| {
                    let Slot::Net(net) = slot else { unreachable!() };
                    let _ = net.receive(&ram, &bytes);
                });
                board.serve(at(2), |slot| {
                    let Slot::Console(console) = slot else { unreachable!() };
                    assert!(console.input(&ram, &bytes) <= bytes.len());
                });
            }
            Step::Reset => {
                board.reset();
                assert_eq!(board.in_flight(), 0);
            }
        }
    }
    for token in taken {
        complete(&mut board, &ram, token, Status::Ok);
    }
    // Parts that nobody has taken are dropped by the reset.
    write(&mut board, 0, 0x70, 0);
    assert_eq!(board.in_flight(), 0, "a request was lost");
});

/// One of the board's slots.
fn at(slot: usize) -> SlotId {
    SlotId::new(slot).unwrap()
}

fn write(board: &mut Board, slot: u8, offset: u64, value: u32) {
    let address = GuestPhysAddr(0x1000_1000 + 0x1000 * (u64::from(slot) % DEVICES) + offset % 0x200);
    let _ = board.write(address, Width::Word, value.into(), BoardTime(0));
}

fn complete(board: &mut Board, ram: &GuestRam, token: Token, status: Status) {
    board.serve(at(0), |slot| {
        let Slot::Block(block) = slot else { unreachable!() };
        block.complete(ram, token, status);
    });
}

fn serve(board: &mut Board, ram: &GuestRam, slot: usize, taken: &mut Vec<Token>) {
    board.serve(at(slot), |slot| match slot {
        Slot::Empty(_) => {}
        Slot::Block(block) => {
            let Some(request) = block.next_request(ram) else { return };
            let bytes: u64 = request.segments.iter().map(|segment| u64::from(segment.len)).sum();
            let in_ram = |s: &devices::virtio::Segment| s.len > 0 && ram.contains(s.address, s.len.into());
            assert!(request.segments.iter().all(in_ram) && bytes <= MAX_BYTES && bytes % 512 == 0);
            let sectors = match request.kind {
                Kind::Discard { sectors } | Kind::WriteZeroes { sectors, .. } => sectors,
                _ => bytes / 512,
            };
            assert!(request.sector + sectors <= SECTORS);
            taken.push(request.token);
        }
        Slot::Net(net) => {
            if let Some(len) = net.transmit(ram, &mut [0; MAX_FRAME]) {
                assert!((14..=MAX_FRAME).contains(&len));
            }
        }
        Slot::Console(console) => console.output(ram, |bytes| bytes.len() / 2 + 1),
        Slot::Entropy(source) => source.serve(ram, |bytes| bytes.fill(0xdd)),
    });
}
