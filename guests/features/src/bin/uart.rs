//! The 16550A serial port. National Semiconductor PC16550D data sheet. Data goes by the loopback, so nothing
//! of it is seen; results are printed when the port is back to normal.
#![no_std]
#![no_main]

use guest_rt::isa::Interrupt::External;
use guest_rt::mmio::{UART, UART_IRQ, plic, read8, read32, write8, write32};
use guest_rt::time::{self, wait_until};
use guest_rt::{check, check_any, csr_read, csr_write};

features::feature!(checks);

// Offsets.
const DATA: u64 = 0;
const IER: u64 = 1;
const IIR: u64 = 2;
const FCR: u64 = 2;
const LCR: u64 = 3;
const MCR: u64 = 4;
const LSR: u64 = 5;
const MSR: u64 = 6;
const SCRATCH: u64 = 7;

// IER.
const RECEIVE: u8 = 1;
const TRANSMIT: u8 = 2;
const LINE: u8 = 4;
// FCR: FIFOs on, both cleared, trigger at 1 or at 14.
const FIFO: u8 = 0x01;
const CLEAR_RECEIVE: u8 = 0x02;
const CLEAR_BOTH: u8 = 0x06;
const TRIGGER_14: u8 = 0xc0;
// MCR: loopback with OUT2.
const LOOPBACK: u8 = 0x18;
// LSR.
const DATA_READY: u8 = 0x01;
const OVERRUN: u8 = 0x02;
const IDLE: u8 = 0x60;
// IIR's low four bits.
const NONE: u8 = 0x1;
const THR_EMPTY: u8 = 0x2;
const RECEIVED: u8 = 0x4;
const LINE_STATUS: u8 = 0x6;
const TIME_OUT: u8 = 0xc;

/// Longer than four characters take at any speed that a firmware sets.
const A_WHILE: u64 = time::FREQUENCY / 2;

fn checks(_hart: u64, _device_tree: u64) {
    csr_write!(SIE, 0);
    plain_registers();
    fifo_control();
    transmitter();
    modem_status();
    receiver();
    interrupts_by_priority();
    interrupt_line();
}

fn get(register: u64) -> u8 {
    read8(UART + register)
}

fn set(register: u64, value: u8) {
    write8(UART + register, value);
}

/// The interrupt that IIR names.
fn cause() -> u8 {
    get(IIR) & 0xf
}

/// Runs `body` with the port's output looped to its input and FIFOs empty, then puts all back.
fn looped<T>(fcr: u8, body: impl FnOnce() -> T) -> T {
    wait_until(A_WHILE, || get(LSR) & IDLE == IDLE);
    set(MCR, LOOPBACK);
    set(FCR, fcr | FIFO | CLEAR_BOTH);
    let _ = get(LSR);
    let result = body();
    set(IER, 0);
    set(FCR, FIFO | CLEAR_BOTH);
    set(MCR, 8);
    result
}

/// Sends bytes one by one; gives all that LSR said meanwhile, since reading it clears errors.
fn send(bytes: &[u8]) -> u8 {
    let mut seen = 0;
    for byte in bytes {
        set(DATA, *byte);
        wait_until(A_WHILE, || {
            let status = get(LSR);
            seen |= status;
            status & IDLE == IDLE
        });
    }
    seen
}

fn plain_registers() {
    for value in [0x5a, 0xa5, 0] {
        set(SCRATCH, value);
        check!(format_args!("scratch_keeps_{value:#x}"), get(SCRATCH), value);
    }
    check!(
        "an_idle_transmitter_is_empty",
        {
            wait_until(A_WHILE, || get(LSR) & IDLE == IDLE);
            get(LSR) & IDLE
        },
        IDLE
    );
    check!("line_status_is_never_all_ones", get(LSR) != 0xff);
    set(IER, 0xff);
    let enabled = get(IER);
    set(IER, 0);
    check!("ier_has_four_bits", enabled, 0x0fu8);

    let line = get(LCR);
    set(LCR, 0x80 | 3);
    let (low, high) = (get(DATA), get(IER));
    set(DATA, 0x34);
    set(IER, 0x12);
    let divisor = (get(DATA), get(IER));
    set(DATA, low);
    set(IER, high);
    set(LCR, 3);
    let hidden = get(IER);
    check!("the_divisor_is_behind_dlab", divisor, (0x34, 0x12));
    check!("and_not_in_ier", hidden, 0u8);
    check!("lcr_reads_back", get(LCR), 3u8);
    set(LCR, line & 0x7f);
}

fn fifo_control() {
    set(FCR, 0);
    let off = get(IIR);
    set(FCR, FIFO);
    let on = get(IIR);
    check!("iir_shows_no_fifos_when_off", off & 0xc0, 0u8);
    check!("iir_shows_fifos_when_on", on & 0xc0, 0xc0u8);
    check!("iir_says_no_interrupt", on & 0xf, NONE);
}

/// The quirks of THRE that drivers depend on.
fn transmitter() {
    let (first, second, again, masked) = looped(0, || {
        set(IER, TRANSMIT);
        let first = cause();
        let second = cause();
        set(IER, 0);
        set(IER, TRANSMIT);
        let again = cause();
        set(IER, 0);
        (first, second, again, cause())
    });
    check!("enabling_thri_with_an_empty_transmitter_interrupts", first, THR_EMPTY);
    check!("reading_iir_clears_it", second, NONE);
    check!("enabling_thri_anew_interrupts_anew", again, THR_EMPTY);
    check!("a_masked_one_is_not_shown", masked, NONE);
    let after = looped(0, || {
        set(IER, TRANSMIT);
        cause();
        send(b"x");
        cause()
    });
    check!("a_sent_byte_interrupts_again", after, THR_EMPTY);
    let (received, kept) = looped(0, || {
        send(b"y");
        set(IER, RECEIVE | TRANSMIT);
        let received = cause();
        get(DATA);
        (received, cause())
    });
    // A hart that is slow to ask finds the byte old already.
    check_any!("received_data_is_shown_before_it", received, [RECEIVED, TIME_OUT]);
    check!("an_iir_that_showed_something_else_does_not_clear_it", kept, THR_EMPTY);
}

fn modem_status() {
    check!("carrier_dsr_and_cts_are_up", get(MSR) & 0xf0, 0xb0u8);
    let mut lines = [0; 5];
    for (slot, mcr) in lines.iter_mut().zip([0x10, 0x11, 0x12, 0x14, 0x18]) {
        set(MCR, mcr);
        *slot = get(MSR) & 0xf0;
    }
    set(MCR, 8);
    check!("loopback_ties_the_modem_lines_together", lines, [0, 0x20, 0x10, 0x40, 0x80]);
    let _ = get(MSR);
}

fn receiver() {
    let (none, ready, value, after) = looped(0, || {
        let none = get(LSR) & DATA_READY;
        send(&[0xa7]);
        (none, get(LSR) & DATA_READY, get(DATA), get(LSR) & DATA_READY)
    });
    check!("nothing_is_received_at_first", none, 0u8);
    check!("a_looped_byte_is_ready", ready, DATA_READY);
    check!("it_is_the_one_sent", value, 0xa7u8);
    check!("reading_takes_it", after, 0u8);

    let order = looped(TRIGGER_14, || {
        send(b"abcd");
        [get(DATA), get(DATA), get(DATA), get(DATA)]
    });
    check!("bytes_come_in_their_order", &order, b"abcd");

    let cleared = looped(0, || {
        send(b"zz");
        set(FCR, FIFO | CLEAR_RECEIVE);
        get(LSR) & DATA_READY
    });
    check!("clearing_the_fifo_drops_them", cleared, 0u8);

    let (status, again, kept) = looped(TRIGGER_14, || {
        let status = send(b"0123456789abcdefX") & (OVERRUN | DATA_READY);
        let again = get(LSR) & OVERRUN;
        let mut kept = 0;
        while get(LSR) & DATA_READY != 0 && kept < 100 {
            get(DATA);
            kept += 1;
        }
        (status, again, kept)
    });
    check!("a_17th_byte_overruns", status, OVERRUN | DATA_READY);
    check!("reading_lsr_clears_the_overrun", again, 0u8);
    check!("the_fifo_holds_16", kept, 16);
}

fn interrupts_by_priority() {
    let (below, at_trigger) = looped(TRIGGER_14, || {
        set(IER, RECEIVE);
        send(b"0123456789abc");
        let below = cause();
        send(b"d");
        (below, cause())
    });
    check_any!("below_the_trigger_no_data_interrupt", below, [NONE, TIME_OUT]);
    check_any!("at_the_trigger_there_is_one", at_trigger, [RECEIVED, TIME_OUT]);

    let (came, after) = looped(TRIGGER_14, || {
        set(IER, RECEIVE);
        send(b"q");
        let came = wait_until(4 * A_WHILE, || cause() == TIME_OUT);
        get(DATA);
        (came, cause())
    });
    check!("a_lone_byte_times_out", came);
    check!("reading_it_ends_the_time_out", after, NONE);

    let order = looped(0, || {
        send(b"0123456789abcdef");
        set(IER, LINE);
        set(DATA, b'X'); // and no look at LSR, which would clear the overrun
        wait_until(A_WHILE, || cause() == LINE_STATUS);
        set(IER, RECEIVE | TRANSMIT | LINE);
        let line = cause();
        get(LSR);
        let data = cause();
        set(FCR, FIFO | CLEAR_RECEIVE);
        [line, data, cause(), cause()]
    });
    check_any!(
        "line_status_then_data_then_transmitter",
        order,
        [[LINE_STATUS, RECEIVED, THR_EMPTY, NONE], [LINE_STATUS, TIME_OUT, THR_EMPTY, NONE]]
    );
}

/// The interrupt controller follows.
fn interrupt_line() {
    write32(plic::priority(UART_IRQ), 1);
    write32(plic::enable(UART_IRQ), 1 << UART_IRQ);
    write32(plic::THRESHOLD, 0);
    // What came while the source was not enabled still pends.
    while read32(plic::CLAIM) != 0 {
        write32(plic::CLAIM, UART_IRQ);
    }
    let pending = || csr_read!(SIP) & External.mask() != 0;
    let (quiet, raised, source, cleared) = looped(0, || {
        let quiet = pending();
        set(IER, RECEIVE);
        send(b"r");
        let raised = pending();
        let source = read32(plic::CLAIM);
        get(DATA);
        write32(plic::CLAIM, source);
        (quiet, raised, source, pending())
    });
    write32(plic::enable(UART_IRQ), 0);
    check!("no_interrupt_at_first", !quiet);
    check!("a_received_byte_interrupts", raised);
    check!("the_controller_names_the_uart", source, UART_IRQ);
    check!("read_and_completed_it_is_quiet", !cleared);
}
