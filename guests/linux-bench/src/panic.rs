//! What happens on a panic.

use crate::report;
use crate::system::{exit, getpid, power_off};

/// Says why and powers off: as the first process it must not just end. A child that fails ends with a status
/// that its parent sees.
#[panic_handler]
fn panic(info: &core::panic::PanicInfo) -> ! {
    report::line(format_args!("linux-bench: {info}"));
    if getpid() == 1 { power_off() } else { exit(1) }
}
