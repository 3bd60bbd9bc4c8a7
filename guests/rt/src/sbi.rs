//! Calls into the SBI, and the numbers of the extensions. Raw on purpose: a test of the SBI wants to see
//! errors and values as they are.

use core::arch::asm;

/// What a call answers. SBI spec, "Binary Encoding".
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ret {
    /// a0: 0 or a negative error code.
    pub error: i64,
    /// a1: the value, of meaning only where the call succeeded.
    pub value: u64,
}

/// Success.
pub const SUCCESS: i64 = 0;
/// Failed for a reason not named.
pub const FAILED: i64 = -1;
/// No such extension or function.
pub const NOT_SUPPORTED: i64 = -2;
/// An argument is invalid.
pub const INVALID_PARAM: i64 = -3;
/// Denied.
pub const DENIED: i64 = -4;
/// An address is not one of RAM.
pub const INVALID_ADDRESS: i64 = -5;
/// Started, stopped or available already.
pub const ALREADY_AVAILABLE: i64 = -6;

/// Base extension.
pub const BASE: u64 = 0x10;
/// Timer extension.
pub const TIME: u64 = 0x5449_4d45;
/// Inter-processor interrupts.
pub const IPI: u64 = 0x73_5049;
/// Remote fences.
pub const RFENCE: u64 = 0x5246_4e43;
/// Hart state management.
pub const HSM: u64 = 0x48_534d;
/// System reset.
pub const SRST: u64 = 0x5352_5354;
/// Debug console.
pub const DBCN: u64 = 0x4442_434e;
/// Steal-time accounting.
pub const STA: u64 = 0x53_5441;

/// Legacy extension: set the timer.
pub const LEGACY_SET_TIMER: u64 = 0;
/// Legacy extension: print one character.
pub const LEGACY_PUTCHAR: u64 = 1;
/// Legacy extension: read one character.
pub const LEGACY_GETCHAR: u64 = 2;
/// Legacy extension: power off.
pub const LEGACY_SHUTDOWN: u64 = 8;

/// Calls function `function` of `extension` with a0 to a5.
pub fn call(extension: u64, function: u64, arguments: [u64; 6]) -> Ret {
    let (error, value);
    // SAFETY: the SBI preserves all registers but a0 and a1, and memory but for what the call is asked to
    // write, which the caller named.
    unsafe {
        asm!("ecall",
            inlateout("a0") arguments[0] => error, inlateout("a1") arguments[1] => value,
            in("a2") arguments[2], in("a3") arguments[3], in("a4") arguments[4], in("a5") arguments[5],
            in("a6") function, in("a7") extension, options(nostack));
    }
    Ret { error, value }
}

/// Calls a function with up to two arguments, the rest 0.
pub fn call2(extension: u64, function: u64, a0: u64, a1: u64) -> Ret {
    call(extension, function, [a0, a1, 0, 0, 0, 0])
}

/// Whether the Base extension reports this extension.
pub fn probe(extension: u64) -> bool {
    call2(BASE, 3, extension, 0) != Ret { error: SUCCESS, value: 0 }
}

/// Identity of the implementation: 1 is OpenSBI.
pub fn implementation() -> u64 {
    call2(BASE, 1, 0, 0).value
}

/// Sets the timer interrupt to `deadline`, in ticks of `time`.
pub fn set_timer(deadline: u64) -> Ret {
    call2(TIME, 0, deadline, 0)
}

/// Sends software interrupts to the harts of `mask`, whose bit 0 is hart `base`.
pub fn send_ipi(mask: u64, base: u64) -> Ret {
    call2(IPI, 0, mask, base)
}

/// Resets the system: `kind` 0 powers off, 1 reboots cold, 2 warm. Returns only where that failed.
pub fn system_reset(kind: u64, reason: u64) -> Ret {
    call2(SRST, 0, kind, reason)
}
