//! The SBI with every extension and arguments at all borders, but for calls that rightly end this machine or write to its
//! core; timers, interrupts, waiting.

use crate::places;
use crate::raw;
use crate::tape::value;
use features::random::Random;
use guest_rt::isa::Interrupt;
use guest_rt::isa::csr::sstatus::SIE;
use guest_rt::sbi::{self, BASE, DBCN, HSM, IPI, LEGACY_SHUTDOWN, RFENCE, SRST, STA, TIME};
use guest_rt::{csr_clear, csr_set, csr_write, time};

/// All interrupts of supervisor mode in sie.
const ALL: u64 = Interrupt::Software.mask() | Interrupt::Timer.mask() | Interrupt::External.mask();

/// A call.
pub fn call(tape: &mut Random) -> u64 {
    let extension = match tape.below(24) {
        0..=8 => tape.pick(&[BASE, TIME, IPI, RFENCE, HSM, SRST, DBCN, STA, 0x50_4d55]),
        9..=18 => tape.pick(&[RFENCE, RFENCE, IPI, TIME, HSM, DBCN, STA, BASE]),
        19 | 20 => tape.below(10),
        21 => value(tape),
        _ => tape.pick(&[0x0900_0000, 0x0a00_0000, 0x5355_5350, 0x4350_5043, 0x4e41_434c, 0x4657_4654]),
    };
    let function = if tape.one_in(16) { value(tape) } else { tape.below(8) };
    let mut arguments: [u64; 6] = core::array::from_fn(|_| value(tape));
    if extension == HSM && function == 3 && arguments[0] as u32 == 0 {
        // It waits as WFI does.
        csr_write!(SIE, Interrupt::Timer.mask());
        sbi::set_timer(time::now() + 100);
    }
    let ends = match extension {
        SRST => function == 0 && arguments[0] as u32 <= 2,
        HSM => function == 1 || function == 3 && arguments[0] as u32 != 0,
        LEGACY_SHUTDOWN => true,
        // System suspend.
        0x5355_5350 => function == 0,
        _ => false,
    };
    if ends {
        return 0;
    }
    if extension == DBCN && function == 0 && places::field() <= arguments[1] {
        // What it prints is nothing to read.
        arguments[0] &= 0xff;
    }
    sbi::call(extension, function, arguments).value
}

/// Sets a timer: now, in the past, never, or soon.
pub fn timer(tape: &mut Random) {
    let now = time::now();
    sbi::set_timer(tape.pick(&[0, now, now - 1, now + 50, u64::MAX, u64::MAX - 1, 1 << 63]));
    csr_write!(SIE, tape.number() & ALL);
    for _ in 0..tape.below(4) {
        csr_set!(SSTATUS, SIE);
    }
}

/// Interrupts itself.
pub fn interrupt(tape: &mut Random) {
    csr_write!(SIE, Interrupt::Software.mask());
    for _ in 0..1 + tape.below(16) {
        sbi::send_ipi(tape.pick(&[1, 1, 1, 0, 3, u64::MAX]), tape.pick(&[0, 0, 0, u64::MAX]));
        if tape.one_in(2) {
            csr_set!(SSTATUS, SIE);
        }
    }
    csr_clear!(SIP, Interrupt::Software.mask());
}

/// Waits, a little, for something that comes.
pub fn wait(tape: &mut Random) {
    csr_write!(SIE, Interrupt::Timer.mask() | tape.number() & ALL);
    sbi::set_timer(time::now() + tape.below(300));
    if tape.one_in(2) {
        csr_set!(SSTATUS, SIE);
    }
    raw::wait();
}
