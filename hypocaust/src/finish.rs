//! The ways to power the machine off with the exit status that `hypo run` reports.

use hart::HostSpace;
use memory::HostPhysAddr;
use world::Status;

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
