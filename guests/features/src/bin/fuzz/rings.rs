//! Virtqueues of all devices: set up half rightly, filled with chains that are mostly right, and changed at every moment.
//! Virtio 1.2, "Virtio Over MMIO", "Split Virtqueues".

use crate::places::{self, page, rings};
use crate::tape::value;
use features::arena::{peek, poke};
use features::random::Random;
use guest_rt::mmio::{VIRTIO, read32, write32};
use guest_rt::paging::PAGE;
use guest_rt::virtio::SLOTS;
use guest_rt::virtio::register::*;

const NEXT: u64 = 1;
const WRITE: u64 = 2;
const INDIRECT: u64 = 4;
const NEEDS_RESET: u32 = 64;
/// A console's device ID.
const CONSOLE: u32 = 3;

/// What a slot was set up as.
#[derive(Clone, Copy, Default)]
pub struct Queue {
    size: u64,
    available: u16,
    /// Where the available ring is, and the used one; 0 is nowhere.
    rings: [u64; 2],
}

/// What this driver knows of all queues.
#[derive(Default)]
pub struct Driver {
    queues: [[Queue; 3]; SLOTS as usize],
    devices: [u32; SLOTS as usize],
    /// Chains that devices have given back, and devices that were found broken.
    pub answered: u64,
    /// See `answered`.
    pub broken: u64,
}

/// A slot: those that have a device come first.
pub fn slot(tape: &mut Random) -> u64 {
    tape.pick(&[0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7])
}

const fn base(slot: u64) -> u64 {
    VIRTIO + 0x1000 * slot
}

impl Driver {
    /// Goes through what a driver does at first with the device in a slot, with a step left out or done wrong here and there.
    pub fn set_up(&mut self, tape: &mut Random, slot: u64) {
        let base = base(slot);
        self.devices[slot as usize] = read32(base + DEVICE);
        self.broken += u64::from(read32(base + STATUS) & NEEDS_RESET != 0);
        if !tape.one_in(16) {
            write32(base + STATUS, 0);
        }
        write32(base + STATUS, 3);
        let kinds = tape.below(4);
        for half in 0..2 {
            write32(base + DEVICE_FEATURES_SEL, half);
            write32(base + DRIVER_FEATURES_SEL, half);
            let offered = read32(base + DEVICE_FEATURES);
            let taken = match kinds {
                0 | 1 => offered,
                2 => offered & tape.number() as u32 | half,
                _ => offered | value(tape) as u32 & 0x3fff_ffff,
            };
            write32(base + DRIVER_FEATURES, taken);
        }
        write32(base + STATUS, 11);
        for queue in 0..tape.pick(&[1, 2, 2, 3]) {
            self.set_up_queue(tape, slot, queue);
        }
        if !tape.one_in(16) {
            write32(base + STATUS, 15);
        }
    }

    fn set_up_queue(&mut self, tape: &mut Random, slot: u64, queue: u64) {
        let base = base(slot);
        write32(base + QUEUE_SEL, queue as u32);
        let most = u64::from(read32(base + QUEUE_NUM_MAX));
        let size = match tape.below(10) {
            0 => tape.pick(&[0, 1, 3, most + 1, 0x8000, 0xffff, 0x1_0000]),
            1 => most,
            _ => tape.pick(&[2, 4, 8, 16, 32]),
        };
        write32(base + QUEUE_NUM, size as u32);
        let memory = rings(slot, queue);
        // Both kinds of registers, whatever the transport: it has to pass by what is not its own.
        write32(base + GUEST_PAGE_SIZE, tape.pick(&[4096_u64, 4096, 4096, 0, 3, 1 << 31]) as u32);
        write32(base + QUEUE_ALIGN, tape.pick(&[4096_u64, 4096, 4096, 0, 2, 48, 0xffff_ffff]) as u32);
        let page = if tape.one_in(30) { value(tape) } else { memory / PAGE };
        write32(base + QUEUE_PFN, page as u32);
        let size_here = size.clamp(1, 256).next_power_of_two();
        let before = self.queues[slot as usize][queue as usize];
        if before.rings[1] != 0 {
            // As far as it is what the device wrote.
            let answered = peek(before.rings[1]) >> 16 & 0xffff;
            self.answered += answered.min(u64::from(before.available));
        }
        // A legacy queue is in one piece, with the used ring in a page of its own.
        let is_legacy = read32(base + VERSION) == 1;
        let places = if is_legacy {
            [memory + 16 * size_here, (memory + 18 * size_here + 4).next_multiple_of(PAGE)]
        } else {
            [memory + PAGE, memory + 2 * PAGE]
        };
        for (n, register) in [QUEUE_DESC, QUEUE_DRIVER, QUEUE_DEVICE].into_iter().enumerate() {
            let right = memory + n as u64 * PAGE;
            let address = if tape.one_in(60) { places::address(tape) } else { right };
            write32(base + register, address as u32);
            write32(base + register + 4, (address >> 32) as u32);
        }
        for at in (memory + 16 * size_here..memory + 3 * PAGE).step_by(8) {
            poke(at, 0);
        }
        self.queues[slot as usize][queue as usize] = Queue { size: size_here, available: 0, rings: places };
        write32(base + QUEUE_READY, 1);
    }

    /// Offers chains to a device. Some are wrong, and some are changed when the device has them.
    pub fn offer(&mut self, tape: &mut Random) {
        let (slot, number) = (slot(tape), tape.pick(&[0, 0, 0, 1, 1, 2]));
        if read32(base(slot) + STATUS) & (NEEDS_RESET | 4) != 4 && !tape.one_in(8) {
            self.set_up(tape, slot);
        }
        let memory = rings(slot, number);
        let queue = self.queues[slot as usize][number as usize];
        let (size, device) = (queue.size.max(1), self.devices[slot as usize]);
        let available = if queue.rings[0] == 0 { memory + PAGE } else { queue.rings[0] };
        let mut index = queue.available;
        let count = tape.pick(&[1, 1, 1, 2, 4, 16]);
        let mut head = tape.below(size);
        for _ in 0..count {
            poke16(available + 4 + 2 * (u64::from(index) % size), wrong(tape, 40, head) as u16);
            head = chain(tape, memory, device, number, head, size);
            index = index.wrapping_add(1);
        }
        // All are there now, or as many as no ring holds.
        let told = if tape.one_in(48) { index.wrapping_add(value(tape) as u16) } else { index };
        poke16(available, tape.pick(&[0, 0, 1, 0xffff]));
        poke16(available + 2, told);
        self.queues[slot as usize][number as usize].available = told;
        if !tape.one_in(8) {
            write32(base(slot) + QUEUE_NOTIFY, number as u32);
        }
        match tape.below(16) {
            0 => write32(base(slot) + STATUS, 0),
            1 | 2 => scribble(tape, slot, number),
            3 => write32(base(slot) + QUEUE_READY, 0),
            _ => {}
        }
    }

    /// Takes a broken or finished device up again as it was, the indices, too.
    pub fn acknowledge(&mut self, tape: &mut Random) {
        let base = base(slot(tape));
        write32(base + INTERRUPT_ACK, read32(base + INTERRUPT_STATUS));
    }
}

/// Changes words of a ring, whoever has it now.
pub fn mutate(tape: &mut Random) {
    let (slot, queue) = (slot(tape), tape.below(3));
    for _ in 0..1 + tape.below(4) {
        scribble(tape, slot, queue);
    }
    if tape.one_in(2) {
        write32(base(slot) + QUEUE_NOTIFY, queue as u32);
    }
}

/// One notification after the other.
pub fn flood(tape: &mut Random) {
    let base = base(slot(tape));
    let queue = wrong(tape, 4, 0) as u32;
    for _ in 0..1 + tape.below(64) {
        write32(base + QUEUE_NOTIFY, queue);
    }
}

/// Resets one device, or all, and does not look whether they are.
pub fn reset(tape: &mut Random) {
    let slots = if tape.one_in(8) { 0..SLOTS } else { 0..1 };
    let first = slot(tape);
    for slot in slots {
        write32(base((first + slot) % SLOTS) + STATUS, 0);
    }
}

/// Takes back what consoles still have to print.
pub fn silence() {
    for base in (0..SLOTS).map(base).filter(|base| read32(base + DEVICE) == CONSOLE) {
        write32(base + STATUS, 0);
    }
}

fn scribble(tape: &mut Random, slot: u64, queue: u64) {
    let memory = rings(slot, queue);
    match tape.below(4) {
        // A descriptor's address, or its length, flags and next.
        0 | 1 => poke(memory + 8 * tape.below(64), value(tape)),
        2 => poke16(memory + PAGE + 2 * tape.below(36), value(tape) as u16),
        _ => poke16(memory + 2 * PAGE + 2 * tape.below(130), value(tape) as u16),
    }
}

/// Writes a chain that begins at `head`; gives the descriptor behind it.
fn chain(tape: &mut Random, memory: u64, device: u32, queue: u64, head: u64, size: u64) -> u64 {
    let data = page(tape);
    let header = memory + 3 * PAGE + 64 * (head % 64);
    let pieces = tape.pick(&[1, 1, 2, 4, 9]).min(size);
    let to_device = queue == 1 || device == 2 && tape.one_in(2);
    let mut all = [(0, 0, 0); 12];
    let mut count = 0;
    let mut put = |piece| {
        all[count] = piece;
        count += 1;
    };
    if device == 2 {
        block_header(tape, header, to_device);
        put((header, 16, 0));
    }
    for _ in 0..pieces {
        let len = tape.pick(&[1, 12, 16, 60, 512, 512, 1024, 1526, 4096, 0x1_0000]);
        let data = data + 512 * tape.below(8);
        let flags = if to_device { 0 } else { WRITE };
        put((wrong(tape, 80, data), wrong(tape, 80, len), flags));
    }
    if device == 2 {
        put((header + 32, 1, WRITE));
    }
    if tape.one_in(8) {
        // The same in a table of its own, which holds itself now and then.
        let table = places::table(tape.number());
        for (n, piece) in all[..count].iter().enumerate() {
            let more = if n + 1 < count { NEXT } else { 0 };
            let nested = if tape.one_in(32) { INDIRECT } else { 0 };
            descriptor(table, n as u64, piece.0, piece.1, piece.2 | more | nested, n as u64 + 1);
        }
        let len = wrong(tape, 16, 16 * count as u64);
        descriptor(memory, head, table, len, wrong(tape, 16, INDIRECT), head);
        return (head + 1) % size;
    }
    for (n, piece) in all[..count].iter().enumerate() {
        let more = if n + 1 < count { NEXT } else { 0 };
        let at = (head + n as u64) % size;
        // A loop, where it leads back.
        let next = wrong(tape, 120, (at + 1) % size);
        descriptor(memory, at, piece.0, piece.1, wrong(tape, 120, piece.2 | more), next);
    }
    (head + count as u64) % size
}

/// Virtio 1.2, "Block Device", "Device Operation".
fn block_header(tape: &mut Random, header: u64, to_device: bool) {
    let kind = if to_device { 1 } else { 0 };
    let other = tape.pick(&[4, 8, 11, 13, 2, 0xffff_ffff]);
    poke(header, if tape.one_in(5) { other } else { kind });
    let sector = tape.below(8192);
    poke(header + 8, wrong(tape, 16, sector));
    poke(header + 32, 0xff);
}

fn descriptor(table: u64, n: u64, address: u64, len: u64, flags: u64, next: u64) {
    poke(table + 16 * n, address);
    poke(table + 16 * n + 8, len & 0xffff_ffff | (flags & 0xffff) << 32 | (next & 0xffff) << 48);
}

fn poke16(address: u64, value: u16) {
    // SAFETY: in the field, where nothing of Rust's lies.
    unsafe { (address as *mut u16).write_volatile(value) }
}

/// The value, or one time in `times` another.
fn wrong(tape: &mut Random, times: u64, right: u64) -> u64 {
    if tape.one_in(times) { value(tape) } else { right }
}
