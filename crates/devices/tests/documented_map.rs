//! The table of devices in `docs/memory-map.md` says what the board's map says.

use devices::board::MAP;

/// A row of the table: base, size, claimed, name, interrupt.
type Row<'a> = (u64, u64, u64, &'a str, Option<u32>);

/// The rows whose first cell is an address and which have five cells: those of the guest's devices.
fn documented(text: &str) -> Vec<Row<'_>> {
    let row = |line| {
        let mut cells = str::split(line, '|').map(str::trim);
        let (Some(""), Some(base), Some(size), Some(claimed), Some(name), Some(irq), Some("")) = (
            cells.next(),
            cells.next(),
            cells.next(),
            cells.next(),
            cells.next(),
            cells.next(),
            cells.next(),
        ) else {
            return None;
        };
        Some((number(base)?, number(size)?, number(claimed)?, name, irq.parse().ok()))
    };
    text.lines().filter_map(row).collect()
}

fn number(text: &str) -> Option<u64> {
    u64::from_str_radix(&text.strip_prefix("0x")?.replace('_', ""), 16).ok()
}

#[test]
fn the_documented_map_is_the_boards() {
    let text = include_str!("../../../docs/memory-map.md");
    let mut map: Vec<Row<'_>> = MAP
        .iter()
        .map(|region| (region.base.0, region.size, region.claimed, region.name, region.irq))
        .collect();
    map.sort_unstable();
    assert_eq!(documented(text), map);
}
