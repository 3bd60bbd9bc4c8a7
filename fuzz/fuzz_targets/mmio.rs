//! The devices: whatever a guest reads and writes in whatever order, and the world outside meanwhile.
#![no_main]

use devices::board::{Board, BoardEvent, MAP};
use devices::{BoardTime, Loaded, plic};
use isa::Width;
use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;
use memory::GuestPhysAddr;

#[derive(Arbitrary, Debug)]
enum Step {
    Read(Place),
    Write(Place, u64),
    Receive(u8),
    Break,
    /// The console takes so many bytes.
    Transmitted(u8),
    /// So many nanoseconds pass.
    Wait(u32),
    Reset,
}

/// An access in a device's page, or in its neighbourhood.
#[derive(Arbitrary, Debug, Clone, Copy)]
struct Place {
    region: u8,
    offset: u32,
    log2_width: u8,
}

impl Place {
    fn address(self) -> GuestPhysAddr {
        let region = &MAP[usize::from(self.region) % MAP.len()];
        region.base.wrapping_add(u64::from(self.offset) % (region.claimed + 16))
    }

    fn width(self) -> Width {
        [Width::Byte, Width::Half, Width::Word, Width::Double][usize::from(self.log2_width) % 4]
    }
}

fuzz_target!(|input: (u8, Vec<Step>)| {
    let (harts, steps) = input;
    let harts = 1 + usize::from(harts) % plic::MAX_HARTS;
    let mut board = Board::new(harts, 1_700_000_000_000_000_000, Vec::new());
    let mut now = BoardTime(0);
    for step in steps {
        match step {
            Step::Read(place) => read(&mut board, place, now),
            Step::Write(place, value) => write(&mut board, place, value, now),
            Step::Receive(byte) => {
                let room = board.uart_receive_room();
                assert_eq!(board.uart_receive(byte, now), room > 0);
            }
            Step::Break => board.uart_receive_break(now),
            Step::Transmitted(count) => {
                let count = usize::from(count).min(board.uart_transmit_pending().len());
                board.uart_transmitted(count);
            }
            Step::Wait(nanoseconds) => {
                now = now.after(nanoseconds.into());
                board.tick(now);
                assert!(board.next_deadline().is_none_or(|due| due > now), "nothing is left to do");
            }
            Step::Reset => {
                board.reset();
                assert!((0..harts).all(|hart| !board.external_interrupt(hart)));
            }
        }
    }
});

fn read(board: &mut Board, place: Place, now: BoardTime) {
    let (address, width) = (place.address(), place.width());
    let Ok(Loaded { value, .. }) = board.read(address, width, now) else { return };
    assert!(board.contains(address));
    assert!(u128::from(value) < 1 << (8 * width.bytes()), "a load is zero-extended");
}

fn write(board: &mut Board, place: Place, value: u64, now: BoardTime) {
    let (address, width) = (place.address(), place.width());
    let written = board.write(address, width, value, now);
    assert!(written.is_err() || board.contains(address));
    if written == Ok(Some(BoardEvent::ConsoleFull)) {
        board.uart_transmitted(board.uart_transmit_pending().len());
        assert_eq!(board.write(address, width, value, now), Ok(None), "the console has room again");
    }
}
