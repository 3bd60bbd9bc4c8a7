//! Addresses. The *core* is this program with its stack and its own page tables. The *field* is the memory behind it, in
//! which everything else happens: rings, buffers, tables, code. What is broken there breaks no rule of this program, so it
//! lives as long as it is to.

use features::poison::{RAM, RAM_END};
use features::random::Random;
use guest_rt::image;
use guest_rt::mmio::{BEYOND_RAM, HOLE, PLIC, RTC, UART, VIRTIO};
use guest_rt::paging::PAGE;

/// The first byte of the field: a multiple of 2 MiB, so that no large page of it has a piece of the core.
pub fn field() -> u64 {
    image::data().end.next_multiple_of(2 << 20)
}

/// Where the field ends: at the device tree.
pub const FIELD_END: u64 = RAM_END - features::poison::TREE;

/// The page of code for supervisor mode: the field's first. Only its second half is ever written but by `code.rs`, and
/// nothing that is written begins before it.
pub fn code() -> u64 {
    field()
}

/// Tables, which devices write, too.
pub fn table(n: u64) -> u64 {
    field() + PAGE * (1 + n % TABLES)
}

/// How many tables there are.
pub const TABLES: u64 = 14;

/// The code for user mode.
pub fn user_code() -> u64 {
    field() + PAGE * 15
}

/// The pages of a queue: descriptors, ring of what is available, ring of what is used, headers and statuses.
pub fn rings(slot: u64, queue: u64) -> u64 {
    field() + PAGE * (16 + 4 * (3 * slot + queue % 3))
}

/// Some page of the field.
pub fn page(tape: &mut Random) -> u64 {
    let first = field() + PAGE;
    first + PAGE * tape.below((FIELD_END - first) / PAGE)
}

/// Whether an address is the core's.
pub fn is_core(address: u64) -> bool {
    (RAM..code() + PAGE).contains(&address)
}

/// An address in the field, or one that is no memory at all. Never one in the core.
pub fn address(tape: &mut Random) -> u64 {
    match tape.below(16) {
        0..=4 => page(tape),
        5 => page(tape) + tape.below(PAGE),
        6 => table(tape.number()) + tape.below(PAGE / 8) * 8,
        7 => code() + PAGE / 2 + tape.below(PAGE / 2),
        8 => user_code() + tape.below(PAGE),
        9 | 10 => rings(tape.below(8), tape.below(3)) + tape.below(4 * PAGE),
        11 => RAM_END - 1 - tape.below(PAGE),
        12 => outside(tape),
        13 => outside(tape).wrapping_add(tape.below(PAGE)),
        14 => page(tape) + PAGE - 1 - tape.below(16),
        _ => tape.number() | 1 << tape.pick(&[32, 40, 55, 56, 63]),
    }
}

/// An address that is no memory.
pub fn outside(tape: &mut Random) -> u64 {
    let size = RAM_END - RAM;
    tape.pick(&[
        0,
        UART,
        PLIC,
        RTC,
        VIRTIO,
        HOLE,
        RAM - 1,
        RAM_END,
        // What lies behind it in the host: another guest, tables, the hypervisor.
        RAM_END + size,
        RAM + 0x400_0000,
        RAM + 0x1000_0000,
        BEYOND_RAM,
        (1 << 56) - PAGE,
        1 << 63,
        u64::MAX - 7,
        u64::MAX,
    ])
}
