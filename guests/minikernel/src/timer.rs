//! The hart's timer: one deadline at a time, in ticks of `time`.
//!
//! The timer only wakes the kernel up. What is due then is for the kernel to find out from the clock, so an
//! interrupt that comes early, late or twice does no harm.

use crate::firmware;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// A deadline that never comes.
pub const NEVER: u64 = u64::MAX;

/// The deadline that the firmware was told last.
static ARMED: AtomicU64 = AtomicU64::new(0);

/// Asks for an interrupt at `deadline`. A call into the firmware, unless that is the deadline already.
pub fn arm(deadline: u64) {
    if ARMED.swap(deadline, Relaxed) != deadline {
        firmware::set_timer(deadline);
    }
}

/// Asks for none, and takes back the one that waits: setting a new deadline clears it.
pub fn disarm() {
    ARMED.store(NEVER, Relaxed);
    firmware::set_timer(NEVER);
}
