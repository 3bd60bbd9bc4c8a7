//! The host's goldfish real-time clock.

use hart::Mmio;

/// Nanoseconds since 1970. Reading the low half latches the high one.
pub fn now(registers: &Mmio) -> u64 {
    const LOW: u64 = 0;
    const HIGH: u64 = 4;
    let low = registers.read32(LOW);
    u64::from(registers.read32(HIGH)) << 32 | u64::from(low)
}
