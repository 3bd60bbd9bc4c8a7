//! The interrupt controller, seen from the supervisor context of hart 0. RISC-V PLIC spec 1.0.
//!
//! The sources under test are the clock's (11), whose line an alarm in the past raises, and the UART's (10),
//! whose line an empty transmitter raises.
#![no_std]
#![no_main]

use features::exception;
use features::native::forgive;
use guest_rt::isa::Exception::{LoadAccessFault, StoreAccessFault};
use guest_rt::isa::{Interrupt::External, Width};
use guest_rt::mmio::{self, PLIC, RTC_IRQ, UART, UART_IRQ, plic, read32, rtc, write32};
use guest_rt::{access, check, check_any, csr_read, csr_write};

features::feature!(checks);

const RTC_BIT: u32 = 1 << RTC_IRQ;
const UART_BIT: u32 = 1 << UART_IRQ;

fn checks(_hart: u64, _device_tree: u64) {
    csr_write!(SIE, 0);
    write32(plic::THRESHOLD, 0);
    registers();
    one_source();
    threshold_and_priority();
    completion();
    two_sources();
    odd_accesses();
}

/// Enables exactly these sources. QEMU 7.2 looks anew at what is pending when the threshold is written, not
/// when the enable bits are.
fn enable(sources: u32) {
    write32(plic::enable(0), sources);
    write32(plic::THRESHOLD, read32(plic::THRESHOLD));
}

fn seip() -> bool {
    csr_read!(SIP) & External.mask() != 0
}

fn rtc_pending() -> bool {
    read32(plic::pending(RTC_IRQ)) & RTC_BIT != 0
}

fn claim() -> u32 {
    read32(plic::CLAIM)
}

fn complete(source: u32) {
    write32(plic::CLAIM, source);
}

/// Lowers all lines and empties the controller.
fn calm() {
    rtc::lower();
    mmio::write8(UART + 1, 0);
    enable(RTC_BIT | UART_BIT);
    // What an earlier check claimed and never completed would not pend again.
    complete(RTC_IRQ);
    complete(UART_IRQ);
    loop {
        let source = claim();
        if source == 0 {
            break;
        }
        complete(source);
    }
    enable(0);
    write32(plic::THRESHOLD, 0);
    write32(plic::priority(RTC_IRQ), 1);
    write32(plic::priority(UART_IRQ), 1);
}

fn registers() {
    for source in [1, RTC_IRQ, 31] {
        write32(plic::priority(source), 5);
        check!(format_args!("priority_{source}_is_kept"), read32(plic::priority(source)), 5u32);
        write32(plic::priority(source), u32::MAX);
        check!(format_args!("priority_{source}_has_three_bits"), read32(plic::priority(source)), 7u32);
        write32(plic::priority(source), 0);
    }
    write32(plic::THRESHOLD, 3);
    check!("threshold_is_kept", read32(plic::THRESHOLD), 3u32);
    write32(plic::THRESHOLD, u32::MAX);
    check_any!("threshold_has_three_bits", read32(plic::THRESHOLD), [7, 3]); // or keeps what it held
    write32(plic::THRESHOLD, 0);
    write32(plic::enable(0), 0xffff_fffe);
    check!("enable_bits_are_kept", read32(plic::enable(0)), 0xffff_fffeu32);
    write32(plic::enable(0), 0);
    check!("enable_bits_clear", read32(plic::enable(0)), 0u32);
    let before = read32(plic::pending(0));
    write32(plic::pending(0), !before);
    check!("pending_bits_are_read_only", read32(plic::pending(0)), before);
    check!("nothing_to_claim_is_0", claim(), 0u32);
}

fn one_source() {
    calm();
    rtc::raise();
    check!("a_source_that_is_not_enabled_pends", rtc_pending());
    check!("and_does_not_interrupt", !seip());
    check!("and_cannot_be_claimed", claim(), 0u32);
    enable(RTC_BIT);
    check!("an_enabled_one_interrupts", seip());
    check!("seip_is_not_writable", {
        csr_write!(SIP, 0);
        seip()
    });
    check!("claim_names_it", claim(), RTC_IRQ);
    check!("claim_clears_pending", !rtc_pending());
    check!("claim_lowers_the_interrupt", !seip());
    check!("a_second_claim_finds_nothing", claim(), 0u32);
    rtc::lower();
    complete(RTC_IRQ);
    check!("completed_with_the_line_low_is_quiet", (rtc_pending(), seip()), (false, false));
    rtc::raise();
    check!("the_next_request_comes", (rtc_pending(), seip()), (true, true));
    enable(0);
    check!("disabling_lowers_the_interrupt", !seip());
    check!("disabling_keeps_pending", rtc_pending());
    calm();
}

fn threshold_and_priority() {
    enable(RTC_BIT);
    write32(plic::priority(RTC_IRQ), 3);
    rtc::raise();
    for (threshold, fires) in [(0, true), (2, true), (3, false), (7, false), (2, true)] {
        write32(plic::THRESHOLD, threshold);
        check!(format_args!("priority_3_over_threshold_{threshold}"), seip(), fires);
    }
    write32(plic::THRESHOLD, 7);
    // QEMU holds back what the threshold masks.
    let got = forgive(claim(), 0, RTC_IRQ);
    check!("claim_ignores_the_threshold", got, RTC_IRQ);
    complete(RTC_IRQ);
    calm();
    write32(plic::priority(RTC_IRQ), 0);
    enable(RTC_BIT);
    rtc::raise();
    check!("priority_0_never_interrupts", !seip());
    check!("priority_0_is_never_claimed", claim(), 0u32);
    write32(plic::priority(RTC_IRQ), 1);
    check!("a_raised_priority_lets_it_in", seip());
    calm();
}

fn completion() {
    enable(RTC_BIT);
    rtc::raise();
    claim();
    complete(RTC_IRQ);
    // QEMU before 8.0 forgets the line's level.
    let again = forgive((rtc_pending(), seip()), (false, false), (true, true));
    check!("a_line_still_high_pends_again", again, (true, true));
    claim();
    complete(0);
    complete(UART_IRQ);
    complete(u32::MAX);
    check!("completing_other_sources_does_nothing", (rtc_pending(), seip()), (false, false));
    enable(0);
    complete(RTC_IRQ);
    enable(RTC_BIT);
    check!("completing_while_not_enabled_is_ignored", claim(), 0u32);
    complete(RTC_IRQ);
    check!("completing_while_enabled_is_not", forgive(claim(), 0, RTC_IRQ), RTC_IRQ);
    calm();
}

fn two_sources() {
    let order = |uart_priority, rtc_priority| {
        calm();
        write32(plic::priority(UART_IRQ), uart_priority);
        write32(plic::priority(RTC_IRQ), rtc_priority);
        enable(RTC_BIT | UART_BIT);
        rtc::raise();
        mmio::write8(UART + 1, 2);
        let order = [claim(), claim(), claim()];
        mmio::write8(UART + 1, 0);
        rtc::lower();
        complete(UART_IRQ);
        complete(RTC_IRQ);
        calm();
        order
    };
    check!("ties_go_to_the_lowest_number", order(1, 1), [UART_IRQ, RTC_IRQ, 0]);
    check!("the_higher_priority_comes_first", order(1, 2), [RTC_IRQ, UART_IRQ, 0]);
    check!("whichever_it_is", order(7, 6), [UART_IRQ, RTC_IRQ, 0]);
}

/// Kernels write registers of the machine context too; whatever is touched, nothing but a fault may come.
fn odd_accesses() {
    for (name, address) in [
        ("machine_enable", PLIC + 0x2000),
        ("machine_threshold", PLIC + 0x20_0000),
        ("machine_claim", PLIC + 0x20_0004),
    ] {
        let got = (access::store(Width::Word, address, 0), access::load(Width::Word, address));
        check!(format_args!("{name}_can_be_touched"), (exception(got.0), exception(got.1)), (None, None));
    }
    for (name, address) in [
        ("last_priority", PLIC + 0xffc),
        ("last_pending", PLIC + 0x107c),
        ("between_registers", PLIC + 0x1f_f000),
        ("last_context", PLIC + 0x3f_f000),
        ("source_0", PLIC),
    ] {
        let stored = exception(access::store(Width::Word, address, 0));
        let loaded = exception(access::load(Width::Word, address));
        check_any!(
            format_args!("{name}_faults_or_does_nothing"),
            (stored, loaded),
            [(None, None), (Some(StoreAccessFault), Some(LoadAccessFault))]
        );
    }
    for width in [Width::Byte, Width::Half, Width::Double] {
        let stored = exception(access::store(width, plic::THRESHOLD, 0));
        let loaded = exception(access::load(width, plic::priority(2)));
        check_any!(
            format_args!("{width:?}_accesses_fault_or_work"),
            (loaded, stored),
            [
                (None, None),
                (Some(LoadAccessFault), Some(StoreAccessFault)),
                (None, Some(StoreAccessFault)),
                (Some(LoadAccessFault), None)
            ]
        );
    }
    check!(
        "the_controller_still_works",
        {
            write32(plic::priority(2), 4);
            read32(plic::priority(2))
        },
        4u32
    );
}
