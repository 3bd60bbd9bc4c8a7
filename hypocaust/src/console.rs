//! The operator's console: bounded queues between the guests and the host's UART, drained and filled by interrupt.
//!
//! Where the host has no UART that we drive, the firmware's console is written directly and nothing is read.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use arrayvec::ArrayVec;

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
    /// The guests, where there are several.
    guests: Vec<Line>,
    /// The guest that reads what is typed, and writes without waiting for the end of a line.
    shown: usize,
    /// The shown guest is within a line.
    within_line: bool,
}

/// A line of a guest's that is not complete yet.
#[derive(Debug)]
struct Line {
    name: String,
    bytes: ArrayVec<u8, LINE>,
    has_ended: bool,
}

/// Bytes after which a line of a guest that is not shown is broken.
const LINE: usize = 240;

impl Console {
    /// A console on `uart`.
    pub fn new(uart: Option<Uart>) -> Self {
        let mut console = Self {
            uart,
            input: Queue::new(INPUT),
            interrupts: (false, false),
            guests: Vec::new(),
            shown: 0,
            within_line: false,
        };
        console.choose_interrupts();
        console
    }

    /// Tells what the guests are called. With one nothing is changed in what it writes.
    pub fn set_guests(&mut self, names: impl ExactSizeIterator<Item = String>) {
        if names.len() > 1 {
            let line = |name| Line { name, bytes: ArrayVec::new(), has_ended: false };
            self.guests = names.map(line).collect();
        }
    }

    /// Takes bytes of a guest's and says how many; the rest must be offered again.
    pub fn write(&mut self, guest: usize, bytes: &[u8]) -> usize {
        let taken = bytes.iter().take_while(|byte| self.put_for(guest, **byte)).count();
        self.choose_interrupts();
        taken
    }

    /// A guest has ended: what it has begun is its last line, and another one is shown.
    pub fn end(&mut self, guest: usize) {
        let Some(line) = self.guests.get_mut(guest) else { return };
        line.has_ended = true;
        let has_rest = !line.bytes.is_empty();
        if has_rest {
            while !self.put_line(guest) {
                self.flush();
            }
        }
        if guest == self.shown {
            self.leave_line();
            self.shown = self.guests.iter().position(|line| !line.has_ended).unwrap_or(guest);
        }
    }

    /// The next byte typed for this guest.
    pub fn read(&mut self, guest: usize) -> Option<u8> {
        if !self.guests.is_empty() && guest != self.shown {
            return None;
        }
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

    /// Several guests share the console by lines, each with its guest's name in front.
    fn put_for(&mut self, guest: usize, byte: u8) -> bool {
        if self.guests.is_empty() {
            return self.put(byte);
        }
        if guest == self.shown {
            let has_room = self.has_room(0);
            if has_room {
                if !self.within_line {
                    self.put_name(guest);
                }
                self.within_line = byte != b'\n';
                self.put_waiting(byte);
            }
            return has_room;
        }
        let Some(line) = self.guests.get_mut(guest) else { return true };
        line.has_ended = false;
        if line.bytes.is_full() && !self.put_line(guest) {
            return false;
        }
        if byte == b'\n' {
            return self.put_line(guest);
        }
        if let Some(line) = self.guests.get_mut(guest) {
            line.bytes.push(byte);
        }
        true
    }

    /// Writes the line that a guest has begun, if there is room for it.
    fn put_line(&mut self, guest: usize) -> bool {
        let bytes = self.guests.get(guest).map(|line| line.bytes.clone()).unwrap_or_default();
        let has_room = self.has_room(bytes.len());
        if has_room {
            self.leave_line();
            self.put_name(guest);
            bytes.iter().filter(|byte| **byte != b'\r').for_each(|byte| self.put_waiting(*byte));
            b"\r\n".iter().for_each(|byte| self.put_waiting(*byte));
            if let Some(line) = self.guests.get_mut(guest) {
                line.bytes.clear();
            }
        }
        has_room
    }

    fn put_name(&mut self, guest: usize) {
        let name = self.guests.get(guest).map(|line| line.name.clone()).unwrap_or_default();
        name.bytes().chain(*b"| ").for_each(|byte| self.put_waiting(byte));
    }

    /// Ends the line that the shown guest is within.
    fn leave_line(&mut self) {
        if core::mem::take(&mut self.within_line) {
            b"\r\n".iter().for_each(|byte| self.put_waiting(*byte));
        }
    }

    /// Whether so many bytes more than a name and line ends would not have to wait.
    fn has_room(&self, bytes: usize) -> bool {
        const NAME: usize = 64;
        self.uart.is_none() || OUTPUT.len() + bytes + NAME < OUTPUT_LENGTH
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
        self.leave_line();
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
