//! The time counter and the timer interrupt. Unpriv. spec, "Zicntr"; SBI spec, "Timer Extension".
#![no_std]
#![no_main]

use core::arch::asm;
use features::arena::{self, Arena};
use features::insn::{self, A0, ECALL, ZERO};
use guest_rt::isa::Interrupt::Timer;
use guest_rt::isa::csr::{CsrAddr, scounteren, sstatus};
use guest_rt::paging::{self, Mode};
use guest_rt::sbi::{self, Ret};
use guest_rt::time::{self, now, spin, wait_until};
use guest_rt::trap::catch;
use guest_rt::{check, csr_clear, csr_read, csr_set, csr_write};

features::feature!(checks);

/// A second: far more than any of this takes.
const LONG: u64 = time::FREQUENCY;
const MILLISECOND: u64 = time::FREQUENCY / 1000;

fn checks(_hart: u64, _device_tree: u64) {
    counter();
    with_setter("sbi", |deadline| sbi::set_timer(deadline).error);
    with_setter("legacy", |deadline| sbi::call2(sbi::LEGACY_SET_TIMER, 0, deadline, 0).error);
    interrupts();
    sbi::set_timer(u64::MAX);
}

fn stip() -> bool {
    csr_read!(SIP) & Timer.mask() != 0
}

fn counter() {
    let mut last = now();
    let monotonic = (0..10_000).all(|_| {
        let before = core::mem::replace(&mut last, now());
        before <= last
    });
    check!("time_never_runs_backwards", monotonic);
    let start = now();
    check!("time_runs", wait_until(u64::MAX, || now() - start > 100));

    let arena = Arena::new(Mode::Sv39);
    csr_write!(SCOUNTEREN, scounteren::TM);
    arena.user_code(&[insn::csrrs(A0, CsrAddr::TIME.as_u16().into(), ZERO), ECALL]);
    let before = now();
    let user = arena::user_call(arena::USER, 0, 0).unwrap_or(0);
    let after = now();
    paging::deactivate();
    check!("user_mode_reads_the_same_time", before <= user && user <= after);
}

/// What a deadline does to STIP, by either call.
fn with_setter(name: &str, set: impl Fn(u64) -> i64) {
    csr_write!(SIE, 0);
    for (what, deadline) in [("0", 0), ("a_past_deadline", now() - 1), ("the_present", now())] {
        set(u64::MAX);
        let answer = set(deadline);
        check!(format_args!("{name}_{what}_pends_at_once"), (answer, stip()), (0, true));
    }
    for (what, deadline) in [
        ("the_last_tick", u64::MAX),
        ("the_last_but_one", u64::MAX - 1),
        ("half_the_range", 1 << 63),
        ("the_largest_signed", i64::MAX as u64),
    ] {
        set(0);
        let before = stip();
        set(deadline);
        let cleared = !stip();
        spin(MILLISECOND);
        check!(
            format_args!("{name}_{what}_clears_and_never_comes"),
            (before, cleared, stip()),
            (true, true, false)
        );
    }
    set(0);
    set(now() + LONG);
    check!(format_args!("{name}_a_future_deadline_clears_a_pending_one"), !stip());

    let deadline = now() + MILLISECOND;
    set(deadline);
    let mut seen = 0;
    let came = wait_until(10 * LONG, || {
        let pending = stip();
        seen = now();
        pending
    });
    check!(format_args!("{name}_the_deadline_comes"), came);
    check!(format_args!("{name}_not_early"), seen >= deadline);
    check!(format_args!("{name}_stip_stays_until_the_next_call"), stip());
    // A deadline replaces the one before.
    set(now() + LONG);
    set(now() + MILLISECOND);
    check!(format_args!("{name}_a_nearer_deadline_replaces_a_later_one"), wait_until(LONG / 2, stip));
    set(now() + MILLISECOND);
    set(now() + 10 * LONG);
    spin(3 * MILLISECOND);
    check!(format_args!("{name}_a_later_deadline_replaces_a_nearer_one"), !stip());
}

/// Waits with interrupts on until the timer's comes, at most for a second.
fn take_interrupt() -> Option<u64> {
    catch(|| {
        let end = now() + time::FREQUENCY;
        csr_set!(SSTATUS, sstatus::SIE);
        // The interrupt leaves SIE clear.
        while csr_read!(SSTATUS) & sstatus::SIE != 0 && now() < end {
            // SAFETY: does nothing.
            unsafe { asm!("nop") };
        }
        csr_clear!(SSTATUS, sstatus::SIE);
    })
    .map(|trap| trap.cause)
}

fn interrupts() {
    csr_write!(SIE, Timer.mask());
    check!("the_call_succeeds", sbi::set_timer(now() + MILLISECOND), Ret { error: 0, value: 0 });
    check!("the_interrupt_comes", take_interrupt(), Some(Timer.cause()));
    let mut early = 0;
    let mut missed = 0;
    for _ in 0..50 {
        let deadline = now() + MILLISECOND / 4;
        sbi::set_timer(deadline);
        missed += u32::from(take_interrupt() != Some(Timer.cause()));
        early += u32::from(now() < deadline);
    }
    check!("fifty_ticks_come", missed, 0u32);
    check!("none_of_them_early", early, 0u32);
    csr_write!(SIE, 0);
}
