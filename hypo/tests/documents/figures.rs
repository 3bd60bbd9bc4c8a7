//! Sizes, times and addresses in documents are the code's.

use super::{read, root};
use bundle::DEVICE_TREE_SLOT;
use regex::Regex;
use std::fs;
use std::path::{Path, PathBuf};
use vmm::footprint::{self, Footprint};

/// *write-xor-execute*: the linker's segments, and what the image maps itself with. The one line with both is the first
/// stage's, which tries modes under a root that maps low addresses to themselves.
#[test]
fn no_page_of_the_image_is_writable_and_executable() {
    let (script, space) = (read("hypocaust/image.ld"), read("crates/hart/src/space.rs"));
    let flags = Regex::new(r"FLAGS\((\d)\)").unwrap();
    let flags: Vec<u8> = flags.captures_iter(&script).map(|found| found[1].parse().unwrap()).collect();
    assert!(flags.len() == 3 && flags.iter().all(|flags| flags & 3 != 3), "{flags:?}");
    let both = |line: &&str| line.contains("Pte::W") && line.contains("Pte::X");
    let lines: Vec<&str> = space.lines().map(str::trim).filter(both).collect();
    let [tried, refused] = lines[..] else { panic!("{lines:?}") };
    assert!(tried.contains("slot as u64 * GIB, LEAF") && refused.starts_with("const BOTH"), "{lines:?}");
}

#[test]
fn the_memory_maps_sizes_are_the_codes() {
    let (document, script) = (read("docs/memory-map.md"), read("hypocaust/image.ld"));
    let (least, more) = (Footprint::with(0, 0), Footprint::with(1 << 20, 0));
    let disk = Footprint::with(0, 1).heap - least.heap;
    let row = |what: &str| {
        let line = document.lines().find(|line| line.starts_with(&format!("| {what}")));
        line.unwrap_or_else(|| panic!("no row for {what}")).rsplit(" | ").next().unwrap()
    };
    let heap = format!(
        "{} MiB; for each guest {} MiB more, with {} bytes for each MiB of its RAM and {} KiB for each of its disks |",
        footprint::HEAP >> 20,
        least.heap >> 20,
        more.heap - least.heap,
        disk >> 10
    );
    assert_eq!(row("the heap"), heap);
    assert_eq!(row("copies of rewritten code pages"), format!("{} MiB |", least.copies >> 8));
    let tables = format!(
        "{} MiB, and {} KiB more for each MiB of guest RAM |",
        least.tables >> 8,
        (more.tables - least.tables) << 2
    );
    assert_eq!(row("shadow tables"), tables);
    let kept = format!(
        "as large as the disk, at most {} MiB; {} MiB of the host's stay free |",
        footprint::MOST_KEPT >> 20,
        footprint::RESERVE >> 20
    );
    assert_eq!(row("what is written to disks"), kept);

    let number = |pattern: &str| -> u64 {
        let found = Regex::new(pattern).unwrap().captures(&script).unwrap_or_else(|| panic!("no {pattern}"));
        found[1].parse().unwrap()
    };
    for phrase in [
        format!("under {} MiB, checked by the linker script", number(r"ASSERT\(__image_size <= (\d+)M,")),
        format!("The stack has {} KiB,", number(r"\. \+= (\d+)K;\s*__stack_top")),
        format!("an emergency stack of {} KiB,", number(r"\. \+= (\d+)K;\s*__emergency_stack_top")),
        format!("the highest {} MiB of RAM below 0xc000_0000", DEVICE_TREE_SLOT >> 20),
    ] {
        assert!(document.replace('\n', " ").contains(&phrase), "{phrase}");
    }
    // The window on a host with Sv39 is what is left above its start, the first GiB for the image and devices.
    let space = read("crates/hart/src/space.rs");
    let window =
        Regex::new(r"SV39_WINDOW: u64 = (0x[0-9a-f_]+);").unwrap().captures(&space).unwrap()[1].to_owned();
    let start = u64::from_str_radix(&window[2..].replace('_', ""), 16).unwrap();
    assert!(document.contains(&format!("| Sv39 | {window}, or ")), "{window}");
    assert!(document.contains(&format!("| {} GiB at that place |", (start.wrapping_neg() >> 30) - 1)));
}

/// Figures in documents, and where the code has them: a phrase, the end of a file's path, a line of it. Who changes one finds
/// the other here.
const FIGURES: &[(&str, &str, &str, &str)] = &[
    (
        "ARCHITECTURE.md",
        "**Copied** once 32 traps came from a page",
        "rewrite/src/heat.rs",
        "const FIRST_LIMIT: u32 = 32;",
    ),
    ("ARCHITECTURE.md", "stored to seventeen times", "rewrite/src/copies.rs", "const PATIENCE: u8 = 16;"),
    (
        "ARCHITECTURE.md",
        "**Bounded**: 1,024 copies for a guest, 4 MiB",
        "vmm/src/footprint.rs",
        "const CODE_COPIES: u64 = 1024;",
    ),
    (
        "ARCHITECTURE.md",
        "compared sixteen times in a row",
        "shadow/watch.rs",
        "const FIRST_LIMIT: u32 = if cfg!(test) { 1 } else { 16 };",
    ),
    (
        "ARCHITECTURE.md",
        "doubles the number of times, up to 256",
        "shadow/watch.rs",
        "const LAST_LIMIT: u32 = if cfg!(test) { 2 } else { 1 << 8 };",
    ),
    (
        "ARCHITECTURE.md",
        "more than 65,536 entries in loose tables",
        "shadow/compare.rs",
        "const MOST: u32 = if cfg!(test) { 96 } else { 1 << 16 };",
    ),
    ("ARCHITECTURE.md", "by the call: 32 chains", "virtio/queue.rs", "const BATCH: usize = 32;"),
    ("ARCHITECTURE.md", "at most 1,024 buffers for disks", "virtio/queue.rs", "const MAX_SIZE: u16 = 1024;"),
    (
        "ARCHITECTURE.md",
        "1,024 buffers for disks and 128 for others",
        "virtio/net.rs",
        "const MAX_SEGMENTS: usize = 128;",
    ),
    (
        "ARCHITECTURE.md",
        "1,024 buffers for disks and 128 for others",
        "virtio/console.rs",
        "const MAX_SEGMENTS: usize = 128;",
    ),
    (
        "ARCHITECTURE.md",
        "1,024 buffers for disks and 128 for others",
        "virtio/entropy.rs",
        "const MAX_SEGMENTS: usize = 128;",
    ),
    (
        "ARCHITECTURE.md",
        "and is at most 2 MiB: larger ones come in parts",
        "virtio/block.rs",
        "const MAX_BYTES: u64 = 2 << 20;",
    ),
    ("ARCHITECTURE.md", "A slot gets 16 steps", "io/disks.rs", "const TURN: usize = 16;"),
    (
        "ARCHITECTURE.md",
        "at most 16 operations for each disk",
        "block/src/disk.rs",
        "const DEPTH: usize = 16;",
    ),
    (
        "ARCHITECTURE.md",
        "set aside at the start, at most 256 MiB for a disk",
        "vmm/src/footprint.rs",
        "const MOST_KEPT: u64 = 256 << 20;",
    ),
    (
        "ARCHITECTURE.md",
        "turns of 16 frames, half of what may wait at a port",
        "net/src/queue.rs",
        "const WAITING: usize = 32;",
    ),
    (
        "ARCHITECTURE.md",
        "turns of 16 frames, half of what may wait at a port",
        "io/nets.rs",
        "const TURN: usize = WAITING / 2;",
    ),
    (
        "ARCHITECTURE.md",
        "guest's store -> uart16550 (256 bytes)",
        "src/uart16550.rs",
        "const TRANSMIT_BUFFER: usize = 256;",
    ),
    (
        "ARCHITECTURE.md",
        "guest's load  <- uart16550 (16 bytes)",
        "uart16550/receiver.rs",
        "const FIFO: usize = 16;",
    ),
    (
        "ARCHITECTURE.md",
        "monitor -> console.rs (16 KiB)",
        "src/console.rs",
        "const OUTPUT_LENGTH: usize = 16 << 10;",
    ),
    (
        "ARCHITECTURE.md",
        "of which a quarter is theirs alone",
        "src/console.rs",
        "const OUTPUT_OF_GUESTS: usize = 12 << 10;",
    ),
    ("ARCHITECTURE.md", "sent for half a millisecond at most", "src/console.rs", "const BURST: u64 = 500;"),
    (
        "ARCHITECTURE.md",
        "monitor (1 KiB) <- console.rs",
        "src/multiplexer.rs",
        "const INPUT: usize = 1 << 10;",
    ),
    (
        "ARCHITECTURE.md",
        "a scroll-back of 64 KiB for each guest",
        "src/multiplexer.rs",
        "const SCROLLBACK: usize = 64 << 10;",
    ),
    (
        "ARCHITECTURE.md",
        "at the latest 8 KiB later",
        "src/multiplexer.rs",
        "const UNATTENDED: u64 = 8 << 10;",
    ),
    (
        "ARCHITECTURE.md",
        "end of its slice of 4 ms",
        "scheduler/src/lib.rs",
        "slice: at_least_one(frequency / 250),",
    ),
    (
        "ARCHITECTURE.md",
        "once that has had 250 µs",
        "scheduler/src/lib.rs",
        "protected: at_least_one(frequency / 4000),",
    ),
    (
        "ARCHITECTURE.md",
        "After 30 seconds output that was not taken",
        "world/src/port.rs",
        "const PATIENCE: u64 = 30;",
    ),
    ("ARCHITECTURE.md", "no delay the first time, 10 ms", "src/backoff.rs", "const FIRST: u64 = 10;"),
    ("ARCHITECTURE.md", "A life of a minute begins anew", "src/backoff.rs", "const LONG_LIFE: u64 = 60;"),
    (
        "ARCHITECTURE.md",
        "firmware takes more than 10 µs for a call that does nothing",
        "timer/alarm.rs",
        "let is_slow = call > frequency / 100_000;",
    ),
    (
        "docs/memory-map.md",
        "above the kernel by half of RAM, at most 128 MiB",
        "hypo/src/layout.rs",
        "const INITRD_DISTANCE: u64 = 128 << 20;",
    ),
    (
        "docs/memory-map.md",
        "below 0xc000_0000; its address is in a1",
        "hypo/src/layout.rs",
        "const DEVICE_TREE_LIMIT: u64 = 3 << 30;",
    ),
    (
        "docs/memory-map.md",
        "| 256 MiB | device registers, RW |",
        "hart/src/space.rs",
        "const DEVICES: u64 = 256 << 20;",
    ),
];

#[test]
fn figures_are_the_codes() {
    let sources =
        ["crates", "hypocaust/src", "hypo/src"].map(|folder| files_below(&root().join(folder))).concat();
    for (document, phrase, file, line) in FIGURES {
        let text = read(document).split_whitespace().collect::<Vec<_>>().join(" ");
        let phrase = phrase.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(text.contains(&phrase), "{document} does not say `{phrase}`");
        let mut texts =
            sources.iter().filter(|path| path.ends_with(file)).map(|path| fs::read_to_string(path).unwrap());
        assert!(texts.any(|text| text.contains(line)), "`{phrase}` in {document}: {file} has no `{line}`");
    }
}

/// The files below a folder.
fn files_below(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files_below(&path) } else { vec![path] }).collect()
}
