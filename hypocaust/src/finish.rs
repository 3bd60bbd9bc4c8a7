//! How it ends: the exit status that `hypo run` reports, and the ways to power the machine off with it.

use hart::HostSpace;
use memory::HostPhysAddr;

/// The status of the whole run, the better ones first: with several guests the worst counts. `hypo run --help` and the
/// README list the same numbers.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Status {
    /// All guests powered themselves off.
    PoweredOff,
    /// A guest asked for a reset, and the bundle says that this ends the run.
    Reset,
    /// A guest reported failure.
    GuestFailed,
    /// A guest was stopped for a reason of ours.
    Stopped,
    /// Set-up or the hypervisor failed.
    Failed,
}

impl Status {
    /// The number that says so.
    pub const fn code(self) -> u8 {
        match self {
            Self::PoweredOff => 0,
            Self::Reset => 32,
            Self::GuestFailed => 34,
            Self::Stopped => 33,
            Self::Failed => 1,
        }
    }
}

/// What the test finisher takes: success, or failure with a code in the upper half.
const PASS: u32 = 0x5555;
const FAIL: u32 = 0x3333;

/// Powers the machine off with a status: through the test finisher, which gives it to QEMU's caller, else through
/// the firmware, after a line that says it.
pub fn power_off(space: &HostSpace, finisher: Option<HostPhysAddr>, status: Status) -> ! {
    let code = u32::from(status.code());
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
