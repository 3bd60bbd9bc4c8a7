//! Typed bytes: from the UART's receiver, by interrupt, through a ring to the shell.
//!
//! Nothing typed is lost, however fast it is pasted. The handler reads until the UART has no more, and when the
//! ring is full it leaves the rest in the UART and turns its interrupt off, until the shell has made room.
//! Output is `guest_rt::console`, polled.

use crate::machine::Machine;
use crate::plic;
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};
use guest_rt::console::UART;
use minikernel::ring::ByteRing;

/// Bytes typed ahead of the shell.
const TYPED_AHEAD: usize = 1024;
static TYPED: ByteRing<TYPED_AHEAD> = ByteRing::new();
/// Whether the ring was full, so that the receiver's interrupt is off.
static HELD: AtomicBool = AtomicBool::new(false);
/// The UART's source number at the PLIC.
static SOURCE: AtomicU32 = AtomicU32::new(0);

// Registers of the 16550, by their offsets.
const RECEIVE: u64 = 0;
const INTERRUPT_ENABLE: u64 = 1;
const FIFO_CONTROL: u64 = 2;
const LINE_STATUS: u64 = 5;
/// INTERRUPT_ENABLE: on received data.
const ON_DATA: u8 = 1;
/// FIFO_CONTROL: both FIFOs on, interrupt at the first byte.
const FIFOS_ON: u8 = 1;
/// LINE_STATUS: there is a byte to read.
const DATA_READY: u8 = 1;

/// Turns on the receiver's interrupt, at the UART and at the PLIC.
pub fn install(machine: &Machine) {
    SOURCE.store(machine.uart_source, Relaxed);
    // First what has been typed already: turning the FIFOs on may clear them.
    receive();
    write(FIFO_CONTROL, FIFOS_ON);
    write(INTERRUPT_ENABLE, ON_DATA);
    plic::enable(machine, machine.uart_source);
}

/// Serves the external interrupts that wait. Interrupts are off.
pub fn serve() {
    while let Some(source) = plic::claim() {
        if source == SOURCE.load(Relaxed) {
            receive();
        }
        plic::complete(source);
    }
}

/// The next byte typed.
pub fn read() -> Option<u8> {
    let byte = TYPED.pop();
    make_room();
    byte
}

/// Whether nothing has been typed.
pub fn is_empty() -> bool {
    TYPED.is_empty()
}

/// Whether `byte` was typed; it and all that was typed before it are dropped then. For Ctrl-C, which must
/// not wait until the shell reads again.
pub fn skip_past(byte: u8) -> bool {
    let found = TYPED.contains(byte);
    while found && TYPED.pop().is_some_and(|typed| typed != byte) {}
    make_room();
    found
}

fn receive() {
    while read_register(LINE_STATUS) & DATA_READY != 0 {
        if TYPED.is_full() {
            write(INTERRUPT_ENABLE, 0);
            HELD.store(true, Relaxed);
            return;
        }
        TYPED.push(read_register(RECEIVE));
    }
}

/// Turns the receiver's interrupt on again, once the ring is half empty: it fires at once if bytes wait.
fn make_room() {
    if TYPED.len() <= TYPED_AHEAD / 2 && HELD.swap(false, Relaxed) {
        write(INTERRUPT_ENABLE, ON_DATA);
    }
}

fn read_register(offset: u64) -> u8 {
    // SAFETY: a register of the UART, mapped one to one.
    unsafe { ((UART + offset) as *const u8).read_volatile() }
}

fn write(offset: u64, value: u8) {
    // SAFETY: as in `read_register`.
    unsafe { ((UART + offset) as *mut u8).write_volatile(value) }
}
