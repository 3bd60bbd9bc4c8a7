//! The console for the hypervisor's last words, which works at any stage: the firmware's.

use core::fmt;

/// Writes to the firmware's console, with a carriage return before each line feed.
pub struct EarlyConsole;

impl fmt::Write for EarlyConsole {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            if byte == b'\n' {
                crate::firmware::console_putchar(b'\r');
            }
            crate::firmware::console_putchar(byte);
        }
        Ok(())
    }
}
