//! Registers of all devices: every offset, width and kind of access.

use crate::raw::{self, Form};
use crate::tape::value;
use features::random::Random;
use guest_rt::finisher;
use guest_rt::mmio::{PLIC, RTC, UART, VIRTIO};

/// Does something to a register; gives what it read, if it did.
pub fn poke(tape: &mut Random, last: u64) -> u64 {
    let address = register(tape);
    let form = Form::any(tape);
    if tape.one_in(2) && !is_last(address) {
        let value = if tape.one_in(4) { last } else { value(tape) };
        raw::store(form, address, value);
        value
    } else {
        raw::load(form, address)
    }
}

/// A word that is not aligned may begin before it.
fn is_last(address: u64) -> bool {
    address + 8 > finisher::ADDRESS && address < finisher::ADDRESS + 4
}

fn register(tape: &mut Random) -> u64 {
    let (base, size) = match tape.below(12) {
        0 | 1 => (UART, 8),
        2 => (UART, 0x100),
        3 => (PLIC, 0x80),
        4 => (PLIC + tape.pick(&[0x1000, 0x2000, 0x2080, 0x20_0000, 0x20_1000]), 0x10),
        5 => (PLIC, 0x60_0000),
        6 => (RTC, tape.pick(&[0x20, 0x1000])),
        7 => (finisher::ADDRESS, 0x1000),
        _ => (VIRTIO + 0x1000 * tape.below(8), tape.pick(&[0x70, 0x100, 0x140, 0x1000])),
    };
    let offset = tape.below(size);
    // Most registers are whole words.
    let aligned = base + if tape.one_in(4) { offset } else { offset & !3 };
    if tape.one_in(64) { base + size - 1 } else { aligned }
}
