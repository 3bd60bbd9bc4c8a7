//! The operator's console: bounded queues between the guests and the host's UART, drained and filled by interrupt.
//!
//! Where the host has no UART that we drive, the firmware's console is written directly and nothing is read.

use alloc::boxed::Box;
use core::fmt;

use trace::Outbox;

use crate::drivers::uart::Uart;

/// Bytes that wait to be sent: more than any burst of a guest's between two exits, for each byte costs it one.
const OUTPUT_LENGTH: usize = 16 << 10;
/// Bytes typed ahead.
const INPUT: usize = 1 << 10;

/// What waits to be sent. Nothing unwinds after a panic, so it is where the epitaph finds it.
static OUTPUT: Outbox<OUTPUT_LENGTH> = Outbox::new();

/// A bounded queue of bytes.
#[derive(Debug)]
struct Queue {
    bytes: Box<[u8]>,
    first: usize,
    len: usize,
}

impl Queue {
    fn new(capacity: usize) -> Self {
        Self { bytes: core::iter::repeat_n(0, capacity).collect(), first: 0, len: 0 }
    }

    fn push(&mut self, byte: u8) -> bool {
        let capacity = self.bytes.len();
        let fits = self.len < capacity;
        if fits && let Some(place) = self.bytes.get_mut((self.first + self.len) % capacity) {
            *place = byte;
            self.len += 1;
        }
        fits
    }

    fn front(&self) -> Option<u8> {
        if self.len == 0 { None } else { self.bytes.get(self.first).copied() }
    }

    fn pop(&mut self) -> Option<u8> {
        let byte = self.front()?;
        self.first = (self.first + 1) % self.bytes.len();
        self.len -= 1;
        Some(byte)
    }

    fn is_full(&self) -> bool {
        self.len == self.bytes.len()
    }
}

/// The operator's console.
#[derive(Debug)]
pub struct Console {
    uart: Option<Uart>,
    input: Queue,
    /// What the UART was last asked to interrupt for: received bytes, room to send.
    interrupts: (bool, bool),
}

impl Console {
    /// A console on `uart`.
    pub fn new(uart: Option<Uart>) -> Self {
        let mut console = Self { uart, input: Queue::new(INPUT), interrupts: (false, false) };
        console.choose_interrupts();
        console
    }

    /// Takes bytes and says how many; the rest must be offered again.
    pub fn write(&mut self, bytes: &[u8]) -> usize {
        let taken = bytes.iter().take_while(|byte| self.put(**byte)).count();
        self.choose_interrupts();
        taken
    }

    /// The next byte typed.
    pub fn read(&mut self) -> Option<u8> {
        let byte = self.input.pop();
        if byte.is_some() {
            self.choose_interrupts();
        }
        byte
    }

    /// Serves the UART's interrupt.
    pub fn serve_interrupt(&mut self) {
        if let Some(uart) = &self.uart {
            while !self.input.is_full() {
                let Some(byte) = uart.receive() else { break };
                self.input.push(byte);
            }
        }
        self.send();
        self.choose_interrupts();
    }

    /// Waits until all output has gone, out of the UART, too: the machine may be powered off now.
    pub fn flush(&mut self) {
        while !OUTPUT.is_empty() {
            self.send();
        }
        while self.uart.as_ref().is_some_and(Uart::is_sending) {}
    }

    fn put(&mut self, byte: u8) -> bool {
        let Some(uart) = &self.uart else {
            hart::firmware::console_putchar(byte);
            return true;
        };
        // The queue is for the time that the UART is busy.
        OUTPUT.is_empty() && uart.send(byte) || OUTPUT.push(byte)
    }

    fn send(&mut self) {
        let Some(uart) = &self.uart else { return };
        while let Some(byte) = OUTPUT.front() {
            if !uart.send(byte) {
                return;
            }
            OUTPUT.pop();
        }
    }

    /// Asks for interrupts only where they have something to do.
    fn choose_interrupts(&mut self) {
        let wanted = (!self.input.is_full(), !OUTPUT.is_empty());
        if wanted != self.interrupts
            && let Some(uart) = &self.uart
        {
            uart.enable_interrupts(wanted.0, wanted.1);
            self.interrupts = wanted;
        }
    }
}

/// Sends what waits to be sent through the firmware's console. For the epitaph: the console is in unknown hands then.
pub fn send_rest() {
    while let Some(byte) = OUTPUT.pop() {
        hart::firmware::console_putchar(byte);
    }
}

/// Nothing that was written is lost, however the console ends.
impl Drop for Console {
    fn drop(&mut self) {
        self.flush();
    }
}

/// The hypervisor's own messages. They wait for room: nobody else would repeat them.
impl fmt::Write for Console {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            if byte == b'\n' {
                self.put_waiting(b'\r');
            }
            self.put_waiting(byte);
        }
        self.choose_interrupts();
        Ok(())
    }
}

impl Console {
    fn put_waiting(&mut self, byte: u8) {
        while !self.put(byte) {
            self.send();
        }
    }
}
