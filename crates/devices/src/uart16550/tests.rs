//! The UART's rules, one test each: registers, transmitter, interrupts. Expected values were read off QEMU 7.2.

mod histories;
mod receiving;

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
