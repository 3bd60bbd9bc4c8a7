//! One of several guests that share a hart: works, or does its worst to get more than its share, from `START` to `END` on
//! the clock that all of them see, then says how often it went round, and for how long it had to wait, as it is told by
//! the SBI. Its kernel command line says how: `share=spin`,
//! `traps`, `interrupts`, `past` or `naps`.
#![no_std]
#![no_main]

use core::arch::{asm, naked_asm};
use features::role;
use guest_rt::isa::Interrupt;
use guest_rt::time::{FREQUENCY, now};
use guest_rt::{csr_clear, csr_read, csr_set, csr_write, println, sbi, steal};

guest_rt::entry!(main);

/// In ticks.
const START: u64 = FREQUENCY / 2;
const END: u64 = START + 10 * FREQUENCY;
/// Rounds between two looks at the clock, of two instructions each.
const ROUNDS: u64 = 10_000;

fn main(_hart: u64, device_tree: u64) {
    csr_write!(SIE, Interrupt::Timer.mask());
    sbi::set_timer(START);
    while now() < START {
        wait();
    }
    csr_write!(SIE, 0u64);
    let told = steal::begin();
    let role = role(device_tree, "share=");
    let rounds = match role {
        "spin" => spin(),
        "traps" => trap(),
        "interrupts" => interrupt(),
        "past" => be_late(),
        "naps" => nap(),
        _ => panic!("share={role} is no role"),
    };
    let stolen = steal::stolen();
    println!("share {role}: {rounds} rounds, {stolen} ns stolen, {told}");
}

fn wait() {
    // SAFETY: waits.
    unsafe { asm!("wfi", options(nomem, nostack)) };
}

/// Works.
fn spin() -> u64 {
    let mut rounds = 0;
    while now() < END {
        // SAFETY: counts.
        unsafe {
            asm!("2:", "addi {0}, {0}, -1", "bnez {0}, 2b", inout(reg) ROUNDS => _, options(nomem, nostack))
        };
        rounds += ROUNDS;
    }
    rounds
}

/// Exits of several kinds, one after the other.
fn trap() -> u64 {
    let mut rounds = 0;
    while now() < END {
        sbi::call2(sbi::BASE, 0, 0, 0);
        csr_set!(SIE, 1u64 << 9);
        // SAFETY: there is no translation to forget.
        unsafe { asm!("sfence.vma", options(nostack)) };
        rounds += 1;
    }
    rounds
}

/// Interrupts itself, and takes each.
fn interrupt() -> u64 {
    csr_write!(STVEC, acknowledge as *const () as u64);
    csr_set!(SIE, Interrupt::Software.mask());
    csr_set!(SSTATUS, 2u64);
    let mut rounds = 0;
    while now() < END {
        sbi::send_ipi(1, 0);
        rounds += 1;
    }
    csr_clear!(SSTATUS, 2u64);
    rounds
}

/// The vector of `interrupt`.
#[unsafe(naked)]
unsafe extern "C" fn acknowledge() {
    naked_asm!(".balign 4", "csrci sip, 2", "sret")
}

/// Sets its timer to a time in the past and lets it interrupt on and on.
fn be_late() -> u64 {
    csr_write!(STVEC, interrupted_again as *const () as u64);
    csr_write!(SSCRATCH, END);
    csr_set!(SIE, Interrupt::Timer.mask());
    sbi::set_timer(0);
    let rounds;
    // SAFETY: the vector changes t0, t1 and t2 only, and switches its interrupt off at the end.
    unsafe {
        asm!("li t2, 0", "csrsi sstatus, 2", "2:", "csrr t0, sie", "bnez t0, 2b", "csrci sstatus, 2",
            out("t0") _, out("t1") _, out("t2") rounds, options(nostack));
    }
    rounds
}

/// The vector of `be_late`: t2 counts.
#[unsafe(naked)]
unsafe extern "C" fn interrupted_again() {
    naked_asm!(
        ".balign 4",
        "addi t2, t2, 1",
        "rdtime t0",
        "csrr t1, sscratch",
        "bltu t0, t1, 2f",
        "csrw sie, zero",
        "2:",
        "sret"
    )
}

/// Sleeps for some microseconds, works for some more, over and over, so as to be the one that has just woken up.
fn nap() -> u64 {
    csr_set!(SIE, Interrupt::Timer.mask());
    let mut rounds = 0;
    while now() < END {
        sbi::set_timer(now() + 50);
        wait();
        let awake = now();
        while now() < awake + 300 && csr_read!(SIE) != 0 {
            rounds += 1;
        }
    }
    rounds
}
