//! The board and its lock: what is done while a hart has it, and what the others see once it is given back.

use core::ops::{Deref, DerefMut};

use devices::virtio::Slot;
use devices::{Board, BoardTime, SlotId};
use memory::GuestRam;

use super::clock::Clock;
use crate::host::Host;

/// The devices of a machine, while nobody else has them: what the board's lock protects.
#[derive(Debug)]
pub struct Wired {
    board: Board,
    /// Which virtio console gets what is typed; `None` is the serial port. The one that the guest has written to last.
    typed_to: Option<SlotId>,
    /// When the board wants to be told the time again, as the machine's deadline says it. Its conversion to ticks is a division.
    pub(super) due: Option<BoardTime>,
}

/// What a virtio console has left after its turn.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ConsoleTurn {
    /// Nothing that could be done now.
    Done,
    /// More than a turn may move.
    More,
    /// More than the operator's console has room for.
    Full,
}

impl Deref for Wired {
    type Target = Board;

    #[inline(always)]
    fn deref(&self) -> &Board {
        &self.board
    }
}

impl DerefMut for Wired {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut Board {
        &mut self.board
    }
}

impl Wired {
    pub(super) const fn new(board: Board) -> Self {
        Self { board, typed_to: None, due: None }
    }

    /// To power-on state: see `Board::reset`.
    pub(super) fn power_up(&mut self) {
        self.board.reset();
        self.typed_to = None;
    }

    /// Moves what the serial port has sent to the operator's console; says whether all of it went.
    pub(super) fn drain_console(&mut self, host: &mut impl Host) -> bool {
        let Self { board, typed_to, .. } = self;
        loop {
            let pending = board.uart_transmit_pending();
            if pending.is_empty() {
                return true;
            }
            let taken = host.console_write(pending);
            if taken == 0 {
                return false;
            }
            let all = taken == pending.len();
            board.uart_transmitted(taken);
            *typed_to = None;
            if all {
                return true;
            }
        }
    }

    /// Moves what the operator typed to the serial port, as far as it has room.
    pub(super) fn feed_console(&mut self, clock: Clock, host: &mut impl Host) {
        let Self { board, typed_to, .. } = self;
        if typed_to.is_some() {
            return;
        }
        while board.uart_receive_room() > 0 {
            let Some(byte) = host.console_read() else { return };
            let now = clock.board_time(host.now());
            // There is room: it was asked for.
            let _ = board.uart_receive(byte, now);
        }
    }

    /// See [`Machine::serve_console`].
    pub(super) fn serve_console(
        &mut self,
        slot: SlotId,
        ram: &GuestRam,
        host: &mut impl Host,
    ) -> Option<ConsoleTurn> {
        let Self { board, typed_to, .. } = self;
        let turn = board.serve(slot, |device| {
            let Slot::Console(console) = device else { return None };
            let mut full = false;
            console.output(ram, |bytes| {
                let taken = host.console_write(bytes);
                full = taken < bytes.len();
                *typed_to = Some(slot);
                taken
            });
            while *typed_to == Some(slot) && console.has_room(ram) {
                let Some(byte) = host.console_read() else { break };
                console.input(ram, &[byte]);
            }
            Some(match (full, console.has_output(ram)) {
                (true, _) => ConsoleTurn::Full,
                (false, true) => ConsoleTurn::More,
                (false, false) => ConsoleTurn::Done,
            })
        });
        turn.flatten()
    }

    /// Writes to the operator's console behind what the serial port has sent; says how many bytes went.
    pub(super) fn console_write(&mut self, bytes: &[u8], host: &mut impl Host) -> usize {
        self.typed_to = None;
        if self.drain_console(host) { host.console_write(bytes) } else { 0 }
    }

    /// A byte that the serial port has received, taken out of it.
    pub(super) fn console_read(&mut self, clock: Clock, host: &mut impl Host) -> Option<u8> {
        self.feed_console(clock, host);
        let now = clock.board_time(host.now());
        self.board.uart_take_for_firmware(now)
    }
}
