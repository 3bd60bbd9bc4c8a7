//! Interrupts: when one is taken, which first, what it reports. Priv. spec, "Supervisor Interrupt Registers".
//!
//! The three sources: software by sip, the timer by a deadline in the past, external by the UART, whose
//! transmitter is empty, through the PLIC.
#![no_std]
#![no_main]

use core::arch::asm;
use features::arena::{Arena, USER};
use features::insn::{ECALL, NOP};
use features::native::forgive;
use guest_rt::isa::Interrupt::{self, External, Software, Timer};
use guest_rt::isa::csr::sstatus::{SIE, SPIE, SPP};
use guest_rt::mmio::{self, UART, UART_IRQ, plic};
use guest_rt::paging::{self, Mode};
use guest_rt::trap::{Frame, Trap, catch};
use guest_rt::{check, csr_clear, csr_read, csr_set, csr_swap, csr_write, sbi, user};

features::feature!(checks);

const ALL: u64 = External.mask() | Software.mask() | Timer.mask();

fn checks(_hart: u64, _device_tree: u64) {
    pending_bits();
    taken_at_once();
    priority();
    vectored();
    from_user_mode();
    withdraw(External);
    withdraw(Timer);
}

/// Makes an interrupt pending.
fn raise(interrupt: Interrupt) {
    match interrupt {
        Software => {
            csr_set!(SIP, Software.mask());
        }
        Timer => {
            sbi::set_timer(0);
        }
        External => {
            mmio::write32(plic::priority(UART_IRQ), 1);
            mmio::write32(plic::THRESHOLD, 0);
            mmio::write32(plic::enable(UART_IRQ), 1 << UART_IRQ);
            mmio::write8(UART + 1, 2); // IER: transmitter empty
        }
    }
}

/// Makes it no longer pending.
fn withdraw(interrupt: Interrupt) {
    match interrupt {
        Software => {
            csr_clear!(SIP, Software.mask());
        }
        Timer => {
            sbi::set_timer(u64::MAX);
        }
        External => {
            // A request once made stays until it is claimed.
            mmio::write8(UART + 1, 0);
            let source = mmio::read32(plic::CLAIM);
            mmio::write32(plic::CLAIM, source);
            mmio::write32(plic::enable(UART_IRQ), 0);
        }
    }
}

/// Lets interrupts in for a moment.
fn open_and_shut() {
    csr_set!(SSTATUS, SIE);
    csr_clear!(SSTATUS, SIE);
}

fn pending() -> u64 {
    csr_read!(SIP) & ALL
}

/// Which interrupt a trap was, if one came.
fn which(trap: Option<Trap>) -> Option<u64> {
    trap.map(|trap| trap.cause)
}

fn pending_bits() {
    withdraw(Timer);
    for interrupt in [Software, Timer, External] {
        raise(interrupt);
        let set = pending();
        withdraw(interrupt);
        check!(format_args!("{interrupt:?}_pends_in_its_bit"), set, interrupt.mask());
        check!(format_args!("{interrupt:?}_can_be_withdrawn"), pending(), 0u64);
    }
    raise(Timer);
    raise(External);
    csr_clear!(SIP, ALL);
    let kept = pending();
    csr_write!(SIP, Software.mask());
    let added = pending();
    check!("writes_to_sip_do_not_clear_stip_and_seip", kept, Timer.mask() | External.mask());
    check!("writes_to_sip_change_ssip_alone", added, ALL);
    // A read-modify-write must not make what it read from the PLIC stick.
    csr_set!(SIP, csr_read!(SIP));
    withdraw(External);
    withdraw(Timer);
    check!("seip_read_and_written_back_does_not_stick", pending(), Software.mask());
    withdraw(Software);
}

/// Each way to let a pending interrupt in. It must come before the next instruction.
fn taken_at_once() {
    raise(Software);
    csr_write!(SIE, Software.mask());
    check!("interrupts_wait_while_sie_is_clear", which(catch(|| ())), None);
    let next: u64;
    let trap = {
        let mut after = 0;
        let trap = catch(|| {
            // SAFETY: an interrupt that is expected.
            unsafe { asm!("lla {0}, 2f", "csrsi sstatus, 2", "2: nop", "csrci sstatus, 2", out(reg) after) };
        });
        next = after;
        trap
    };
    check!("setting_sstatus_sie_lets_it_in", which(trap), Some(Software.cause()));
    check!("before_the_next_instruction", trap.map(|trap| trap.epc), Some(next));
    let status = trap.map(|trap| trap.sstatus & (SIE | SPIE | SPP));
    check!("entry_notes_that_interrupts_were_on", status, Some(SPIE | SPP));
    check!("its_stval_is_0", trap.map(|trap| trap.tval), Some(0));

    csr_write!(SIE, 0);
    let masked = catch(open_and_shut);
    check!("interrupts_that_sie_masks_wait", which(masked), None);
    let (trap, next) = with_interrupts_on("csrs sie", Software.mask());
    check!("setting_a_bit_of_sie_lets_it_in", which(trap), Some(Software.cause()));
    check!("before_the_instruction_behind_that", trap.map(|trap| trap.epc), Some(next));

    withdraw(Software);
    let (trap, next) = with_interrupts_on("csrs sip", Software.mask());
    check!("setting_ssip_lets_it_in", which(trap), Some(Software.cause()));
    check!("before_the_instruction_behind_that_too", trap.map(|trap| trap.epc), Some(next));

    let mut next = 0;
    let trap = catch(|| {
        // SAFETY: returns to label 2, where an interrupt is expected.
        unsafe {
            asm!("csrs sstatus, {bits}", "lla {next}, 2f", "csrw sepc, {next}", "sret", "2: csrci sstatus, 2",
                bits = in(reg) SPP | SPIE, next = out(reg) next);
        }
    });
    check!("sret_lets_it_in", which(trap), Some(Software.cause()));
    check!("before_the_instruction_returned_to", trap.map(|trap| trap.epc), Some(next));
    withdraw(Software);
    csr_write!(SIE, 0);
}

/// Sets `mask` in sie or sip while SIE is set; gives the trap and the address behind the write.
fn with_interrupts_on(what: &str, mask: u64) -> (Option<Trap>, u64) {
    let mut next = 0;
    let trap = catch(|| {
        // SAFETY: an interrupt that is expected.
        unsafe {
            if what == "csrs sie" {
                asm!("lla {0}, 2f", "csrsi sstatus, 2", "csrs sie, {1}", "2: nop", "csrci sstatus, 2",
                    out(reg) next, in(reg) mask);
            } else {
                asm!("lla {0}, 2f", "csrsi sstatus, 2", "csrs sip, {1}", "2: nop", "csrci sstatus, 2",
                    out(reg) next, in(reg) mask);
            }
        }
    });
    (trap, next)
}

fn priority() {
    for interrupt in [Software, Timer, External] {
        raise(interrupt);
    }
    for (name, enabled, first) in [
        ("external_comes_before_all", ALL, External),
        ("software_comes_before_timer", ALL & !External.mask(), Software),
        ("timer_comes_last", Timer.mask(), Timer),
        ("external_comes_before_timer", External.mask() | Timer.mask(), External),
    ] {
        csr_write!(SIE, enabled);
        let trap = catch(open_and_shut);
        // QEMU without AIA takes the one with the lowest number.
        let lowest = Some(Interrupt::CAUSE_BIT | u64::from(enabled.trailing_zeros()));
        check!(name, forgive(which(trap), lowest, Some(first.cause())), Some(first.cause()));
    }
    check!("sip_shows_all_that_pend", pending(), ALL);
    for interrupt in [External, Software, Timer] {
        withdraw(interrupt);
    }
    csr_write!(SIE, ALL);
    let quiet = catch(open_and_shut);
    check!("withdrawn_interrupts_do_not_come", which(quiet), None);
    csr_write!(SIE, 0);
}

/// Which entry of a vector table takes what `cause` stands for.
fn vector_entry(interrupt: bool) -> u64 {
    let behind: u64;
    // SAFETY: takes one trap to a table of its own, and restores stvec. The trap turned interrupts off.
    unsafe {
        asm!(
            "csrr {old}, stvec",
            "lla {base}, 2f",
            "addi {base}, {base}, 1", // MODE = vectored
            "csrw stvec, {base}",
            "beqz {interrupt}, 4f",
            "csrsi sstatus, 2",
            "li t0, 0", // not reached where the interrupt comes
            "j 3f",
            "4: ebreak",
            ".balign 256",
            ".option push", ".option norvc",
            "2: .rept 16", "jal t0, 3f", ".endr",
            ".option pop",
            "3: csrci sstatus, 2",
            "csrw stvec, {old}",
            "addi {base}, {base}, -1",
            "sub t0, t0, {base}",
            old = out(reg) _, base = out(reg) _, interrupt = in(reg) u64::from(interrupt), out("t0") behind,
        );
    }
    // t0 points behind the entry.
    behind.wrapping_sub(4) / 4
}

fn vectored() {
    for interrupt in [Software, Timer, External] {
        raise(interrupt);
        csr_write!(SIE, interrupt.mask());
        let entry = vector_entry(true);
        let cause = csr_read!(SCAUSE);
        withdraw(interrupt);
        check!(format_args!("{interrupt:?}_goes_to_base_plus_4_times_its_code"), entry, interrupt.code());
        check!(format_args!("{interrupt:?}_says_so_in_scause"), cause, interrupt.cause());
    }
    csr_write!(SIE, 0);
    check!("exceptions_go_to_the_base", vector_entry(false), 0u64);
}

/// User mode is interrupted whatever sstatus.SIE and SPIE say.
fn from_user_mode() {
    let arena = Arena::new(Mode::Sv39);
    arena.user_code(&[NOP, NOP, ECALL]);
    let run = |sstatus| user::run(&mut Frame { pc: USER, sstatus, ..Frame::ZERO });
    for interrupt in [Software, Timer, External] {
        raise(interrupt);
        csr_write!(SIE, 0);
        let masked = run(SPIE);
        csr_write!(SIE, interrupt.mask());
        let disabled = run(0);
        let enabled = run(SPIE);
        withdraw(interrupt);
        check!(format_args!("{interrupt:?}_masked_by_sie_leaves_user_mode_alone"), masked.cause, 8u64);
        check!(
            format_args!("{interrupt:?}_interrupts_user_mode_with_sie_clear"),
            (disabled.cause, disabled.epc, disabled.sstatus & (SPP | SPIE)),
            (interrupt.cause(), USER, 0)
        );
        check!(
            format_args!("{interrupt:?}_interrupts_user_mode_with_sie_set"),
            (enabled.cause, enabled.epc, enabled.sstatus & (SPP | SPIE)),
            (interrupt.cause(), USER, SPIE)
        );
    }
    let spin = csr_swap!(SIE, Timer.mask());
    arena.user_code(&[0x0000_006f]); // j .
    sbi::set_timer(guest_rt::time::now() + 20_000);
    let trap = run(SPIE);
    check!("the_timer_ends_an_endless_loop_in_user_mode", (trap.cause, trap.epc), (Timer.cause(), USER));
    withdraw(Timer);
    csr_write!(SIE, spin);
    paging::deactivate();
}
