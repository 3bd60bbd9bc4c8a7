//! Timer interrupts in hot code: each arrives at an instruction of the original, none while interrupts are off, no register
//! changes, and what was counted agrees.
#![no_std]
#![no_main]

use core::arch::{asm, global_asm};
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};
use features::arena::{Arena, DATA};
use features::hot;
use features::modes;
use guest_rt::isa::Interrupt::Timer;
use guest_rt::isa::csr::sstatus::SIE;
use guest_rt::paging::{self, Pte, RWX};
use guest_rt::{check, csr_clear, csr_read, csr_swap, csr_write, sbi, time};

features::feature!(checks);

/// Interrupts to see in each run.
const INTERRUPTS: u64 = 1500;
/// Turns of the loop in one call.
const TURNS: u64 = 200;
/// Seconds that a run may take.
const LIMIT: u64 = 30;

fn checks(_hart: u64, _device_tree: u64) {
    interrupted("untranslated", None);
    for mode in modes() {
        let arena = Arena::new(mode);
        interrupted(if mode.levels() == 3 { "sv39" } else { "sv48" }, Some(&arena));
        paging::deactivate();
    }
}

features::code! {
    /// a0 turns. Gives in a0 the bits that sstatus had while interrupts were off, in a1 what it had not while they were on,
    /// in a2 the turns that were counted by sscratch.
    fn code =
        "li t2, 0", "li t3, 0", "csrw sscratch, zero", "li a3, 2",
        "1: csrrci t0, sstatus, 2",
        "not t1, t0", "and t1, t1, a3", "or t3, t3, t1",
        "csrr t1, sstatus", "or t2, t2, t1",
        "csrr t0, sstatus", "or t2, t2, t0",
        "csrrsi zero, sstatus, 2",
        "csrr t1, sscratch", "addi t1, t1, 1", "csrw sscratch, t1",
        "csrrs t0, sstatus, a3", "not t0, t0", "and t0, t0, a3", "or t3, t3, t0",
        "csrrc t0, sie, zero",
        "addi a0, a0, -1", "bnez a0, 1b",
        "and a0, t2, a3", "mv a1, t3", "csrr a2, sscratch", "ret";
}

/// Bytes from which on interrupts are on for the first time, and those of the instructions that are executed with interrupts
/// off: behind the csrrci, up to and with the csrrsi.
const OFF: core::ops::RangeInclusive<u64> = 5 * 4..=12 * 4;

/// How often an interrupt's sepc was at each half of the code, by the vector.
static ARRIVED: [AtomicU64; 64] = [const { AtomicU64::new(0) }; 64];
/// Interrupts, those with sepc elsewhere, those with wrong cause or sstatus, the code's address, the last time.
static SEEN: [AtomicU64; 6] = [const { AtomicU64::new(0) }; 6];

// The vector must not use sscratch, which the code under test does: t5, t6 are its own. It asks for the next
// interrupt, some ticks later each time.
global_asm!(
    r"
    .pushsection .text
    .balign 4
    hot_vector:
        lla t6, {seen}
        ld t5, 0(t6)
        addi t5, t5, 1
        sd t5, 0(t6)
        csrr t5, scause
        slli t5, t5, 1
        addi t5, t5, -10        # the timer's cause, without its top bit
        beqz t5, 1f
        sd t5, 16(t6)
    1:  csrr t5, sstatus
        andi t5, t5, 0x122      # SPP, SPIE, SIE
        addi t5, t5, -0x120
        beqz t5, 2f
        sd t5, 16(t6)
    2:  csrr t5, sepc
        ld t6, 24(t6)
        sub t5, t5, t6
        sltiu t6, t5, 128
        beqz t6, 3f
        slli t5, t5, 2
        lla t6, {arrived}
        add t6, t6, t5
        ld t5, 0(t6)
        addi t5, t5, 1
        sd t5, 0(t6)
        j 4f
    3:  lla t6, {seen}
        ld t5, 8(t6)
        addi t5, t5, 1
        sd t5, 8(t6)
    4:  addi sp, sp, -48
        sd a0, 0(sp)
        sd a1, 8(sp)
        sd a6, 16(sp)
        sd a7, 24(sp)
        lla t6, {seen}
        ld t5, 0(t6)
        andi t5, t5, 63
        rdtime a0
        add a0, a0, t5
        addi a0, a0, 20
        li a6, 0
        li a7, 0x54494D45
        ecall
        ld a0, 0(sp)
        ld a1, 8(sp)
        ld a6, 16(sp)
        ld a7, 24(sp)
        addi sp, sp, 48
        sret
    .popsection
    ",
    seen = sym SEEN,
    arrived = sym ARRIVED,
);

unsafe extern "C" {
    safe fn hot_vector();
}

fn interrupted(side: &str, arena: Option<&Arena>) {
    let page = hot::page_of(code());
    let base = arena.map_or(page, |arena| {
        arena.map(DATA, page, RWX & !Pte::W);
        DATA
    });
    SEEN.iter().chain(&ARRIVED).for_each(|count| count.store(0, Relaxed));
    SEEN[3].store(base, Relaxed);
    let vector = csr_swap!(STVEC, hot_vector as *const () as u64);
    csr_write!(SIE, Timer.mask());
    sbi::set_timer(0);
    let end = time::now() + LIMIT * time::FREQUENCY;
    let (mut on, mut off, mut lost, mut harmed, mut calls) = (0, 0, 0, 0, 0);
    while SEEN[0].load(Relaxed) < INTERRUPTS && time::now() < end {
        let (mut a0, a1, a2): (u64, u64, u64);
        let (mut a4, mut a5, mut a6, mut a7) = (calls, 5_u64, 6_u64, 7_u64);
        a0 = TURNS;
        // SAFETY: calls the code, which keeps to the convention; the vector uses t5, t6 and some stack.
        unsafe {
            asm!("csrsi sstatus, 2", "jalr ra, 0({entry})", "csrci sstatus, 2", entry = in(reg) base,
                inlateout("a0") a0, lateout("a1") a1, lateout("a2") a2, inlateout("a4") a4, inlateout("a5") a5,
                inlateout("a6") a6, inlateout("a7") a7, clobber_abi("C"));
        }
        off |= a0;
        on |= a1;
        lost += u64::from(a2 != TURNS);
        harmed += u64::from((a4, a5, a6, a7) != (calls, 5, 6, 7));
        calls += 1;
    }
    sbi::set_timer(u64::MAX);
    csr_write!(SIE, 0);
    csr_clear!(SSTATUS, SIE);
    csr_write!(STVEC, vector);
    let arrived = |offset: u64| ARRIVED[offset as usize / 2].load(Relaxed);
    let torn: u64 = (0..128).step_by(2).filter(|offset| offset % 4 != 0).map(arrived).sum();
    let shut: u64 = OFF.step_by(4).map(arrived).sum();
    let open: u64 = (0..128).step_by(4).filter(|offset| !OFF.contains(offset)).map(arrived).sum();
    check!(format_args!("{side}_interrupts_came"), SEEN[0].load(Relaxed) >= INTERRUPTS);
    check!(format_args!("{side}_most_of_them_in_the_hot_loop"), open > INTERRUPTS / 2);
    check!(format_args!("{side}_none_inside_an_instruction"), torn, 0);
    check!(format_args!("{side}_none_while_interrupts_were_off"), shut, 0);
    check!(format_args!("{side}_all_are_counted"), open + SEEN[1].load(Relaxed), SEEN[0].load(Relaxed));
    check!(format_args!("{side}_cause_and_sstatus_are_right"), SEEN[2].load(Relaxed), 0);
    check!(format_args!("{side}_sie_reads_off_while_off"), off, 0u64);
    check!(format_args!("{side}_sie_reads_on_while_on"), on, 0u64);
    check!(format_args!("{side}_sscratch_lost_no_count"), lost, 0);
    check!(format_args!("{side}_registers_are_kept"), harmed, 0);
    let status = csr_read!(SSTATUS) & SIE;
    check!(format_args!("{side}_interrupts_are_off_again"), (status, hot::heat(base + hot::ECHO_AT)), (0, 0));
}
