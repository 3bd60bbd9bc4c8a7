//! WFI: what ends it, and where the hart goes on. Priv. spec, "Wait for Interrupt".
#![no_std]
#![no_main]

use core::arch::asm;
use guest_rt::isa::Interrupt::{Software, Timer};
use guest_rt::isa::csr::sstatus::SIE;
use guest_rt::time::{self, now};
use guest_rt::trap::{Trap, catch};
use guest_rt::{check, csr_clear, csr_read, csr_write, sbi};

features::feature!(checks);

const MILLISECOND: u64 = time::FREQUENCY / 1000;

fn checks(_hart: u64, _device_tree: u64) {
    sbi::set_timer(u64::MAX);
    csr_clear!(SIP, Software.mask());
    already_pending();
    by_the_timer();
    taken();
    many();
    csr_write!(SIE, 0);
    sbi::set_timer(u64::MAX);
}

/// WFI with sstatus.SIE as it is. It may end for no reason at all, so callers look and wait again.
fn wfi() {
    // SAFETY: waits.
    unsafe { asm!("wfi", options(nostack)) }
}

/// With the interrupt pending already and enabled in sie, WFI does not wait, whatever SIE says.
fn already_pending() {
    csr_write!(SIE, Software.mask());
    sbi::send_ipi(1, 0);
    time::wait_until(MILLISECOND, || csr_read!(SIP) & Software.mask() != 0);
    let trap = catch(wfi);
    check!("a_pending_interrupt_ends_wfi_with_sie_clear", trap, None);
    check!("and_still_pends", csr_read!(SIP) & Software.mask(), Software.mask());
    csr_clear!(SIP, Software.mask());
}

/// The timer ends it, interrupts on or off.
fn by_the_timer() {
    csr_write!(SIE, Timer.mask());
    let deadline = now() + 5 * MILLISECOND;
    sbi::set_timer(deadline);
    let trap = catch(|| {
        while csr_read!(SIP) & Timer.mask() == 0 {
            wfi();
        }
    });
    let woke = now();
    check!("the_timer_ends_wfi_without_a_trap", trap, None);
    check!("not_early", woke >= deadline);
}

/// With SIE set the interrupt is taken, and returns behind the WFI.
fn taken() {
    csr_write!(SIE, Timer.mask());
    let deadline = now() + 5 * MILLISECOND;
    sbi::set_timer(deadline);
    let mut behind = 0;
    // The loop begins again where WFI ended early; the interrupt leaves SIE clear.
    let trap: Option<Trap> = catch(|| {
        // SAFETY: waits for an interrupt that is expected.
        unsafe {
            asm!(
                "lla {behind}, 3f",
                "csrsi sstatus, 2",
                "2: wfi",
                "3: csrr {status}, sstatus",
                "andi {status}, {status}, 2",
                "bnez {status}, 2b",
                behind = out(reg) behind, status = out(reg) _, options(nostack),
            );
        }
    });
    let epc = trap.map_or(0, |trap| trap.epc);
    check!("the_interrupt_is_taken", trap.map(|trap| trap.cause), Some(Timer.cause()));
    // Where WFI ended for no reason, the interrupt may hit the loop's other instructions.
    check!("at_or_behind_the_wfi", (behind..=behind + 8).contains(&epc) || epc == behind - 4);
    check!("not_early_either", now() >= deadline);
    check!("interrupts_were_on", trap.map(|trap| trap.sstatus & SIE), Some(0));

    // Pending before: taken at once, behind the instruction that let it in.
    sbi::set_timer(0);
    let trap = catch(|| {
        // SAFETY: waits for an interrupt that is expected.
        unsafe { asm!("lla {0}, 2f", "csrsi sstatus, 2", "2: wfi", "csrci sstatus, 2", out(reg) behind) }
    });
    check!("an_interrupt_let_in_comes_before_the_wfi", trap.map(|trap| trap.epc), Some(behind));
}

/// As an idle loop does it.
fn many() {
    csr_write!(SIE, Timer.mask());
    let mut early = 0;
    for _ in 0..100 {
        let deadline = now() + MILLISECOND / 5;
        sbi::set_timer(deadline);
        while csr_read!(SIP) & Timer.mask() == 0 {
            wfi();
        }
        early += u32::from(now() < deadline);
    }
    check!("a_hundred_waits_end_on_time", early, 0u32);
}
