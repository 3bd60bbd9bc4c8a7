//! The system reset extension, by QEMU's test finisher.

use crate::{hart, map};
use rustsbi::SbiRet;
use rustsbi::spec::srst::{
    RESET_REASON_NO_REASON, RESET_REASON_SYSTEM_FAILURE, RESET_TYPE_COLD_REBOOT, RESET_TYPE_SHUTDOWN,
    RESET_TYPE_WARM_REBOOT,
};

/// The finisher's words.
const PASS: u32 = 0x5555;
const RESET: u32 = 0x7777;

/// The extension.
pub struct Reset;

impl rustsbi::Reset for Reset {
    fn system_reset(&self, kind: u32, reason: u32) -> SbiRet {
        if !matches!(reason, RESET_REASON_NO_REASON | RESET_REASON_SYSTEM_FAILURE) {
            return SbiRet::invalid_param();
        }
        match kind {
            RESET_TYPE_SHUTDOWN => power_off(),
            RESET_TYPE_COLD_REBOOT | RESET_TYPE_WARM_REBOOT => {
                map::finisher().write(RESET);
                hart::halt()
            }
            // The vendor's own: there are none.
            0xf000_0000.. => SbiRet::not_supported(),
            _ => SbiRet::invalid_param(),
        }
    }
}

/// Powers the machine off. The reason does not become a status of QEMU's, as with OpenSBI.
pub fn power_off() -> ! {
    map::finisher().write(PASS);
    hart::halt()
}
