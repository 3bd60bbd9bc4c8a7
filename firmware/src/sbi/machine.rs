//! What the extensions have to know of the machine: which harts there are, and where S-mode's RAM is.

use core::sync::atomic::{AtomicU64, Ordering};
use firmware::harts::HartSet;
use firmware::tree::Machine;

/// What the device tree said: set once, before other harts run.
static HARTS: AtomicU64 = AtomicU64::new(0);
static RAM_START: AtomicU64 = AtomicU64::new(0);
static RAM_END: AtomicU64 = AtomicU64::new(0);

/// Takes note of the machine.
pub fn init(machine: &Machine) {
    HARTS.store(machine.harts.0, Ordering::Relaxed);
    RAM_START.store(crate::map::OWN.end.max(machine.ram.start), Ordering::Relaxed);
    RAM_END.store(machine.ram.end, Ordering::Relaxed);
}

/// The harts that there are.
pub fn harts() -> HartSet {
    HartSet(HARTS.load(Ordering::Relaxed))
}

/// Whether all of a range is RAM, and not the firmware's.
pub fn is_ram(start: u64, len: u64) -> bool {
    let end = start.checked_add(len);
    start >= RAM_START.load(Ordering::Relaxed)
        && end.is_some_and(|end| end <= RAM_END.load(Ordering::Relaxed))
}
