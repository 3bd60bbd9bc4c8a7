//! The board and its lock: what is done while a hart has it, and what the others see once it is given back.

use core::ops::{Deref, DerefMut};

use devices::Board;
use devices::virtio::Slot;
use sync::Guard;
use sync::atomic::Ordering;

use super::{ConsoleTurn, Machine};
use crate::host::Host;

/// What the board's lock protects.
#[derive(Debug)]
pub(super) struct Wired {
    board: Board,
    /// Which virtio console gets what is typed; `None` is the serial port. The one that the guest has written to last.
    typed_to: Option<usize>,
}

impl Wired {
    pub(super) const fn new(board: Board) -> Self {
        Self { board, typed_to: None }
    }
}

/// The board of a machine, which no other hart has meanwhile. When it is given back, its interrupt lines and its deadline are
/// what harts that do not have it see.
#[derive(Debug)]
pub struct BoardGuard<'a> {
    machine: &'a Machine,
    wired: Guard<'a, Wired>,
}

impl Machine {
    /// Waits until no other hart has the board, and takes it.
    #[inline]
    #[track_caller]
    pub fn board(&self) -> BoardGuard<'_> {
        BoardGuard { machine: self, wired: self.wired.lock() }
    }
}

impl Drop for BoardGuard<'_> {
    #[inline]
    fn drop(&mut self) {
        let Machine { lines, links, deadline, clock, .. } = self.machine;
        let board = &self.wired.board;
        lines.push(board.external_interrupts(), links);
        // Kept, for the conversion to ticks is a division.
        deadline.store(board.next_deadline().map_or(u64::MAX, |time| clock.ticks(time)), Ordering::Relaxed);
    }
}

impl Deref for BoardGuard<'_> {
    type Target = Board;

    #[inline]
    fn deref(&self) -> &Board {
        &self.wired.board
    }
}

impl DerefMut for BoardGuard<'_> {
    #[inline]
    fn deref_mut(&mut self) -> &mut Board {
        &mut self.wired.board
    }
}

impl BoardGuard<'_> {
    /// To power-on state: see `Board::reset`.
    pub(super) fn power_up(&mut self) {
        self.wired.board.reset();
        self.wired.typed_to = None;
    }

    /// Moves what the serial port has sent to the operator's console; says whether all of it went.
    pub(super) fn drain_console(&mut self, host: &mut impl Host) -> bool {
        let Wired { board, typed_to } = &mut *self.wired;
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
    pub(super) fn feed_console(&mut self, host: &mut impl Host) {
        let Wired { board, typed_to } = &mut *self.wired;
        if typed_to.is_some() {
            return;
        }
        while board.uart_receive_room() > 0 {
            let Some(byte) = host.console_read() else { return };
            let now = self.machine.clock.board_time(host.now());
            // There is room: it was asked for.
            let _ = board.uart_receive(byte, now);
        }
    }

    /// See [`Machine::serve_console`].
    pub(super) fn serve_console(&mut self, slot: usize, host: &mut impl Host) -> Option<ConsoleTurn> {
        let ram = &self.machine.ram;
        let Wired { board, typed_to } = &mut *self.wired;
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

    /// The slots of virtio consoles, a bit each.
    pub(super) fn consoles(&self) -> u32 {
        let slots = self.slots().iter().take(u32::BITS as usize).enumerate();
        slots
            .filter(|(_, slot)| matches!(slot, Slot::Console(_)))
            .fold(0, |found, (slot, _)| found | 1 << slot)
    }

    /// Writes to the operator's console behind what the serial port has sent; says how many bytes went.
    pub(super) fn console_write(&mut self, bytes: &[u8], host: &mut impl Host) -> usize {
        self.wired.typed_to = None;
        if self.drain_console(host) { host.console_write(bytes) } else { 0 }
    }

    /// A byte that the serial port has received, taken out of it.
    pub(super) fn console_read(&mut self, host: &mut impl Host) -> Option<u8> {
        self.feed_console(host);
        let now = self.machine.clock.board_time(host.now());
        self.wired.board.uart_take_for_firmware(now)
    }
}
