//! One of several guests that share a hart, each with a pattern of its own: looks that memory and registers hold nothing
//! when it starts, fills them, sees to it that they keep what they hold while others run, and resets itself; at `END` it
//! powers off. Its kernel command line says which pattern: `poison=a` to `z`, and `poison=-` touches no register.
#![no_std]
#![no_main]

use core::arch::asm;
use features::arena::{peek, poke};
use features::hart_state::SINGLE_ZERO;
use features::poison::{self, floats, has_vectors, memory, set_floats, set_vectors, vectors};
use features::role;
use guest_rt::isa::Interrupt;
use guest_rt::isa::csr::sstatus::{FS, VS};
use guest_rt::time::{FREQUENCY, now};
use guest_rt::{check, csr_clear, csr_set, sbi};

features::feature!(checks);

/// In ticks.
const END: u64 = 2 * FREQUENCY;
const LIFE: u64 = FREQUENCY / 5;

fn checks(_hart: u64, device_tree: u64) {
    let role = role(device_tree, "poison=").as_bytes().first().copied().unwrap_or(b'?');
    let poison = poison::pattern(role);
    let dirty = memory(device_tree).find(|at| peek(*at) != 0).map(|at| (at, peek(at)));
    check!("memory_is_zero", dirty, None);
    memory(device_tree).for_each(|at| poke(at, poison));
    let uses_units = role != b'-';
    let has_vectors = has_vectors();
    if uses_units {
        check!("floating_point_registers_are_zero", floats(), [SINGLE_ZERO; 32]);
        set_floats(poison);
    }
    if uses_units && has_vectors {
        check!("vector_registers_are_zero", vectors().iter().all(|byte| *byte == 0));
        set_vectors(role);
    }
    let (mut floats_keep, mut vectors_keep) = (true, true);
    let end = now() + LIFE;
    csr_set!(SIE, Interrupt::Timer.mask());
    let mut rounds = 0_u64;
    while now() < end {
        if uses_units {
            floats_keep &= floats() == [poison; 32];
            vectors_keep &= !has_vectors || vectors().iter().all(|byte| *byte == role);
        }
        // Off and on again, and others in between.
        rounds += 1;
        if rounds.is_multiple_of(3) {
            csr_clear!(SSTATUS, FS | VS);
        }
        sbi::set_timer(now() + 1000);
        // SAFETY: waits.
        unsafe { asm!("wfi", options(nomem, nostack)) };
    }
    check!("floating_point_registers_keep", floats_keep);
    check!("vector_registers_keep", vectors_keep);
    let changed = memory(device_tree).find(|at| peek(*at) != poison).map(|at| (at, peek(at)));
    check!("memory_keeps", changed, None);
    check!("it_was_not_alone", rounds > 10);
    if now() < END && guest_rt::check::summary("a life") {
        sbi::system_reset(1, 0);
    }
}
