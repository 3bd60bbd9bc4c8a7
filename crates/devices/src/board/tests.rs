//! The board's wiring: interrupts from register to hart, requests, and what is refused.

extern crate std;

use std::vec::Vec;

use proptest::prelude::*;

use super::*;
use crate::virtio::block::{Block, Disk, Status, Token};
use crate::virtio::testing::{DATA, VERSION_1, bring_up, ram};
use memory::GuestRam;

const UART: u64 = 0x1000_0000;
const PLIC: u64 = 0x0c00_0000;
const RTC: u64 = 0x0010_1000;
const FINISHER: u64 = 0x0010_0000;

const WALL: u64 = 1_700_000_000_000_000_000;

fn read(board: &mut Board, address: u64, width: Width) -> Result<u64, Refused> {
    board.read(GuestPhysAddr(address), width, BoardTime(0)).map(|loaded| loaded.value)
}

fn write(board: &mut Board, address: u64, width: Width, value: u64) -> Result<Option<BoardEvent>, Refused> {
    board.write(GuestPhysAddr(address), width, value, BoardTime(0))
}

fn write_byte(board: &mut Board, address: u64, value: u64) {
    assert_eq!(write(board, address, Width::Byte, value), Ok(None));
}

fn write_word(board: &mut Board, address: u64, value: u64) {
    assert_eq!(write(board, address, Width::Word, value), Ok(None));
}

/// The claim register of hart 0's S-mode.
const CLAIM: u64 = PLIC + 0x20_1004;

/// A board of two harts with `irq` enabled for the S-mode of hart 0 alone.
fn board_with(irq: u32) -> Board {
    let mut board = Board::new(2, WALL, Vec::new());
    write_word(&mut board, PLIC + 4 * u64::from(irq), 1);
    write_word(&mut board, PLIC + 0x2080, 1 << irq);
    board
}

#[test]
fn a_received_byte_interrupts_the_hart_until_it_is_read() {
    let mut board = board_with(UART_IRQ);
    write_byte(&mut board, UART + 1, 1);
    assert!(!board.external_interrupt(0));
    assert!(board.uart_receive(b'a', BoardTime(0)));
    assert!(board.external_interrupt(0));
    assert!(!board.external_interrupt(1));
    assert_eq!(read(&mut board, CLAIM, Width::Word), Ok(10));
    assert!(!board.external_interrupt(0));
    assert_eq!(read(&mut board, UART, Width::Byte), Ok(b'a'.into()));
    write_word(&mut board, CLAIM, 10);
    assert!(!board.external_interrupt(0));
}

#[test]
fn a_byte_left_unread_interrupts_again_after_completion() {
    let mut board = board_with(UART_IRQ);
    write_byte(&mut board, UART + 1, 1);
    assert!(board.uart_receive(b'a', BoardTime(0)));
    assert_eq!(read(&mut board, CLAIM, Width::Word), Ok(10));
    write_word(&mut board, CLAIM, 10);
    assert!(board.external_interrupt(0));
}

#[test]
fn a_transmit_interrupt_that_is_never_acknowledged_does_not_storm() {
    let mut board = board_with(UART_IRQ);
    write_byte(&mut board, UART + 1, 2);
    assert_eq!(read(&mut board, CLAIM, Width::Word), Ok(10));
    write_word(&mut board, CLAIM, 10);
    assert!(!board.external_interrupt(0));
    write_byte(&mut board, UART, b'x'.into());
    assert!(!board.external_interrupt(0));
    assert_eq!(board.uart_transmit_pending(), b"x");
    board.uart_transmitted(1);
    assert!(board.external_interrupt(0));
}

#[test]
fn a_character_time_out_is_a_deadline_and_interrupts() {
    let mut board = board_with(UART_IRQ);
    write_byte(&mut board, UART + 2, 0x81);
    write_byte(&mut board, UART + 1, 1);
    assert!(board.uart_receive(b'a', BoardTime(0)));
    assert!(!board.external_interrupt(0));
    let due = board.next_deadline().unwrap();
    board.tick(due);
    assert!(board.external_interrupt(0));
    assert_eq!(board.next_deadline(), None);
}

#[test]
fn the_alarm_is_a_deadline_and_interrupts() {
    let mut board = board_with(RTC_IRQ);
    write_word(&mut board, RTC + 0x0c, (WALL + 1000) >> 32);
    write_word(&mut board, RTC + 0x08, (WALL + 1000) & 0xffff_ffff);
    write_word(&mut board, RTC + 0x10, 1);
    assert_eq!(board.next_deadline(), Some(BoardTime(1000)));
    board.tick(BoardTime(999));
    assert!(!board.external_interrupt(0));
    board.tick(BoardTime(1000));
    assert!(board.external_interrupt(0));
    assert_eq!(
        board.read(GuestPhysAddr(CLAIM), Width::Word, BoardTime(1000)),
        Ok(Loaded { value: 11, moves: true })
    );
}

#[test]
fn an_access_after_the_deadline_sees_its_interrupt() {
    let mut board = board_with(RTC_IRQ);
    write_word(&mut board, RTC + 0x0c, (WALL + 1000) >> 32);
    write_word(&mut board, RTC + 0x08, (WALL + 1000) & 0xffff_ffff);
    write_word(&mut board, RTC + 0x10, 1);
    assert_eq!(
        board.read(GuestPhysAddr(CLAIM), Width::Word, BoardTime(5000)),
        Ok(Loaded { value: 11, moves: true })
    );
}

#[test]
fn the_nearer_of_two_deadlines_is_next() {
    let mut board = Board::new(1, 0, Vec::new());
    write_byte(&mut board, UART + 2, 0x81);
    assert!(board.uart_receive(b'a', BoardTime(0)));
    let timeout = board.next_deadline().unwrap();
    write_word(&mut board, RTC + 0x08, timeout.0 + 1);
    assert_eq!(board.next_deadline(), Some(timeout));
    write_word(&mut board, RTC + 0x08, timeout.0 - 1);
    assert_eq!(board.next_deadline(), Some(BoardTime(timeout.0 - 1)));
}

#[test]
fn finisher_writes_become_events() {
    let mut board = Board::new(1, WALL, Vec::new());
    assert_eq!(write(&mut board, FINISHER, Width::Word, 0x5555), Ok(Some(BoardEvent::PowerOff)));
    assert_eq!(write(&mut board, FINISHER, Width::Word, 0x7777), Ok(Some(BoardEvent::Reset)));
    assert_eq!(write(&mut board, FINISHER, Width::Word, 0x7_3333), Ok(Some(BoardEvent::Fail(7))));
    assert_eq!(write(&mut board, FINISHER, Width::Word, 0), Ok(None));
}

#[test]
fn a_full_console_hands_the_write_back() {
    let mut board = Board::new(1, WALL, Vec::new());
    while write(&mut board, UART, Width::Byte, b'x'.into()) == Ok(None) {}
    assert_eq!(write(&mut board, UART, Width::Byte, b'y'.into()), Ok(Some(BoardEvent::ConsoleFull)));
    board.uart_transmitted(usize::MAX);
    assert_eq!(write(&mut board, UART, Width::Byte, b'y'.into()), Ok(None));
    assert_eq!(board.uart_transmit_pending(), b"y");
}

#[test]
fn every_virtio_slot_is_there_and_empty() {
    let mut board = Board::new(1, WALL, Vec::new());
    for slot in 0..8 {
        let base = 0x1000_1000 + 0x1000 * slot;
        let words = [0, 4, 8].map(|offset| read(&mut board, base + offset, Width::Word));
        assert_eq!(words, [Ok(0x7472_6976), Ok(2), Ok(0)]);
        write_word(&mut board, base + 0x70, 1);
    }
}

/// A board with a disk in slot 2, whose interrupt is enabled and whose driver has offered a read of its first sector.
fn board_with_disk(ram: &GuestRam) -> Board {
    let mut board = board_with(3);
    let slots = std::vec![
        Slot::default(),
        Slot::default(),
        Slot::Block(Block::new(Disk { sectors: 1, ..Disk::default() }))
    ];
    board.slots = Board::new(2, WALL, slots).slots;
    board.serve(SLOT, |slot| {
        let mut ring = bring_up(slot, VERSION_1, 1, 8).remove(0);
        // The header is zeros: a read of sector 0.
        ring.offer_chain(ram, 0, &[(DATA, 16)], &[(DATA + 512, 513)]);
    });
    board
}

fn take(board: &mut Board, ram: &GuestRam) -> Option<Token> {
    let disk = board.serve(SLOT, |slot| match slot {
        Slot::Block(block) => block.next_request(ram).map(|request| request.token),
        _ => None,
    });
    disk.flatten()
}

fn complete(board: &mut Board, ram: &GuestRam, token: Token) {
    board.serve(SLOT, |slot| {
        let Slot::Block(block) = slot else { panic!("a disk") };
        block.complete(ram, token, Status::Ok);
    });
}

const DISK: u64 = 0x1000_3000;
/// Where the disk is.
const SLOT: SlotId = SlotId(2);

#[test]
fn a_kick_is_an_event_and_a_completed_request_interrupts_until_it_is_acknowledged() {
    let ram = ram();
    let mut board = board_with_disk(&ram);
    assert_eq!(read(&mut board, DISK + 8, Width::Word), Ok(2));
    assert_eq!(write(&mut board, DISK + 0x50, Width::Word, 0), Ok(Some(BoardEvent::Notified(SLOT))));
    assert_eq!(board.in_flight(), 0, "nothing is taken within the store");
    let token = take(&mut board, &ram).unwrap();
    assert!(!board.external_interrupt(0));
    complete(&mut board, &ram, token);
    assert!(board.external_interrupt(0));
    assert_eq!(read(&mut board, CLAIM, Width::Word), Ok(3));
    write_word(&mut board, DISK + 0x64, 1);
    write_word(&mut board, CLAIM, 3);
    assert!(!board.external_interrupt(0));
}

#[test]
fn a_device_with_requests_in_flight_hands_its_reset_back() {
    let ram = ram();
    let mut board = board_with_disk(&ram);
    let token = take(&mut board, &ram).unwrap();
    assert_eq!(board.in_flight(), 1);
    assert_eq!(write(&mut board, DISK + 0x70, Width::Word, 0), Ok(Some(BoardEvent::Draining(SLOT))));
    complete(&mut board, &ram, token);
    write_word(&mut board, DISK + 0x70, 0);
    assert_eq!(read(&mut board, DISK + 0x70, Width::Word), Ok(0));
}

#[test]
fn a_reset_of_the_board_resets_its_virtio_devices() {
    let ram = ram();
    let mut board = board_with_disk(&ram);
    let token = take(&mut board, &ram).unwrap();
    complete(&mut board, &ram, token);
    board.reset();
    assert!(!board.external_interrupt(0));
    assert_eq!(read(&mut board, DISK + 0x70, Width::Word), Ok(0));
    assert_eq!(read(&mut board, DISK + 0x60, Width::Word), Ok(0));
    assert_eq!(read(&mut board, DISK + 8, Width::Word), Ok(2), "the device is still there");
}

#[test]
#[should_panic(expected = "8 virtio slots")]
fn a_board_has_no_more_slots_than_transports() {
    Board::new(1, WALL, std::vec![Slot::default(); 9]);
}

#[test]
fn holes_are_refused_where_qemu_faults() {
    let mut board = Board::new(1, WALL, Vec::new());
    for (address, width) in [
        (UART + 8, Width::Byte),
        (UART + 0xff, Width::Byte),
        (UART + 6, Width::Word),
        (PLIC + 0x60_0000, Width::Word),
        (PLIC + 4, Width::Byte),
        (PLIC + 4, Width::Half),
        (PLIC, Width::Double),
        (RTC + 0x24, Width::Word),
        (RTC, Width::Byte),
        (RTC, Width::Half),
        (FINISHER, Width::Byte),
        (FINISHER, Width::Double),
        (0x1000_1200, Width::Word),
        (0x1000_9000, Width::Word),
        (0x0200_0000, Width::Word),
        (0, Width::Byte),
    ] {
        assert_eq!(read(&mut board, address, width), Err(Refused), "load {address:#x} {width:?}");
        assert_eq!(write(&mut board, address, width, 0), Err(Refused), "store {address:#x} {width:?}");
    }
}

#[test]
fn accesses_that_qemu_takes_are_taken() {
    let mut board = Board::new(1, WALL, Vec::new());
    for (address, width, value) in [
        (UART + 4, Width::Word, 0x08),
        (UART, Width::Double, 0),
        (UART + 6, Width::Half, 0xb0),
        (PLIC + 0x5f_fffc, Width::Word, 0),
        (RTC, Width::Double, WALL),
        (RTC + 0x20, Width::Word, 0),
        (FINISHER + 0xffc, Width::Half, 0),
        (0x1000_1000, Width::Byte, 0x76),
        (0x1000_11f8, Width::Double, 0),
    ] {
        assert_eq!(read(&mut board, address, width), Ok(value), "{address:#x} {width:?}");
    }
}

#[test]
fn contains_tells_devices_from_holes() {
    let board = Board::new(1, WALL, Vec::new());
    assert!(board.contains(GuestPhysAddr(UART + 7)));
    assert!(!board.contains(GuestPhysAddr(UART + 8)));
    assert!(!board.contains(GuestPhysAddr(0x8000_0000)));
}

#[test]
fn reset_returns_every_device_to_power_on() {
    let mut board = board_with(UART_IRQ);
    write_byte(&mut board, UART + 1, 2);
    write_word(&mut board, RTC + 0x08, u64::from(u32::MAX));
    assert!(board.external_interrupt(0));
    board.reset();
    assert!(!board.external_interrupt(0));
    assert_eq!(board.next_deadline(), None);
    assert_eq!(read(&mut board, PLIC + 0x2080, Width::Word), Ok(0));
    assert_eq!(read(&mut board, UART + 1, Width::Byte), Ok(0));
    assert_eq!(read(&mut board, RTC, Width::Double), Ok(WALL));
}

fn address() -> impl Strategy<Value = u64> {
    prop_oneof![
        4 => UART..UART + 9,
        2 => PLIC..PLIC + 0x300,
        1 => PLIC + 0x1000..PLIC + 0x1010,
        2 => PLIC + 0x2000..PLIC + 0x2110,
        4 => prop::sample::select(std::vec![PLIC + 0x2080, PLIC + 0x28, PLIC + 0x2c, CLAIM - 4, CLAIM, CLAIM]),
        2 => RTC..RTC + 0x28,
        1 => FINISHER..FINISHER + 8,
        1 => 0x1000_1000..0x1000_9000u64,
        1 => any::<u64>(),
    ]
}

fn width() -> impl Strategy<Value = Width> {
    prop::sample::select(std::vec![Width::Byte, Width::Half, Width::Word, Width::Double])
}

/// Values that tend to mean something.
fn value() -> impl Strategy<Value = u64> {
    prop_oneof![0..16u64, 0..256u64, Just(1 << 10), Just(3 << 10), any::<u64>()]
}

proptest! {
    #[test]
    fn any_accesses_and_events_keep_the_lines_and_the_claims_right(
        steps in prop::collection::vec(
            (address(), width(), prop::option::of(value()), 0..4_000_000u64, any::<Option<u8>>()),
            1..300,
        ),
    ) {
        let mut board = Board::new(1, WALL, Vec::new());
        let mut now = BoardTime(0);
        let mut in_service = std::collections::BTreeSet::new();
        for (address, width, value, wait, input) in steps {
            now = now.after(wait);
            board.tick(now);
            if let Some(byte) = input {
                let room = board.uart_receive_room();
                prop_assert_eq!(board.uart_receive(byte, now), room > 0);
            }
            match value {
                Some(value) => {
                    let result = board.write(GuestPhysAddr(address), width, value, now);
                    if result.is_ok() && address == CLAIM {
                        // A completion may be ignored; then the source cannot be claimed, which is fine too.
                        in_service.remove(&(value as u32));
                    }
                }
                None => {
                    let (lines, due) = (board.external_interrupts(), board.next_deadline());
                    let loaded = board.read(GuestPhysAddr(address), width, now);
                    if let Ok(Loaded { moves: false, .. }) = loaded {
                        prop_assert_eq!((board.external_interrupts(), board.next_deadline()), (lines, due));
                    }
                    let result = loaded.map(|loaded| loaded.value);
                    if let (CLAIM, Ok(source @ 1..)) = (address, result) {
                        prop_assert!(in_service.insert(source as u32), "{source} claimed twice");
                    }
                    let mask = if width == Width::Double { u64::MAX } else { (1 << (8 * width.bytes())) - 1 };
                    prop_assert!(result.is_err() || result.is_ok_and(|read| read & !mask == 0));
                }
            }
            board.uart_transmitted(1);
            if let Some(due) = board.next_deadline() {
                prop_assert!(due > now, "a deadline has passed unseen");
            }
            // The lines are up to date: routing them again changes nothing.
            let before = board.external_interrupt(0);
            board.route_interrupts();
            prop_assert_eq!(board.external_interrupt(0), before);
        }
    }
}
