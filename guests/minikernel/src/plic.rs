//! The platform-level interrupt controller: which device's interrupt it is. RISC-V PLIC specification.
//!
//! Knows one context, that of supervisor mode on the boot hart.

use crate::machine::Machine;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// The address of the context's threshold register; claim and complete are four bytes on.
static CONTEXT: AtomicU64 = AtomicU64::new(0);

/// Lets `source` through to this hart, above a threshold of 0.
pub fn enable(machine: &Machine, source: u32) {
    let base = machine.plic.start;
    let enable = base + 0x2000 + 0x80 * machine.plic_context + u64::from(source / 32) * 4;
    let context = base + 0x20_0000 + 0x1000 * machine.plic_context;
    write(base + 4 * u64::from(source), 1); // its priority
    write(enable, read(enable) | 1 << (source % 32));
    write(context, 0);
    CONTEXT.store(context, Relaxed);
}

/// Takes the interrupt of the highest priority, and gives its source.
pub fn claim() -> Option<u32> {
    let source = read(CONTEXT.load(Relaxed) + 4);
    (source != 0).then_some(source)
}

/// Says that a claimed interrupt has been served: only now can its source interrupt again.
pub fn complete(source: u32) {
    write(CONTEXT.load(Relaxed) + 4, source);
}

fn read(register: u64) -> u32 {
    // SAFETY: a register of the PLIC, mapped one to one before interrupts are enabled.
    unsafe { (register as *const u32).read_volatile() }
}

fn write(register: u64, value: u32) {
    // SAFETY: as in `read`.
    unsafe { (register as *mut u32).write_volatile(value) }
}
