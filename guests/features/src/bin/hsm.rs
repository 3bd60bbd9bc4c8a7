//! Hart state management for the hart that runs. SBI spec, "Hart State Management Extension".
#![no_std]
#![no_main]

use features::arena::Arena;
use features::native::{forgive, native};
use features::{exec, hart_state, insn};
use guest_rt::isa::Interrupt::Software;
use guest_rt::isa::csr::sstatus::SIE;
use guest_rt::mmio::HOLE;
use guest_rt::paging::{self, Mode};
use guest_rt::sbi::{
    self, ALREADY_AVAILABLE, HSM, INVALID_ADDRESS, INVALID_PARAM, NOT_SUPPORTED, Ret, call, call2,
};
use guest_rt::{check, check_any, csr_clear, csr_read, csr_write};

features::feature!(checks);

/// A hart that the machine does not have.
const ABSENT: u64 = 77;
/// Suspend types: the hart goes on behind the call, or at an address with its state lost.
const RETENTIVE: u64 = 0;
const NON_RETENTIVE: u64 = 0x8000_0000;

fn checks(hart: u64, _device_tree: u64) {
    status(hart);
    start(hart);
    suspend_types(hart);
    retentive(hart);
    non_retentive(hart);
}

fn status(hart: u64) {
    check!("this_hart_is_started", call2(HSM, 2, hart, 0), Ret { error: 0, value: 0 });
    check!("an_absent_hart_has_no_status", call2(HSM, 2, ABSENT, 0).error, INVALID_PARAM);
    check!("hart_minus_1_has_no_status", call2(HSM, 2, u64::MAX, 0).error, INVALID_PARAM);
    // OpenSBI 1.1 takes the low 32 bits.
    let wide = forgive(call2(HSM, 2, hart | 1 << 32, 0).error, 0, INVALID_PARAM);
    check!("a_hart_is_named_by_all_64_bits", wide, INVALID_PARAM);
}

fn start(hart: u64) {
    let ram = exec::page(&[insn::RET]);
    let start = |hart, address| call(HSM, 0, [hart, address, 0, 0, 0, 0]).error;
    check!("start_of_a_running_hart", start(hart, ram), ALREADY_AVAILABLE);
    check!("start_of_an_absent_hart", start(ABSENT, ram), INVALID_PARAM);
    check!("start_of_hart_minus_1", start(u64::MAX, ram), INVALID_PARAM);
    check_any!(
        "start_of_a_running_hart_at_no_address",
        start(hart, HOLE),
        [ALREADY_AVAILABLE, INVALID_ADDRESS]
    );
}

/// Calls that must not suspend; an interrupt that pends would end it at once.
fn suspend_types(hart: u64) {
    pend(hart);
    for kind in [1, 0x0fff_ffff, 0x8000_0001, 0x8fff_ffff] {
        check!(
            format_args!("suspend_of_reserved_type_{kind:#x}"),
            call2(HSM, 3, kind, 0).error,
            INVALID_PARAM
        );
    }
    for kind in [0x1000_0000, 0x9000_0000] {
        let error = call2(HSM, 3, kind, 0).error;
        check_any!(format_args!("suspend_of_platform_type_{kind:#x}"), error, [INVALID_PARAM, NOT_SUPPORTED]);
    }
    if !native() {
        // OpenSBI takes any address outside its own memory, and would resume in the hole.
        let nowhere = call2(HSM, 3, NON_RETENTIVE, HOLE).error;
        check_any!("suspend_with_nowhere_to_resume", nowhere, [INVALID_ADDRESS, NOT_SUPPORTED]);
    }
    settle();
}

/// Makes a software interrupt pending and enabled, with interrupts off.
fn pend(hart: u64) {
    csr_write!(SIE, Software.mask());
    sbi::send_ipi(1, hart);
}

fn settle() {
    csr_write!(SIE, 0);
    csr_clear!(SIP, Software.mask());
}

fn retentive(hart: u64) {
    for (name, kind) in [("", RETENTIVE), ("_whatever_the_upper_half_says", 0xdead_0000_0000)] {
        pend(hart);
        let error = call2(HSM, 3, kind, 0).error;
        let pending = csr_read!(SIP) & Software.mask();
        settle();
        check_any!(format_args!("retentive_suspend_ends_with_an_interrupt{name}"), error, [0, NOT_SUPPORTED]);
        check!(format_args!("the_interrupt_still_pends{name}"), pending, Software.mask());
    }
    check!("the_hart_is_started_again", call2(HSM, 2, hart, 0), Ret { error: 0, value: 0 });
}

fn non_retentive(hart: u64) {
    Arena::new(Mode::Sv39);
    pend(hart);
    let result = hart_state::suspend(NON_RETENTIVE);
    settle();
    match result {
        Ok(found) => {
            check!("a0_is_the_hart", found.x[10], hart);
            check!("translation_is_off", found.satp, 0u64);
            check!("interrupts_are_off", found.sstatus & SIE, 0u64);
        }
        Err(error) => check!("non_retentive_suspend_resumes_at_its_address", error, NOT_SUPPORTED),
    }
    paging::deactivate();
}
