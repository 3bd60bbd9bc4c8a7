//! The 16550: bytes out and in, by polling. S-mode may drive the same port; then this is only for its last words.

use crate::map;
use core::fmt;

const DATA: usize = 0;
const INTERRUPTS: usize = 1;
const FIFO: usize = 2;
const LINE: usize = 3;
const MODEM: usize = 4;
const STATUS: usize = 5;
const FIFO_ENABLE: u8 = 1;
const LINE_8N1: u8 = 3;
/// In the line's register: the divisor is in the places of the first two.
const LINE_DIVISOR: u8 = 1 << 7;
/// 115,200 baud by the clock that the device tree names.
const DIVISOR: u8 = 2;
const STATUS_RECEIVED: u8 = 1;
const STATUS_ROOM: u8 = 1 << 5;

/// Sets the port up. QEMU's has no speed, but S-mode can read what was set.
pub fn init() {
    map::uart(INTERRUPTS).write(0);
    map::uart(LINE).write(LINE_DIVISOR);
    map::uart(DATA).write(DIVISOR);
    map::uart(INTERRUPTS).write(0);
    map::uart(LINE).write(LINE_8N1);
    map::uart(FIFO).write(FIFO_ENABLE);
    map::uart(MODEM).write(0);
}

/// Sends a byte, after those that still wait.
pub fn send(byte: u8) {
    while map::uart(STATUS).read() & STATUS_ROOM == 0 {}
    map::uart(DATA).write(byte);
}

/// A byte that has arrived.
pub fn receive() -> Option<u8> {
    (map::uart(STATUS).read() & STATUS_RECEIVED != 0).then(|| map::uart(DATA).read())
}

/// The port as something to print to; a line feed brings a carriage return.
pub struct Printer;

impl fmt::Write for Printer {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            if byte == b'\n' {
                send(b'\r');
            }
            send(byte);
        }
        Ok(())
    }
}

/// Prints a line.
macro_rules! println {
    ($($argument:tt)*) => {{
        use core::fmt::Write;
        // The port never fails.
        let _ = writeln!($crate::uart::Printer, $($argument)*);
    }};
}

pub(crate) use println;
