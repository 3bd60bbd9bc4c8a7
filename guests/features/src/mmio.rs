//! Registers of the machine's devices, by plain accesses that are expected to work, and where the devices are.

/// The interrupt controller.
pub const PLIC: u64 = 0x0c00_0000;
/// The serial port.
pub const UART: u64 = guest_rt::console::UART;
/// The clock.
pub const RTC: u64 = 0x10_1000;
/// An address where the machine has nothing.
pub const HOLE: u64 = 0x0800_0000;
/// An address far above all RAM, inside 56 bits.
pub const BEYOND_RAM: u64 = 1 << 40;

/// The PLIC's source that the UART drives.
pub const UART_IRQ: u32 = 10;
/// The PLIC's source that the clock drives.
pub const RTC_IRQ: u32 = 11;

/// Reads a byte register.
pub fn read8(address: u64) -> u8 {
    // SAFETY: a device's register; no object of Rust's lies there.
    unsafe { (address as *const u8).read_volatile() }
}

/// Writes a byte register.
pub fn write8(address: u64, value: u8) {
    // SAFETY: as in `read8`.
    unsafe { (address as *mut u8).write_volatile(value) }
}

/// Reads a 32-bit register.
pub fn read32(address: u64) -> u32 {
    // SAFETY: as in `read8`.
    unsafe { (address as *const u32).read_volatile() }
}

/// Writes a 32-bit register.
pub fn write32(address: u64, value: u32) {
    // SAFETY: as in `read8`.
    unsafe { (address as *mut u32).write_volatile(value) }
}

/// Registers of the PLIC that context 1 (hart 0, supervisor) sees. PLIC spec, "Memory Map".
pub mod plic {
    use super::PLIC;

    /// Priority of a source.
    pub fn priority(source: u32) -> u64 {
        PLIC + 4 * u64::from(source)
    }
    /// The word of pending bits that a source's is in.
    pub fn pending(source: u32) -> u64 {
        PLIC + 0x1000 + 4 * u64::from(source / 32)
    }
    /// The word of enable bits that a source's is in.
    pub fn enable(source: u32) -> u64 {
        PLIC + 0x2080 + 4 * u64::from(source / 32)
    }
    /// The threshold.
    pub const THRESHOLD: u64 = PLIC + 0x20_1000;
    /// Claim and complete.
    pub const CLAIM: u64 = PLIC + 0x20_1004;
}
