//! The hart's timer: one deadline at a time, in ticks of `time`.
//!
//! The timer only wakes the kernel up. What is due then is for the kernel to find out from the clock, so an
//! interrupt that comes early, late or twice does no harm.

use crate::firmware;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};
use guest_rt::isa::Interrupt;
use guest_rt::{csr_clear, csr_set};

/// A deadline that never comes.
pub const NEVER: u64 = u64::MAX;

/// The deadline asked for last; with `NEVER` the interrupt is masked.
static ARMED: AtomicU64 = AtomicU64::new(NEVER);

/// Asks for an interrupt at `deadline`. A call into the firmware, unless that is the deadline already.
pub fn arm(deadline: u64) {
    if deadline == NEVER {
        return disarm();
    }
    let before = ARMED.swap(deadline, Relaxed);
    if before != deadline {
        firmware::set_timer(deadline);
    }
    if before == NEVER {
        csr_set!(SIE, Interrupt::Timer.mask());
    }
}

/// Asks for none. One that waits already stays pending, but masked, until `arm` sets a new deadline.
///
/// SBI spec, "Set Timer": to mask the interrupt is as good as a deadline infinitely far away, and it is cheaper.
pub fn disarm() {
    if ARMED.swap(NEVER, Relaxed) != NEVER {
        csr_clear!(SIE, Interrupt::Timer.mask());
    }
}
