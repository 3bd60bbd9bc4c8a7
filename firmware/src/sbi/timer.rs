//! The timer extension: S-mode's own timer where the hart has Sstc, else the CLINT's through M-mode.

use crate::csr::{self, interrupt};
use crate::{hart, map};

/// The extension.
pub struct Timer;

impl rustsbi::Timer for Timer {
    fn set_timer(&self, deadline: u64) {
        if hart::has_sstc() {
            return hart::set_stimecmp(deadline);
        }
        // A deadline in the past interrupts at once, in M-mode, when this call has returned.
        csr::clear!("mip", interrupt::SUPERVISOR_TIMER);
        map::mtimecmp(hart::id()).write(deadline);
        csr::set!("mie", interrupt::MACHINE_TIMER);
    }
}
