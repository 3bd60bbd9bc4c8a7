//! Whatever happens to a UART, some things hold.

extern crate std;

use proptest::prelude::*;
use std::vec::Vec;

use super::*;

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
        let mut console = Vec::new();
        let mut takes = takes.iter().cycle();
        let mut take = |uart: &mut Uart16550, console: &mut Vec<u8>| {
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
