//! How it ends: the exit status that `hypo run` reports, and the ways to power the machine off with it.

use hart::HostSpace;
use memory::HostPhysAddr;

/// The status of the whole run. `hypo run --help` and the README list the same numbers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Status {
    /// The guest powered itself off.
    PoweredOff = 0,
    /// Set-up or the hypervisor failed.
    Failed = 1,
    /// The guest asked for a reset, and the bundle says that this ends the run.
    Reset = 32,
    /// The guest was stopped for a reason of ours.
    Stopped = 33,
    /// The guest reported failure.
    GuestFailed = 34,
}

/// What the test finisher takes: success, or failure with a code in the upper half.
const PASS: u32 = 0x5555;
const FAIL: u32 = 0x3333;

/// Powers the machine off with a status: through the test finisher, which gives it to QEMU's caller, else through
/// the firmware, after a line that says it.
pub fn power_off(space: &HostSpace, finisher: Option<HostPhysAddr>, status: Status) -> ! {
    let code = status as u32;
    match finisher.and_then(|finisher| space.device(finisher)) {
        Some(finisher) => finisher.write32(0, if code == 0 { PASS } else { code << 16 | FAIL }),
        None => {
            use core::fmt::Write;
            let _ = writeln!(hart::console::EarlyConsole, "hypocaust: halted with status {code}");
            hart::firmware::power_off();
        }
    }
    hart::firmware::halt()
}
