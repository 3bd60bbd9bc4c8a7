//! The healthy neighbour of `fuzz`: sums up its memory again and again, and computes with registers of all kinds, beside a
//! guest that does all it can. Its sums stay the same, its registers keep what they hold, nothing of the other's turns up,
//! and it is not late. It begins a new life from time to time, to see that the memory that it gets is new.
//!
//! Its command line: `until=MILLISECONDS`, of the clock that all guests have.
#![no_std]
#![no_main]

use core::arch::asm;
use features::arena::{peek, poke};
use features::hart_state::SINGLE_ZERO;
use features::poison::{self, floats, has_vectors, memory, set_floats, set_vectors, vectors};
use features::role;
use guest_rt::isa::csr::sstatus::FS_INITIAL;
use guest_rt::time::{FREQUENCY, now};
use guest_rt::{check, csr_set, image, sbi};

features::feature!(checks);

/// The patterns.
const OWN: u8 = b's';
const NEIGHBOUR: u8 = b'x';
/// Lives.
const LIVES: u64 = 3;
/// The longest that it may stand still, in ticks: several of the neighbour's turns.
const LATE: u64 = FREQUENCY / 40;

fn checks(_hart: u64, device_tree: u64) {
    let Ok(until) = role(device_tree, "until=").parse::<u64>() else { panic!("until= is no number") };
    let all = until * (FREQUENCY / 1000);
    let life = 1 + now() * LIVES / all;
    let end = (all * life / LIVES).min(all);
    let dirty = memory(device_tree).find(|at| peek(*at) != 0).map(|at| (at, peek(at)));
    check!("memory_is_zero", dirty, None);
    check!("floating_point_registers_are_zero", floats(), [SINGLE_ZERO; 32]);
    let has_vectors = has_vectors();
    if has_vectors {
        check!("vector_registers_are_zero", vectors().iter().all(|byte| *byte == 0));
    }

    let own = poison::pattern(OWN);
    memory(device_tree).for_each(|at| poke(at, own));
    let (first, code) = (sum(memory(device_tree)), sum(constants()));
    check!("memory_is_what_was_written", first, own.wrapping_mul(memory(device_tree).count() as u64));
    set_floats(own);
    if has_vectors {
        set_vectors(OWN);
    }
    let products = product();
    let (mut rounds, mut latest, mut wrong) = (0_u64, 0, 0_u64);
    let mut before = now();
    let mut part = Part { device_tree, next: 0 };
    while before < end {
        wrong += u64::from(!part.is_right(own));
        wrong += u64::from(floats() != [own; 32]);
        wrong += u64::from(has_vectors && vectors().iter().any(|byte| *byte != OWN));
        wrong += u64::from(product() != products);
        let now = now();
        latest = now.wrapping_sub(before).max(latest);
        before = now;
        rounds += 1;
    }
    let other = poison::pattern(NEIGHBOUR);
    check!("every_round_is_right", wrong, 0);
    check!("nothing_of_the_neighbour_is_seen", memory(device_tree).find(|at| peek(*at) == other), None);
    check!("memory_keeps", sum(memory(device_tree)), first);
    check!("code_keeps", sum(constants()), code);
    check!("it_was_never_late", latest < LATE);
    check!("it_had_its_turns", rounds > 100);
    guest_rt::println!(
        "sibling: life {life}, {rounds} rounds, at most {} us late",
        latest / (FREQUENCY / 1_000_000)
    );
    if life < LIVES && guest_rt::check::summary("a life") {
        sbi::system_reset(1, 0);
    }
}

/// Memory, a piece at a time.
struct Part {
    device_tree: u64,
    next: usize,
}

impl Part {
    const WORDS: usize = 1024;

    /// Whether the next piece is all `value`.
    fn is_right(&mut self, value: u64) -> bool {
        let mut words = memory(self.device_tree).skip(self.next).take(Self::WORDS).peekable();
        if words.peek().is_none() {
            self.next = 0;
            return true;
        }
        self.next += Self::WORDS;
        words.all(|at| peek(at) == value)
    }
}

fn sum(words: impl Iterator<Item = u64>) -> u64 {
    words.map(peek).fold(0, u64::wrapping_add)
}

/// The words of the program that nobody writes.
fn constants() -> impl Iterator<Item = u64> {
    (image::text().start..image::rodata().end).step_by(8)
}

/// 1.5 to the power of 20, in floating point.
fn product() -> u64 {
    let bits;
    csr_set!(SSTATUS, FS_INITIAL);
    // SAFETY: registers that Rust does not use; f0 and f1 get back what they had.
    unsafe {
        asm!(".option push", ".option arch, +d",
            "fmv.x.d {keep}, f0", "fmv.d.x f0, {factor}", "fmv.x.d {other}, f1", "fmv.d.x f1, {factor}",
            "li {count}, 19", "2:", "fmul.d f0, f0, f1", "addi {count}, {count}, -1", "bnez {count}, 2b",
            "fmv.x.d {bits}, f0", "fmv.d.x f0, {keep}", "fmv.d.x f1, {other}",
            ".option pop", keep = out(reg) _, other = out(reg) _, count = out(reg) _, bits = out(reg) bits,
            factor = in(reg) 1.5_f64.to_bits(), options(nomem, nostack));
    }
    bits
}
