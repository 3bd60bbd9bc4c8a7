//! Base extension. SBI spec, "Base Extension".

use super::call::{SbiCall, SbiError, SbiResult};

/// Version 2.0: major in bits 30:24, minor below.
const SPEC_VERSION: u64 = 2 << 24;
/// Ours alone ("HYPC"); the small numbers are those of firmwares, for which guests have quirks.
const IMPLEMENTATION_ID: u64 = 0x4859_5043;
/// Version 0.1: major in the upper 16 bits.
const IMPLEMENTATION_VERSION: u64 = 1;

/// Serves a call; `is_present` says which extensions guests have.
pub(super) fn call(call: SbiCall, is_present: impl Fn(u64) -> bool) -> SbiResult {
    Ok(match call.function {
        0 => SPEC_VERSION,
        1 => IMPLEMENTATION_ID,
        2 => IMPLEMENTATION_VERSION,
        3 => u64::from(is_present(call.args[0])),
        // mvendorid, marchid, mimpid: zero is "not implemented". The real ones would make a guest apply
        // errata and custom page-table bits of hardware that it does not see.
        4..=6 => 0,
        _ => return Err(SbiError::NotSupported),
    })
}
