//! Formatted printing through the `write` call, a line at a time.

use crate::sys;
use core::fmt::{self, Write};

/// Collects formatted text and writes it out at its end, so that a line is one system call and the lines of
/// several processes do not mix.
pub struct Line {
    bytes: [u8; 128],
    len: usize,
}

impl Line {
    /// Formats and writes.
    pub fn print(arguments: fmt::Arguments) {
        let mut line = Self { bytes: [0; 128], len: 0 };
        // Writing to memory never fails; a formatter that does has nowhere to say so.
        let _ = line.write_fmt(arguments);
        line.flush();
    }

    fn flush(&mut self) {
        sys::write(&self.bytes[..self.len]);
        self.len = 0;
    }
}

impl Write for Line {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            if self.len == self.bytes.len() {
                self.flush();
            }
            self.bytes[self.len] = byte;
            self.len += 1;
        }
        Ok(())
    }
}

/// Prints formatted text.
#[macro_export]
macro_rules! print {
    ($($argument:tt)*) => { $crate::print::Line::print(format_args!($($argument)*)) };
}

/// Prints formatted text and a line end.
#[macro_export]
macro_rules! println {
    () => { $crate::print!("\n") };
    ($($argument:tt)*) => { $crate::print!("{}\n", format_args!($($argument)*)) };
}
