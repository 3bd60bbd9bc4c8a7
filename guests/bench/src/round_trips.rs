//! Operations that leave the straight line: traps into this guest and returns from them. Each has a trap
//! vector of its own that touches no CSR, so that nothing but the trip is measured.

use crate::timing::{report, ticks};
use core::arch::global_asm;
use guest_rt::isa::csr::sstatus;
use guest_rt::paging::{Pte, Tables};
use guest_rt::{csr_clear, csr_write, paging, trap};

/// Round trips of each kind.
const TRIPS: u64 = 20_000;

/// Where the user's page is mapped.
const USER: u64 = 0x4000_0000;

// The three loops take the number of trips in a0. They are functions of the C convention that use only
// registers which the caller does not expect to be kept; a1 holds what the loop needs.
global_asm!(
    r"
    .pushsection .text
    # An instruction that is illegal everywhere (a write to a read-only CSR) and a vector that goes on after it.
    .balign 4
    illegal_loop:
        .4byte 0xc0001073
    .balign 4
    illegal_vector:
        addi a0, a0, -1
        bnez a0, illegal_loop
        ret

    # sret to the next instruction; the mode to return to is set again each time, which sret_baseline has too.
    .balign 4
    sret_loop:
        lla t0, 2f
        csrw sepc, t0
    1:  csrs sstatus, a1
        sret
    2:  addi a0, a0, -1
        bnez a0, 1b
        ret
    sret_baseline:
        csrs sstatus, a1
        addi a0, a0, -1
        bnez a0, sret_baseline
        ret

    # The user does nothing but ecall. Its vector returns to the ecall, which sepc still names.
    .balign 4
    user_loop:
        csrw sepc, a1
    .balign 4
    user_vector:
        beqz a0, 1f
        addi a0, a0, -1
        sret
    1:  ret

    .balign 4096
    user_page:
        ecall
    .balign 4096
    .popsection
    "
);

unsafe extern "C" {
    safe fn illegal_loop(trips: u64);
    safe fn illegal_vector();
    safe fn sret_loop(trips: u64, previous_supervisor: u64);
    safe fn sret_baseline(trips: u64, previous_supervisor: u64);
    safe fn user_loop(trips: u64, entry: u64);
    safe fn user_vector();
    safe fn user_page();
}

/// Measures and reports all of them.
pub fn measure(tables: &Tables) {
    csr_write!(STVEC, illegal_vector as *const () as u64);
    let illegal = ticks(1, || illegal_loop(TRIPS));
    // The vector's two instructions are part of the loop natively as well; they are the guest's own work.
    trap::install();
    report("own-illegal", TRIPS, illegal);

    let alone = ticks(1, || sret_baseline(TRIPS, sstatus::SPP));
    let both = ticks(1, || sret_loop(TRIPS, sstatus::SPP));
    report("sret", TRIPS, both.saturating_sub(alone));

    tables.map(USER, user_page as *const () as u64, 0, Pte::V | Pte::R | Pte::X | Pte::U | Pte::A | Pte::D);
    paging::fence_all();
    csr_write!(STVEC, user_vector as *const () as u64);
    // From here on sret goes to user mode.
    csr_clear!(SSTATUS, sstatus::SPP | sstatus::SPIE);
    let user = ticks(1, || user_loop(TRIPS, USER));
    trap::install();
    report("user-ecall", TRIPS, user);
}
