//! The UART's rules, one test each. Expected values were read off QEMU 7.2.

extern crate std;

use proptest::prelude::*;

use super::*;

const DATA: u64 = 0;
const IER: u64 = 1;
const IIR: u64 = 2;
const FCR: u64 = 2;
const LCR: u64 = 3;
const MCR: u64 = 4;
const LSR: u64 = 5;
const MSR: u64 = 6;
const SCR: u64 = 7;

/// Long enough for any time-out at the speed after reset.
const LATER: BoardTime = BoardTime(10_000_000);

fn read(uart: &mut Uart16550, offset: u64) -> u64 {
    uart.read(offset, Width::Byte, BoardTime(0)).unwrap()
}

fn write(uart: &mut Uart16550, offset: u64, value: u64) {
    assert_eq!(uart.write(offset, Width::Byte, value, BoardTime(0)), Ok(Written::Done));
}

/// The console takes everything.
fn drain(uart: &mut Uart16550) {
    uart.transmitted(usize::MAX);
}

/// A UART with FIFOs on and interrupts `enable`d, its transmit-empty interrupt already seen.
fn uart_with_fifos(trigger: u64, enable: u64) -> Uart16550 {
    let mut uart = Uart16550::new();
    write(&mut uart, FCR, trigger << 6 | 1);
    write(&mut uart, IER, enable);
    read(&mut uart, IIR);
    uart
}

fn receive(uart: &mut Uart16550, count: usize) {
    for byte in 0..count {
        assert!(uart.receive(byte as u8, BoardTime(0)));
    }
}

#[test]
fn the_registers_start_as_on_qemu() {
    let mut uart = Uart16550::new();
    let registers = [DATA, IER, IIR, LCR, MCR, LSR, MSR, SCR].map(|offset| read(&mut uart, offset));
    assert_eq!(registers, [0x00, 0x00, 0x01, 0x00, 0x08, 0x60, 0xb0, 0x00]);
    write(&mut uart, LCR, 0x80);
    assert_eq!([DATA, IER].map(|offset| read(&mut uart, offset)), [0x0c, 0x00]);
    assert!(!uart.irq_level());
}

#[test]
fn a_wide_access_touches_one_register() {
    let mut uart = Uart16550::new();
    assert_eq!(uart.read(MCR, Width::Word, BoardTime(0)), Ok(0x08));
    assert_eq!(uart.read(DATA, Width::Double, BoardTime(0)), Ok(0x00));
    assert_eq!(uart.write(MCR, Width::Word, 0x1234_5678, BoardTime(0)), Ok(Written::Done));
    assert_eq!(read(&mut uart, MCR), 0x18);
    assert_eq!(read(&mut uart, LSR), 0x60);
}

#[test]
fn there_is_nothing_behind_the_eight_registers() {
    let mut uart = Uart16550::new();
    assert_eq!(uart.read(8, Width::Byte, BoardTime(0)), Err(Refused));
    assert_eq!(uart.write(u64::MAX, Width::Byte, 0, BoardTime(0)), Err(Refused));
}

#[test]
fn scratch_and_line_control_read_back() {
    let mut uart = Uart16550::new();
    write(&mut uart, SCR, 0x5a);
    write(&mut uart, LCR, 0x7f);
    assert_eq!((read(&mut uart, SCR), read(&mut uart, LCR)), (0x5a, 0x7f));
}

#[test]
fn only_existing_bits_of_ier_and_mcr_are_kept() {
    let mut uart = Uart16550::new();
    write(&mut uart, IER, 0xff);
    write(&mut uart, MCR, 0xff);
    assert_eq!((read(&mut uart, IER), read(&mut uart, MCR)), (0x0f, 0x1f));
}

#[test]
fn status_registers_cannot_be_written() {
    let mut uart = Uart16550::new();
    write(&mut uart, LSR, 0xff);
    write(&mut uart, MSR, 0xff);
    assert_eq!((read(&mut uart, LSR), read(&mut uart, MSR)), (0x60, 0xb0));
}

#[test]
fn dlab_shows_the_divisor_in_place_of_data_and_ier() {
    let mut uart = Uart16550::new();
    write(&mut uart, LCR, 0x83);
    write(&mut uart, DATA, 0x34);
    write(&mut uart, IER, 0x12);
    assert_eq!((read(&mut uart, DATA), read(&mut uart, IER)), (0x34, 0x12));
    write(&mut uart, LCR, 0x03);
    assert_eq!((read(&mut uart, DATA), read(&mut uart, IER)), (0, 0));
    assert!(uart.transmit_pending().is_empty());
}

#[test]
fn identification_shows_whether_fifos_are_on() {
    let mut uart = Uart16550::new();
    write(&mut uart, FCR, 1);
    assert_eq!(read(&mut uart, IIR), 0xc1);
    write(&mut uart, FCR, 0);
    assert_eq!(read(&mut uart, IIR), 0x01);
}

#[test]
fn enabling_the_transmit_interrupt_with_an_empty_transmitter_raises_it() {
    let mut uart = Uart16550::new();
    write(&mut uart, IER, 2);
    assert!(uart.irq_level());
    assert_eq!(read(&mut uart, IIR), 0x02);
}

#[test]
fn reading_iir_ends_the_transmit_interrupt_that_it_shows() {
    let mut uart = Uart16550::new();
    write(&mut uart, IER, 2);
    assert_eq!(read(&mut uart, IIR), 0x02);
    assert!(!uart.irq_level());
    assert_eq!(read(&mut uart, IIR), 0x01);
}

#[test]
fn reading_iir_leaves_a_transmit_interrupt_that_it_does_not_show() {
    let mut uart = Uart16550::new();
    write(&mut uart, IER, 3);
    receive(&mut uart, 1);
    assert_eq!(read(&mut uart, IIR), 0x04);
    read(&mut uart, DATA);
    assert_eq!(read(&mut uart, IIR), 0x02);
}

#[test]
fn the_transmit_interrupt_comes_again_when_toggled_but_not_when_written_the_same() {
    let mut uart = Uart16550::new();
    write(&mut uart, IER, 2);
    read(&mut uart, IIR);
    write(&mut uart, IER, 3);
    assert!(!uart.irq_level());
    write(&mut uart, IER, 0);
    write(&mut uart, IER, 2);
    assert!(uart.irq_level());
}

#[test]
fn a_byte_to_send_ends_the_transmit_interrupt_until_the_console_has_it() {
    let mut uart = Uart16550::new();
    write(&mut uart, IER, 2);
    write(&mut uart, DATA, b'x'.into());
    assert!(!uart.irq_level());
    assert_eq!(uart.transmit_pending(), b"x");
    uart.transmitted(1);
    assert!(uart.irq_level());
    assert_eq!(read(&mut uart, IIR), 0x02);
}

#[test]
fn the_transmitter_is_not_empty_until_the_console_has_every_byte() {
    let mut uart = Uart16550::new();
    write(&mut uart, DATA, b'a'.into());
    write(&mut uart, DATA, b'b'.into());
    assert_eq!(read(&mut uart, LSR), 0x00);
    uart.transmitted(1);
    assert_eq!(uart.transmit_pending(), b"b");
    assert_eq!(read(&mut uart, LSR), 0x00);
    uart.transmitted(1);
    assert_eq!(read(&mut uart, LSR), 0x60);
}

#[test]
fn enabling_the_transmit_interrupt_with_bytes_waiting_does_not_raise_it() {
    let mut uart = Uart16550::new();
    write(&mut uart, DATA, b'x'.into());
    write(&mut uart, IER, 2);
    assert!(!uart.irq_level());
    drain(&mut uart);
    assert!(uart.irq_level());
}

#[test]
fn a_byte_that_does_not_fit_is_handed_back() {
    let mut uart = Uart16550::new();
    for _ in 0..TRANSMIT_BUFFER {
        write(&mut uart, DATA, b'x'.into());
    }
    assert_eq!(uart.write(DATA, Width::Byte, b'y'.into(), BoardTime(0)), Ok(Written::TransmitFull));
    uart.transmitted(1);
    write(&mut uart, DATA, b'y'.into());
    assert_eq!(uart.transmit_pending().last(), Some(&b'y'));
}

#[test]
fn a_claimed_transmit_interrupt_leaves_the_line_but_not_iir() {
    let mut uart = Uart16550::new();
    write(&mut uart, IER, 2);
    uart.interrupt_claimed();
    assert!(!uart.irq_level());
    assert_eq!(read(&mut uart, IIR), 0x02);
    write(&mut uart, DATA, b'x'.into());
    drain(&mut uart);
    assert!(uart.irq_level());
}

#[test]
fn a_claimed_receive_interrupt_stays_on_the_line() {
    let mut uart = uart_with_fifos(0, 1);
    receive(&mut uart, 1);
    uart.interrupt_claimed();
    assert!(uart.irq_level());
}

#[test]
fn without_fifos_there_is_room_for_one_byte() {
    let mut uart = Uart16550::new();
    write(&mut uart, IER, 1);
    assert!(uart.receive(b'a', BoardTime(0)));
    assert!(!uart.receive(b'b', BoardTime(0)));
    assert_eq!((read(&mut uart, IIR), read(&mut uart, LSR)), (0x04, 0x61));
    assert_eq!(read(&mut uart, DATA), b'a'.into());
    assert_eq!((read(&mut uart, IIR), read(&mut uart, LSR)), (0x01, 0x60));
    assert_eq!(uart.receive_room(), 1);
}

#[test]
fn the_receive_fifo_takes_sixteen_bytes_and_keeps_their_order() {
    let mut uart = uart_with_fifos(0, 0);
    receive(&mut uart, 16);
    assert!(!uart.receive(16, BoardTime(0)));
    for byte in 0..16 {
        assert_eq!(read(&mut uart, LSR), 0x61);
        assert_eq!(read(&mut uart, DATA), byte);
    }
    assert_eq!(read(&mut uart, LSR), 0x60);
    assert_eq!(read(&mut uart, DATA), 0);
}

#[test]
fn firmware_takes_the_bytes_that_the_guest_has_not_read() {
    let mut uart = uart_with_fifos(0, 1);
    assert_eq!(uart.take_for_firmware(BoardTime(0)), None);
    receive(&mut uart, 2);
    assert_eq!(uart.take_for_firmware(BoardTime(0)), Some(0));
    assert_eq!(read(&mut uart, DATA), 1);
    assert_eq!(uart.take_for_firmware(BoardTime(0)), None);
    assert!(!uart.irq_level());
}

#[test]
fn the_receive_interrupt_waits_for_the_trigger_level() {
    for (trigger, level) in [(0, 1), (1, 4), (2, 8), (3, 14)] {
        let mut uart = uart_with_fifos(trigger, 1);
        receive(&mut uart, level - 1);
        assert!(!uart.irq_level(), "below {level}");
        receive(&mut uart, 1);
        assert!(uart.irq_level(), "at {level}");
        assert_eq!(read(&mut uart, IIR), 0xc4);
        read(&mut uart, DATA);
        assert!(!uart.irq_level(), "below {level} again");
    }
}

#[test]
fn bytes_below_the_trigger_level_time_out() {
    let mut uart = uart_with_fifos(2, 1);
    receive(&mut uart, 2);
    let due = uart.next_timeout().unwrap();
    uart.tick(BoardTime(due.0 - 1));
    assert!(!uart.irq_level());
    uart.tick(due);
    assert!(uart.irq_level());
    assert_eq!(read(&mut uart, IIR), 0xcc);
    assert_eq!(read(&mut uart, DATA), 0);
    assert_eq!(read(&mut uart, IIR), 0xc1);
    assert!(uart.next_timeout().is_some(), "one byte is left");
    read(&mut uart, DATA);
    assert_eq!(uart.next_timeout(), None);
}

#[test]
fn the_time_out_is_four_character_times() {
    let mut uart = uart_with_fifos(2, 1);
    receive(&mut uart, 1);
    assert_eq!(uart.next_timeout(), Some(BoardTime(4 * 1_041_660)));
    // 8 data bits, no parity, one stop bit; divisor 2.
    write(&mut uart, LCR, 0x83);
    write(&mut uart, DATA, 2);
    write(&mut uart, LCR, 0x03);
    receive(&mut uart, 1);
    assert_eq!(uart.next_timeout(), Some(BoardTime(4 * 10 * (1_000_000_000 / (399_193 / 2)))));
    // 5 data bits, parity, two stop bits.
    write(&mut uart, LCR, 0x0c);
    receive(&mut uart, 1);
    assert_eq!(uart.next_timeout(), Some(BoardTime(4 * 9 * (1_000_000_000 / (399_193 / 2)))));
}

#[test]
fn a_divisor_of_zero_keeps_the_speed() {
    let mut uart = uart_with_fifos(2, 1);
    write(&mut uart, LCR, 0x83);
    receive(&mut uart, 1);
    let before = uart.next_timeout();
    write(&mut uart, DATA, 0);
    write(&mut uart, LCR, 0x0c);
    receive(&mut uart, 1);
    assert_eq!(uart.next_timeout(), before);
}

#[test]
fn the_time_out_is_masked_with_the_receive_interrupt() {
    let mut uart = uart_with_fifos(2, 0);
    receive(&mut uart, 1);
    uart.tick(LATER);
    assert!(!uart.irq_level());
    write(&mut uart, IER, 1);
    assert!(uart.irq_level());
}

#[test]
fn an_overrun_keeps_the_old_bytes_and_shows_once() {
    let mut uart = uart_with_fifos(2, 4);
    write(&mut uart, MCR, 0x10);
    for byte in 0..17 {
        write(&mut uart, DATA, byte);
    }
    assert_eq!(read(&mut uart, IIR), 0xc6);
    assert_eq!(read(&mut uart, LSR), 0x63);
    assert_eq!(read(&mut uart, LSR), 0x61);
    assert_eq!(read(&mut uart, IIR), 0xc1);
    assert_eq!(read(&mut uart, DATA), 0);
}

#[test]
fn without_fifos_an_overrun_replaces_the_byte() {
    let mut uart = Uart16550::new();
    write(&mut uart, MCR, 0x10);
    write(&mut uart, DATA, 0x15);
    write(&mut uart, DATA, 0x16);
    assert_eq!(read(&mut uart, LSR), 0x63);
    assert_eq!(read(&mut uart, DATA), 0x16);
    assert_eq!(read(&mut uart, DATA), 0x16);
}

#[test]
fn a_break_is_a_zero_byte_and_a_line_status_interrupt() {
    let mut uart = uart_with_fifos(0, 4);
    uart.receive_break(BoardTime(0));
    assert_eq!(read(&mut uart, IIR), 0xc6);
    assert_eq!(read(&mut uart, LSR), 0x71);
    assert_eq!(read(&mut uart, LSR), 0x61);
    assert_eq!(read(&mut uart, DATA), 0);
}

#[test]
fn the_most_urgent_cause_is_shown_first() {
    let mut uart = uart_with_fifos(0, 0);
    write(&mut uart, MCR, 0x10);
    for byte in 0..17 {
        write(&mut uart, DATA, byte);
    }
    uart.tick(LATER);
    write(&mut uart, IER, 0x0f);
    assert_eq!(read(&mut uart, IIR), 0xc6);
    read(&mut uart, LSR);
    assert_eq!(read(&mut uart, IIR), 0xcc);
    read(&mut uart, DATA);
    assert_eq!(read(&mut uart, IIR), 0xc4);
    write(&mut uart, FCR, 3);
    assert_eq!(read(&mut uart, IIR), 0xc2);
    assert_eq!(read(&mut uart, IIR), 0xc1);
}

#[test]
fn switching_the_fifos_empties_the_receiver() {
    let mut uart = uart_with_fifos(2, 1);
    receive(&mut uart, 3);
    write(&mut uart, FCR, 0);
    assert_eq!(read(&mut uart, LSR), 0x60);
    assert_eq!(uart.next_timeout(), None);
    assert_eq!(uart.receive_room(), 1);
}

#[test]
fn clearing_the_receive_fifo_ends_its_interrupts() {
    let mut uart = uart_with_fifos(2, 1);
    receive(&mut uart, 3);
    uart.tick(LATER);
    assert!(uart.irq_level());
    write(&mut uart, FCR, 0x83);
    assert!(!uart.irq_level());
    assert_eq!(read(&mut uart, LSR), 0x60);
}

#[test]
fn clearing_the_transmit_fifo_loses_nothing() {
    let mut uart = uart_with_fifos(0, 2);
    write(&mut uart, DATA, b'x'.into());
    write(&mut uart, FCR, 5);
    assert_eq!(uart.transmit_pending(), b"x");
    assert!(!uart.irq_level());
    drain(&mut uart);
    assert!(uart.irq_level());
}

#[test]
fn loopback_receives_what_is_sent_and_sends_nothing() {
    let mut uart = uart_with_fifos(0, 1);
    write(&mut uart, MCR, 0x10);
    write(&mut uart, DATA, 0x41);
    assert!(uart.transmit_pending().is_empty());
    assert_eq!((read(&mut uart, IIR), read(&mut uart, LSR)), (0xc4, 0x61));
    assert_eq!(read(&mut uart, DATA), 0x41);
    assert_eq!(uart.receive_room(), 0);
    assert!(!uart.receive(b'x', BoardTime(0)));
}

#[test]
fn loopback_connects_the_modem_outputs_to_its_inputs() {
    let mut uart = Uart16550::new();
    for (outputs, inputs) in
        [(0x10, 0x00), (0x11, 0x20), (0x12, 0x10), (0x14, 0x40), (0x18, 0x80), (0x1a, 0x90)]
    {
        write(&mut uart, MCR, outputs);
        assert_eq!(read(&mut uart, MSR), inputs, "{outputs:#x}");
    }
}

#[test]
fn reset_restores_the_registers_and_keeps_what_was_sent() {
    let mut uart = uart_with_fifos(2, 0xf);
    receive(&mut uart, 3);
    write(&mut uart, DATA, b'x'.into());
    uart.reset();
    assert_eq!(uart.transmit_pending(), b"x");
    assert_eq!([IER, IIR, MCR].map(|offset| read(&mut uart, offset)), [0x00, 0x01, 0x08]);
    assert_eq!(uart.receive_room(), 1);
    assert!(!uart.irq_level());
}

/// Something that happens to a UART, and how long after the one before.
#[derive(Clone, Debug)]
enum Step {
    Read(u64),
    Write(u64, u8),
    Receive(u8),
    Transmitted(usize),
    Break,
    Claimed,
}

fn step() -> impl Strategy<Value = (Step, u64)> {
    let step = prop_oneof![
        4 => (0..9u64).prop_map(Step::Read),
        4 => (0..9u64, any::<u8>()).prop_map(|(o, v)| Step::Write(o, v)),
        2 => (0..1u64, any::<u8>()).prop_map(|(o, v)| Step::Write(o, v)),
        2 => any::<u8>().prop_map(Step::Receive),
        1 => (0..40usize).prop_map(Step::Transmitted),
        1 => Just(Step::Break),
        1 => Just(Step::Claimed),
    ];
    (step, prop_oneof![Just(0), 0..10_000_000u64])
}

proptest! {
    #[test]
    fn any_history_leaves_iir_line_and_status_consistent(steps in prop::collection::vec(step(), 1..300)) {
        let mut uart = Uart16550::new();
        let mut now = BoardTime(0);
        for (step, wait) in steps {
            now = now.after(wait);
            uart.tick(now);
            let room = uart.receive_room();
            match step {
                Step::Read(offset) => { let _ = uart.read(offset, Width::Byte, now); }
                Step::Write(offset, value) => {
                    let _ = uart.write(offset, Width::Byte, value.into(), now);
                }
                Step::Receive(byte) => prop_assert_eq!(uart.receive(byte, now), room > 0),
                Step::Transmitted(count) => uart.transmitted(count),
                Step::Break => uart.receive_break(now),
                Step::Claimed => uart.interrupt_claimed(),
            }
            // What the guest can read out must explain the line. Reads have effects, so on a copy.
            let mut seen = uart.clone();
            let iir = seen.read(IIR, Width::Byte, now).unwrap();
            let interrupting = iir & 1 == 0;
            prop_assert!(interrupting || !uart.irq_level(), "the line is high and IIR is {iir:#x}");
            prop_assert!(uart.irq_level() || !interrupting || iir & 0xf == 2, "IIR is {iir:#x}, the line low");
            let lsr = seen.read(LSR, Width::Byte, now).unwrap();
            prop_assert_ne!(lsr, 0xff);
            prop_assert_eq!(lsr & 0x60 == 0x60, uart.transmit_pending().is_empty());
            prop_assert!(uart.receive_room() <= 16);
            if uart.next_timeout().is_some() || uart.receiver.has_timed_out() {
                prop_assert!(lsr & 1 != 0, "a time-out with nothing received");
            }
        }
    }

    #[test]
    fn every_byte_written_reaches_the_console_in_order(
        bytes in prop::collection::vec(any::<u8>(), 0..600),
        takes in prop::collection::vec(1..300usize, 1..40),
    ) {
        let mut uart = Uart16550::new();
        let mut console = std::vec::Vec::new();
        let mut takes = takes.iter().cycle();
        let mut take = |uart: &mut Uart16550, console: &mut std::vec::Vec<u8>| {
            let count = (*takes.next().unwrap()).min(uart.transmit_pending().len());
            console.extend_from_slice(&uart.transmit_pending()[..count]);
            uart.transmitted(count);
        };
        for &byte in &bytes {
            while uart.write(DATA, Width::Byte, byte.into(), BoardTime(0)) != Ok(Written::Done) {
                take(&mut uart, &mut console);
            }
        }
        while !uart.transmit_pending().is_empty() {
            take(&mut uart, &mut console);
        }
        prop_assert_eq!(console, bytes);
    }
}
