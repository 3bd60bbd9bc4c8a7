//! A 16550A, as QEMU's `virt` has it.
//!
//! The guest sees a transmitter that holds bytes until the console has taken them, so a slow console slows the
//! guest and loses nothing; and a receiver that fills at the console's leave, never past its 16 bytes. The VMM
//! moves the bytes and routes the interrupt line. There is no modem: its inputs never change.

mod receiver;
mod register;

use isa::Width;

use crate::queue::ByteQueue;
use crate::{BoardTime, Refused};
use receiver::Receiver;
pub use register::*;

/// Bytes that may wait for the console. More than the data sheet's 16, for guests that never look at LSR.
pub const TRANSMIT_BUFFER: usize = 256;

/// Input clock over 16, in hertz: what the divisor divides. QEMU's choice, not what its device tree says;
/// it only sets the length of a character time.
const BASE_BAUD: u64 = 399_193;

/// The divisor after reset: 9600 baud for a standard clock.
const RESET_DIVISOR: u16 = 12;
/// A character time after reset, of ten bits at 9600 baud, in nanoseconds.
const RESET_CHARACTER_NS: u64 = NS_PER_SECOND / 9600 * 10;
const NS_PER_SECOND: u64 = 1_000_000_000;

/// The divisor that OpenSBI sets: 115,200 baud by the clock that the device tree names.
const FIRMWARE_DIVISOR: u16 = 2;

/// What became of a write.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub enum Written {
    /// It is done.
    Done,
    /// Nothing happened: as many bytes as fit are waiting. Drain some to the console, then write again.
    TransmitFull,
}

/// One UART.
#[derive(Clone, Debug)]
pub struct Uart16550 {
    interrupt_enable: u8,
    /// The bits of FCR that stay: enable, DMA mode, trigger level.
    fifo_control: u8,
    line_control: u8,
    modem_control: u8,
    scratch: u8,
    divisor: u16,
    character_ns: u64,
    receiver: Receiver,

    /// Written by the guest, not yet taken by the console. THRE and TEMT are "none of these".
    transmitting: ByteQueue<TRANSMIT_BUFFER>,
    /// The transmit-empty interrupt is due if enabled.
    transmit_empty_due: bool,
    /// It has been handed to the guest and IIR not read since.
    transmit_empty_claimed: bool,
}

impl Default for Uart16550 {
    fn default() -> Self {
        Self::new()
    }
}

impl Uart16550 {
    /// A UART in power-on state.
    pub const fn new() -> Self {
        Self {
            interrupt_enable: 0,
            fifo_control: 0,
            line_control: 0,
            modem_control: MCR_OUT2,
            scratch: 0,
            divisor: RESET_DIVISOR,
            character_ns: RESET_CHARACTER_NS,
            receiver: Receiver::new(),
            transmitting: ByteQueue::new(),
            transmit_empty_due: false,
            transmit_empty_claimed: false,
        }
    }

    /// To power-on state, but for the bytes on their way to the console: those were sent.
    pub fn reset(&mut self) {
        let transmitting = self.transmitting.clone();
        *self = Self { transmitting, ..Self::new() };
    }

    /// What OpenSBI has done when it enters a kernel: FIFOs on, eight bits, its own speed, no modem outputs.
    pub fn initialize(&mut self) {
        self.divisor = FIRMWARE_DIVISOR;
        self.line_control = LCR_DATA_BITS;
        self.set_character_time();
        self.control_fifos(FCR_ENABLE);
        self.modem_control = 0;
    }

    /// Reads the register at `offset`, zero-extended whatever the width: a wide access touches one register.
    pub fn read(&mut self, offset: u64, _width: Width, now: BoardTime) -> Result<u64, Refused> {
        let register = Register::at(offset).ok_or(Refused)?;
        self.tick(now);
        Ok(u64::from(match register {
            Register::Data if self.divisor_is_shown() => self.divisor as u8,
            Register::Data => self.receiver.take(self.character_ns, now),
            Register::InterruptEnable if self.divisor_is_shown() => (self.divisor >> 8) as u8,
            Register::InterruptEnable => self.interrupt_enable,
            Register::InterruptIdentification => self.identify_interrupt(),
            Register::LineControl => self.line_control,
            Register::ModemControl => self.modem_control,
            Register::LineStatus => {
                let status = self.line_status();
                self.receiver.clear_errors();
                status
            }
            Register::ModemStatus => self.modem_status(),
            Register::Scratch => self.scratch,
        }))
    }

    /// Writes the low byte of `value` to the register at `offset`, whatever the width.
    pub fn write(
        &mut self,
        offset: u64,
        _width: Width,
        value: u64,
        now: BoardTime,
    ) -> Result<Written, Refused> {
        let register = Register::at(offset).ok_or(Refused)?;
        self.tick(now);
        let value = value as u8;
        match register {
            Register::Data if self.divisor_is_shown() => {
                self.divisor = self.divisor & 0xff00 | u16::from(value);
                self.set_character_time();
            }
            Register::Data => return Ok(self.transmit(value, now)),
            Register::InterruptEnable if self.divisor_is_shown() => {
                self.divisor = self.divisor & 0x00ff | u16::from(value) << 8;
                self.set_character_time();
            }
            Register::InterruptEnable => self.enable_interrupts(value & IER_MASK),
            Register::InterruptIdentification => self.control_fifos(value),
            Register::LineControl => {
                self.line_control = value;
                self.set_character_time();
            }
            Register::ModemControl => self.modem_control = value & MCR_MASK,
            Register::LineStatus | Register::ModemStatus => {}
            Register::Scratch => self.scratch = value,
        }
        Ok(Written::Done)
    }

    /// Takes out the oldest byte received, as firmware that drives the same port does for an SBI call.
    pub fn take_for_firmware(&mut self, now: BoardTime) -> Option<u8> {
        self.tick(now);
        let is_ready = self.line_status() & LSR_DATA_READY != 0;
        is_ready.then(|| self.receiver.take(self.character_ns, now))
    }

    /// How many bytes [`Self::receive`] will take; the rest must wait at the caller's.
    pub fn receive_room(&self) -> usize {
        if self.is_loopback() { 0 } else { self.receiver.room() }
    }

    /// A byte comes from the console; `false`, and nothing done, where there is no room.
    #[must_use]
    pub fn receive(&mut self, byte: u8, now: BoardTime) -> bool {
        self.tick(now);
        let has_room = self.receive_room() > 0;
        if has_room {
            self.receiver.put(byte, self.character_ns, now);
        }
        has_room
    }

    /// A break comes from the console: a zero byte with LSR's break bit.
    pub fn receive_break(&mut self, now: BoardTime) {
        self.tick(now);
        self.receiver.put_break(self.character_ns, now);
    }

    /// The bytes that wait for the console, oldest first.
    pub fn transmit_pending(&self) -> &[u8] {
        self.transmitting.as_slice()
    }

    /// The console has taken the oldest `count` of [`Self::transmit_pending`].
    pub fn transmitted(&mut self, count: usize) {
        let was_empty = self.transmitting.is_empty();
        self.transmitting.discard(count);
        if !was_empty && self.transmitting.is_empty() {
            self.note_transmit_empty();
        }
    }

    /// Notices that received bytes have waited too long.
    pub fn tick(&mut self, now: BoardTime) {
        self.receiver.tick(now);
    }

    /// When [`Self::tick`] next has something to do.
    pub const fn next_timeout(&self) -> Option<BoardTime> {
        self.receiver.next_timeout()
    }

    /// The interrupt line, as of the last access or event.
    pub fn irq_level(&self) -> bool {
        match self.cause() {
            Cause::Nothing => false,
            Cause::TransmitEmpty => !self.transmit_empty_claimed,
            Cause::LineStatus | Cause::Timeout | Cause::Received => true,
        }
    }

    /// The interrupt controller has handed this UART's interrupt to the guest. A transmit-empty interrupt then
    /// keeps its place in IIR but leaves the line: QEMU's PLIC does not see it a second time, and kernels that
    /// enable it and never read IIR, as xv6 long did, would be interrupted for ever.
    pub fn interrupt_claimed(&mut self) {
        self.transmit_empty_claimed = self.cause() == Cause::TransmitEmpty;
    }

    fn fifos_are_on(&self) -> bool {
        self.fifo_control & FCR_ENABLE != 0
    }

    fn divisor_is_shown(&self) -> bool {
        self.line_control & LCR_DLAB != 0
    }

    fn is_loopback(&self) -> bool {
        self.modem_control & MCR_LOOPBACK != 0
    }

    fn cause(&self) -> Cause {
        let enabled = |bit| self.interrupt_enable & bit != 0;
        if enabled(IER_LINE_STATUS) && self.receiver.has_errors() {
            Cause::LineStatus
        } else if enabled(IER_RECEIVED) && self.receiver.has_timed_out() {
            Cause::Timeout
        } else if enabled(IER_RECEIVED) && self.receiver.has_reached_trigger() {
            Cause::Received
        } else if enabled(IER_TRANSMIT_EMPTY) && self.transmit_empty_due {
            Cause::TransmitEmpty
        } else {
            Cause::Nothing
        }
    }

    /// Reads IIR, which ends a transmit-empty interrupt only if it shows it.
    fn identify_interrupt(&mut self) -> u8 {
        let cause = self.cause();
        if cause == Cause::TransmitEmpty {
            self.transmit_empty_due = false;
        }
        cause as u8 | if self.fifos_are_on() { IIR_FIFOS } else { 0 }
    }

    fn line_status(&self) -> u8 {
        let idle = LSR_TRANSMIT_HOLDING_EMPTY | LSR_TRANSMITTER_EMPTY;
        self.receiver.status() | if self.transmitting.is_empty() { idle } else { 0 }
    }

    fn modem_status(&self) -> u8 {
        if !self.is_loopback() {
            return MSR_CONNECTED;
        }
        // Loopback: DTR is DSR, RTS is CTS, output 1 is ring, output 2 is carrier.
        let outputs = self.modem_control;
        (outputs & 0x01) << 5 | (outputs & 0x02) << 3 | (outputs & 0x0c) << 4
    }

    fn enable_interrupts(&mut self, enable: u8) {
        // Enabling it makes it due if the transmitter is empty, though IIR may have shown it before.
        if (enable ^ self.interrupt_enable) & IER_TRANSMIT_EMPTY != 0 {
            self.transmit_empty_due = false;
            if enable & IER_TRANSMIT_EMPTY != 0 && self.transmitting.is_empty() {
                self.note_transmit_empty();
            }
        }
        self.interrupt_enable = enable;
    }

    fn control_fifos(&mut self, control: u8) {
        let switched = (control ^ self.fifo_control) & FCR_ENABLE != 0;
        if switched || control & FCR_CLEAR_RECEIVE != 0 {
            self.receiver.clear();
        }
        // What was written is on its way to the console, so there is nothing to clear in the transmitter.
        if (switched || control & FCR_CLEAR_TRANSMIT != 0) && self.transmitting.is_empty() {
            self.note_transmit_empty();
        }
        self.fifo_control = control & FCR_STICKY;
        self.receiver.set_trigger(self.fifos_are_on().then_some(match (control & FCR_TRIGGER) >> 6 {
            0 => 1,
            1 => 4,
            2 => 8,
            _ => 14,
        }));
    }

    fn transmit(&mut self, byte: u8, now: BoardTime) -> Written {
        if self.is_loopback() {
            self.receiver.put(byte, self.character_ns, now);
        } else if !self.transmitting.push(byte) {
            return Written::TransmitFull;
        }
        self.transmit_empty_due = false;
        if self.transmitting.is_empty() {
            self.note_transmit_empty();
        }
        Written::Done
    }

    fn note_transmit_empty(&mut self) {
        self.transmit_empty_due = true;
        self.transmit_empty_claimed = false;
    }

    /// Works out how long a character takes; a divisor that makes no speed changes nothing.
    fn set_character_time(&mut self) {
        let Some(baud @ 1..) = BASE_BAUD.checked_div(u64::from(self.divisor)) else { return };
        let flag = |bit| u64::from(self.line_control & bit != 0);
        let data_bits = 5 + u64::from(self.line_control & LCR_DATA_BITS);
        let bits = 1 + data_bits + flag(LCR_PARITY) + 1 + flag(LCR_STOP);
        self.character_ns = NS_PER_SECOND / baud * bits;
    }
}

#[cfg(test)]
mod tests;
