//! The receiving half: the FIFO or the single buffer, its errors, and the character time-out.
//!
//! Knows no registers; the UART asks it what they show.

use super::register::{LSR_BREAK, LSR_DATA_READY, LSR_OVERRUN};
use crate::BoardTime;
use crate::queue::ByteQueue;

/// Bytes in the FIFO.
const FIFO: usize = 16;

/// Characters' worth of silence after which bytes below the trigger level interrupt too.
const SILENCE: u64 = 4;

/// Received bytes on their way to the guest.
#[derive(Clone, Debug)]
pub(super) struct Receiver {
    /// The number of bytes that interrupts with the FIFO on, `None` with the FIFO off.
    trigger: Option<usize>,
    fifo: ByteQueue<FIFO>,
    /// The last byte received with the FIFO off; reading it leaves it there.
    buffer: u8,
    /// A byte waits: LSR's bit.
    data_ready: bool,
    /// LSR's overrun and break.
    errors: u8,
    /// When the bytes in the FIFO will have waited too long.
    times_out_at: Option<BoardTime>,
    timed_out: bool,
}

impl Receiver {
    pub(super) const fn new() -> Self {
        Self {
            trigger: None,
            fifo: ByteQueue::new(),
            buffer: 0,
            data_ready: false,
            errors: 0,
            times_out_at: None,
            timed_out: false,
        }
    }

    /// Sets the trigger level, or turns the FIFO off. Empties nothing.
    pub(super) fn set_trigger(&mut self, trigger: Option<usize>) {
        self.trigger = trigger;
    }

    /// Forgets what has been received.
    pub(super) fn clear(&mut self) {
        self.fifo.clear();
        self.become_empty();
        self.timed_out = false;
    }

    /// How many bytes fit.
    pub(super) fn room(&self) -> usize {
        match self.trigger {
            Some(_) => FIFO - self.fifo.len(),
            None => usize::from(!self.data_ready),
        }
    }

    /// Takes in a byte. With no room it is an overrun, which loses the new byte with the FIFO on and the old
    /// one with the FIFO off.
    pub(super) fn put(&mut self, byte: u8, character_ns: u64, now: BoardTime) {
        if self.room() == 0 {
            self.errors |= LSR_OVERRUN;
        }
        if self.trigger.is_some() {
            self.fifo.push(byte);
            self.await_silence(character_ns, now);
        } else {
            self.buffer = byte;
        }
        self.data_ready = true;
    }

    /// Takes in a break: a zero byte, marked.
    pub(super) fn put_break(&mut self, character_ns: u64, now: BoardTime) {
        self.put(0, character_ns, now);
        self.errors |= LSR_BREAK;
    }

    /// Gives out the oldest byte; where there is none, 0 with the FIFO on, the last byte with the FIFO off.
    pub(super) fn take(&mut self, character_ns: u64, now: BoardTime) -> u8 {
        if self.trigger.is_none() {
            self.become_empty();
            return self.buffer;
        }
        let byte = self.fifo.pop().unwrap_or(0);
        self.timed_out = false;
        if self.fifo.is_empty() {
            self.become_empty();
        } else {
            self.await_silence(character_ns, now);
        }
        byte
    }

    /// LSR's bits. Reading that register ends the errors: [`Self::clear_errors`].
    pub(super) fn status(&self) -> u8 {
        self.errors | if self.data_ready { LSR_DATA_READY } else { 0 }
    }

    pub(super) fn has_errors(&self) -> bool {
        self.errors != 0
    }

    pub(super) fn clear_errors(&mut self) {
        self.errors = 0;
    }

    /// Whether enough has been received to interrupt.
    pub(super) fn has_reached_trigger(&self) -> bool {
        self.data_ready && self.trigger.is_none_or(|trigger| self.fifo.len() >= trigger)
    }

    pub(super) fn has_timed_out(&self) -> bool {
        self.timed_out
    }

    /// When [`Self::tick`] next has something to do.
    pub(super) const fn next_timeout(&self) -> Option<BoardTime> {
        self.times_out_at
    }

    pub(super) fn tick(&mut self, now: BoardTime) {
        if self.times_out_at.is_some_and(|due| due <= now) {
            self.times_out_at = None;
            self.timed_out = true;
        }
    }

    fn become_empty(&mut self) {
        self.data_ready = false;
        self.errors &= !LSR_BREAK;
        self.times_out_at = None;
    }

    /// The silence starts anew: a byte has come or gone.
    fn await_silence(&mut self, character_ns: u64, now: BoardTime) {
        self.times_out_at = Some(now.after(SILENCE.saturating_mul(character_ns)));
    }
}
