//! Numbers, sizes and tables as the operator reads them.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt::{self, Write};

/// A number with a comma at each thousand.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (n, digit) in digits.chars().enumerate() {
        if n > 0 && (digits.len() - n).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A length of time, in nanoseconds: hundredths of seconds, and from an hour on hours and minutes.
pub fn duration(nanoseconds: u64) -> String {
    let seconds = nanoseconds / 1_000_000_000;
    if seconds < 3600 {
        return format!("{seconds}.{:02} s", nanoseconds / 10_000_000 % 100);
    }
    format!("{}:{:02}:{:02}", grouped(seconds / 3600), seconds / 60 % 60, seconds % 60)
}

/// A number of bytes, in the largest unit that leaves a whole number.
pub fn size(bytes: u64) -> String {
    let units = [("GiB", 30), ("MiB", 20), ("KiB", 10)];
    let unit = units.iter().find(|(_, shift)| bytes > 0 && bytes.is_multiple_of(1 << shift));
    unit.map_or_else(
        || format!("{} bytes", grouped(bytes)),
        |(name, shift)| format!("{} {name}", grouped(bytes >> shift)),
    )
}

/// How many in a second, where `count` came in `nanoseconds`; `None` where no time has passed.
pub fn rate(count: u64, nanoseconds: u64) -> Option<u64> {
    let rate = (u128::from(count) * 1_000_000_000).checked_div(u128::from(nanoseconds))?;
    Some(u64::try_from(rate).unwrap_or(u64::MAX))
}

/// `part` of `whole`, in tenths of per cent.
pub fn share(part: u64, whole: u64) -> String {
    let tenths =
        (u128::from(part) * 1000 + u128::from(whole) / 2).checked_div(u128::from(whole)).unwrap_or(0);
    format!("{}.{} %", tenths / 10, tenths % 10)
}

/// To which side a column's cells are set.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Side {
    /// Text.
    Left,
    /// Numbers.
    Right,
}

/// Rows under a heading, each column as wide as its widest cell.
#[derive(Debug)]
pub struct Table {
    columns: &'static [(&'static str, Side)],
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table without rows.
    pub const fn new(columns: &'static [(&'static str, Side)]) -> Self {
        Self { columns, rows: Vec::new() }
    }

    /// Adds a row, one cell for each column.
    pub fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().collect());
    }

    fn width(&self, column: usize, name: &str) -> usize {
        let cells = self.rows.iter().filter_map(|row| row.get(column)).map(String::len);
        cells.max().unwrap_or(0).max(name.len())
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let widths: Vec<usize> =
            self.columns.iter().enumerate().map(|(n, (name, _))| self.width(n, name)).collect();
        let mut line = |cells: &mut dyn Iterator<Item = &str>| {
            let mut text = String::new();
            for ((cell, (_, side)), &width) in cells.zip(self.columns).zip(&widths) {
                let gap = if text.is_empty() { "" } else { "  " };
                match side {
                    Side::Left => write!(text, "{gap}{cell:<width$}")?,
                    Side::Right => write!(text, "{gap}{cell:>width$}")?,
                }
            }
            writeln!(f, "{}", text.trim_end())
        };
        line(&mut self.columns.iter().map(|(name, _)| *name))?;
        self.rows.iter().try_for_each(|row| line(&mut row.iter().map(String::as_str)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_readable() {
        assert_eq!(grouped(0), "0");
        assert_eq!(grouped(999), "999");
        assert_eq!(grouped(1_234), "1,234");
        assert_eq!(grouped(u64::MAX), "18,446,744,073,709,551,615");
        assert_eq!(duration(1_234_567_890), "1.23 s");
        assert_eq!(duration(3_600_000_000_000), "1:00:00");
        assert_eq!(size(512 << 20), "512 MiB");
        assert_eq!(size(3 << 30), "3 GiB");
        assert_eq!(size(1536), "1,536 bytes");
        assert_eq!(size(0), "0 bytes");
        assert_eq!(rate(10, 2_000_000_000), Some(5));
        assert_eq!(rate(10, 0), None);
        assert_eq!(rate(u64::MAX, 1), Some(u64::MAX));
        assert_eq!(share(1, 3), "33.3 %");
        assert_eq!(share(2, 3), "66.7 %");
        assert_eq!(share(1, 0), "0.0 %");
    }

    #[test]
    fn columns_are_as_wide_as_their_cells() {
        let mut table = Table::new(&[("NAME", Side::Left), ("N", Side::Right)]);
        table.row(["a".into(), "1,000".into()]);
        table.row(["longer".into(), "1".into()]);
        assert_eq!(table.to_string(), "NAME        N\na       1,000\nlonger      1\n");
    }
}
