//! The SBI's performance counters. SBI spec, "Performance Monitoring Unit Extension".
#![no_std]
#![no_main]

use core::arch::asm;

use features::native::{forgive, native};
use guest_rt::sbi::{self, INVALID_PARAM, NOT_SUPPORTED, Ret, call, call2};
use guest_rt::{check, check_any, csr_read};

features::feature!(checks);

const PMU: u64 = 0x50_4d55;
const ALREADY_STARTED: i64 = -7;
const ALREADY_STOPPED: i64 = -8;

const CYCLES: u64 = 1;
const INSTRUCTIONS: u64 = 2;
const SET_TIMER: u64 = 15 << 16 | 5;
/// A firmware event code that the specification has given to nobody.
const NO_EVENT: u64 = 15 << 16 | 200;

const CLEAR: u64 = 1 << 1;
const SET_VALUE: u64 = 1;
const RESET: u64 = 1;

/// Rounds of a loop of two instructions.
const ROUNDS: u64 = 100_000;

fn checks(_hart: u64, _device_tree: u64) {
    check!("the_extension_is_there", sbi::probe(PMU));
    let count = call2(PMU, 0, 0, 0);
    check!("there_are_counters", (count.error, (3..=64).contains(&count.value)), (0, true));
    let all = u64::MAX >> (64 - count.value.clamp(1, 64));
    check!("counter_0_is_cycle", info(0), Some(0xc00));
    check!("counter_2_is_instret", info(2), Some(0xc02));
    check!("there_is_no_counter_64", call2(PMU, 1, 64, 0).error, INVALID_PARAM);
    // As Linux does first.
    check_any!("all_stop", call(PMU, 4, [0, all, RESET, 0, 0, 0]).error, [0, ALREADY_STOPPED]);
    hardware(all, "instructions", INSTRUCTIONS, || csr_read!(INSTRET));
    hardware(all, "cycles", CYCLES, || csr_read!(CYCLE));
    firmware(all);
}

/// The CSR of a hardware counter.
fn info(counter: u64) -> Option<u64> {
    let Ret { error, value } = call2(PMU, 1, counter, 0);
    (error == 0 && value >> 63 == 0).then_some(value & 0xfff)
}

fn configure(all: u64, flags: u64, event: u64) -> Ret {
    call(PMU, 2, [0, all, flags, event, 0, 0])
}

fn start(counter: u64, flags: u64, value: u64) -> i64 {
    call(PMU, 3, [counter, 1, flags, value, 0, 0]).error
}

fn stop(counter: u64, flags: u64) -> i64 {
    call(PMU, 4, [counter, 1, flags, 0, 0, 0]).error
}

fn work() {
    // SAFETY: counts a register down.
    unsafe { asm!("1: addi {0}, {0}, -1", "bnez {0}, 1b", inout(reg) ROUNDS => _, options(nomem, nostack)) };
}

/// A counter that the hart has, whose CSR `read` reads.
fn hardware(all: u64, name: &str, event: u64, read: impl Fn() -> u64) {
    let Ret { error, value: counter } = configure(all, CLEAR, event);
    check!(format_args!("{name}_can_be_counted"), error, 0);
    check!(format_args!("{name}_start"), start(counter, SET_VALUE, 1 << 40), 0);
    check!(format_args!("{name}_start_once"), start(counter, 0, 0), ALREADY_STARTED);
    let before = read();
    work();
    let counted = read().wrapping_sub(before);
    check!(format_args!("{name}_begin_at_the_value_given"), before >> 40, 1);
    // On QEMU without counted instructions both are the host's time stamps, of any number.
    check!(format_args!("{name}_are_counted"), counted > ROUNDS / 10, true);
    check!(format_args!("{name}_stop"), stop(counter, 0), 0);
    let (first, second) = (read(), read());
    // QEMU 7.2's own counters run backwards while they are stopped.
    let stands = native() || second == first && first.wrapping_sub(before) >= counted;
    check!(format_args!("{name}_stand_still"), stands, true);
    check!(format_args!("{name}_stop_once"), stop(counter, 0), ALREADY_STOPPED);
    check!(format_args!("{name}_start_again"), start(counter, 0, 0), 0);
    work();
    check!(format_args!("{name}_go_on"), read() > second, true);
    check!(format_args!("{name}_are_released"), stop(counter, RESET), 0);
    // OpenSBI 1.6 starts the fixed counters all the same.
    check!(
        format_args!("{name}_have_no_event_then"),
        forgive(start(counter, 0, 0), 0, INVALID_PARAM),
        INVALID_PARAM
    );
    stop(counter, RESET);
}

fn firmware(all: u64) {
    let Ret { error, value: counter } = configure(all, CLEAR, SET_TIMER);
    check!("set_timer_can_be_counted", error, 0);
    check!("it_starts_at_zero", start(counter, SET_VALUE, 0), 0);
    for _ in 0..5 {
        sbi::set_timer(u64::MAX);
    }
    let counted = call2(PMU, 5, counter, 0);
    check!("a_firmware_counter_has_64_bits", call2(PMU, 1, counter, 0).value, 1 << 63 | 63 << 12);
    check!("five_calls_are_counted", (counted.error, counted.value), (0, 5));
    check!("it_stops", stop(counter, RESET), 0);
    // OpenSBI 1.1 takes any code.
    check!(
        "an_event_that_is_none_is_refused",
        native() || configure(all, 0, NO_EVENT).error == NOT_SUPPORTED,
        true
    );
    check!("so_is_a_counter_that_is_none", call(PMU, 3, [64, 1, 0, 0, 0, 0]).error, INVALID_PARAM);
    check!("function_99_is_not_supported", call2(PMU, 99, 0, 0).error, NOT_SUPPORTED);
}
