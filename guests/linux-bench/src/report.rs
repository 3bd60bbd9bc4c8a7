//! Lines on the console: `bench NAME ITERATIONS TICKS`, as `cargo xtask bench` reads them.

use crate::system;
use core::fmt::{Arguments, Write};

/// A line under construction; what does not fit is cut off.
struct Line {
    bytes: [u8; 200],
    len: usize,
}

impl Write for Line {
    fn write_str(&mut self, text: &str) -> core::fmt::Result {
        let room = self.bytes.get_mut(self.len..).unwrap_or_default();
        for (place, byte) in room.iter_mut().zip(text.bytes()) {
            *place = byte;
            self.len += 1;
        }
        Ok(())
    }
}

/// Prints a line.
pub fn line(text: Arguments) {
    let mut line = Line { bytes: [0; 200], len: 0 };
    // Writing to a `Line` does not fail.
    let _ = writeln!(line, "{text}");
    system::print(line.bytes.get(..line.len).unwrap_or_default());
}

/// Prints what `iterations` of an operation took, in ticks of the time CSR.
pub fn result(name: &str, iterations: u64, ticks: u64) {
    line(format_args!("bench {name} {iterations} {ticks}"));
}
