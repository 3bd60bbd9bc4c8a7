//! Polled output on the machine's 16550 UART, and the print macros. Input and interrupts are the guest's own.

use core::fmt::{self, Write};

/// Physical address of the UART's registers on QEMU `virt`.
pub const UART: u64 = 0x1000_0000;

const TRANSMIT: *mut u8 = UART as *mut u8;
const LINE_STATUS: *const u8 = (UART + 5) as *const u8;
/// LSR: the transmit holding register is empty.
const THR_EMPTY: u8 = 1 << 5;

/// Sends one byte as soon as the UART takes it.
pub fn put(byte: u8) {
    // SAFETY: both are registers of the UART, mapped one to one by all page tables of ours.
    unsafe {
        while LINE_STATUS.read_volatile() & THR_EMPTY == 0 {}
        TRANSMIT.write_volatile(byte);
    }
}

/// The console as a formatter's sink; `\n` goes out as `\r\n`.
pub struct Console;

impl Write for Console {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            if byte == b'\n' {
                put(b'\r');
            }
            put(byte);
        }
        Ok(())
    }
}

/// Prints formatted text on the console.
#[macro_export]
macro_rules! print {
    ($($arg:tt)*) => {{
        use core::fmt::Write as _;
        let _ = write!($crate::console::Console, $($arg)*); // The console never fails.
    }};
}

/// Prints formatted text and a line end on the console.
#[macro_export]
macro_rules! println {
    () => { $crate::print!("\n") };
    ($($arg:tt)*) => { $crate::print!("{}\n", format_args!($($arg)*)) };
}
