//! The receiver's rules: room, order, trigger level, time-out, errors.

use super::*;

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
