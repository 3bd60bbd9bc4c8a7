//! The goldfish clock: time, latch, alarm, interrupt.
#![no_std]
#![no_main]

use guest_rt::isa::Interrupt::External;
use guest_rt::mmio::{RTC_IRQ, plic, read32, rtc, write32};
use guest_rt::time::{self, spin, wait_until};
use guest_rt::{check, csr_read, csr_write};

features::feature!(checks);

const SECOND: u64 = 1_000_000_000;
/// The year 2020 and the year 2200.
const PLAUSIBLE: core::ops::Range<u64> = 1_577_836_800 * SECOND..7_258_118_400 * SECOND;

fn checks(_hart: u64, _device_tree: u64) {
    csr_write!(SIE, 0);
    time_of_day();
    latch();
    alarm();
    interrupt();
    set_time();
}

fn time_of_day() {
    let start = rtc::now();
    check!("the_time_is_nanoseconds_since_1970", PLAUSIBLE.contains(&start));
    let mut last = start;
    let monotonic = (0..500).all(|_| {
        let before = core::mem::replace(&mut last, rtc::now());
        before <= last
    });
    check!("it_never_runs_backwards", monotonic);
    check!("it_runs", wait_until(10 * time::FREQUENCY, || rtc::now() > start));
}

fn latch() {
    let _ = read32(rtc::TIME_LOW);
    let first = read32(rtc::TIME_HIGH);
    spin(time::FREQUENCY / 1000);
    check!("the_high_half_stays_until_the_low_is_read", read32(rtc::TIME_HIGH), first);
}

/// Alarms without the interrupt: the status register tells.
fn alarm() {
    rtc::lower();
    check!("no_alarm_is_armed_at_first", read32(rtc::ALARM_STATUS), 0u32);
    let far = rtc::now() + 1000 * SECOND;
    rtc::set_alarm(far);
    check!("a_future_alarm_is_armed", read32(rtc::ALARM_STATUS), 1u32);
    check!(
        "it_reads_back",
        (read32(rtc::ALARM_HIGH), read32(rtc::ALARM_LOW)),
        ((far >> 32) as u32, far as u32)
    );
    write32(rtc::CLEAR_ALARM, 1);
    check!("it_can_be_cleared", read32(rtc::ALARM_STATUS), 0u32);
    rtc::set_alarm(rtc::now() + SECOND / 1000);
    check!("an_alarm_rings", wait_until(10 * time::FREQUENCY, || read32(rtc::ALARM_STATUS) == 0));
    check!("not_without_its_interrupt_enabled", !pending());
    rtc::lower();
}

fn pending() -> bool {
    read32(plic::pending(RTC_IRQ)) & 1 << RTC_IRQ != 0
}

fn interrupt() {
    write32(plic::priority(RTC_IRQ), 1);
    write32(plic::enable(RTC_IRQ), 1 << RTC_IRQ);
    write32(plic::THRESHOLD, 0);
    let seip = || csr_read!(SIP) & External.mask() != 0;

    let due = rtc::now() + SECOND / 1000;
    write32(rtc::IRQ_ENABLED, 1);
    check!("the_enable_register_reads_back", read32(rtc::IRQ_ENABLED), 1u32);
    rtc::set_alarm(due);
    let came = wait_until(10 * time::FREQUENCY, seip);
    let when = rtc::now();
    check!("the_alarm_interrupts", came);
    check!("not_early", when >= due);
    check!("it_is_disarmed_then", read32(rtc::ALARM_STATUS), 0u32);
    check!("the_controller_names_the_clock", read32(plic::CLAIM), RTC_IRQ);
    write32(rtc::CLEAR_INTERRUPT, 1);
    write32(plic::CLAIM, RTC_IRQ);
    check!("cleared_and_completed_it_is_quiet", (pending(), seip()), (false, false));

    rtc::set_alarm(rtc::now() - SECOND);
    check!("an_alarm_in_the_past_interrupts_at_once", seip());
    check!("and_is_not_armed", read32(rtc::ALARM_STATUS), 0u32);
    rtc::lower();
    let source = read32(plic::CLAIM);
    write32(plic::CLAIM, source);
    check!("lowered_it_is_quiet_again", (source, seip()), (RTC_IRQ, false));
    write32(plic::enable(RTC_IRQ), 0);
}

/// Kernels set the clock. Only this machine's: the next one starts with the right time.
fn set_time() {
    let before = rtc::now();
    let wanted = before + 1_000_000 * SECOND;
    write32(rtc::TIME_HIGH, (wanted >> 32) as u32);
    write32(rtc::TIME_LOW, wanted as u32);
    let after = rtc::now();
    check!("the_time_can_be_set", (wanted..wanted + 100 * SECOND).contains(&after));
    check!("and_goes_on", wait_until(10 * time::FREQUENCY, || rtc::now() > after));
}
