//! Registers of the machine's devices, by plain accesses that are expected to work, and where the devices
//! are.

/// The interrupt controller.
pub const PLIC: u64 = 0x0c00_0000;
/// The serial port.
pub const UART: u64 = crate::console::UART;
/// The clock.
pub const RTC: u64 = 0x10_1000;
/// The first of eight virtio transports, 4 KiB each; the PLIC's source of each is its number, from 1.
pub const VIRTIO: u64 = 0x1000_1000;
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

/// Registers of the goldfish clock.
pub mod rtc {
    use super::{RTC, read32, write32};

    /// Low half of the time; reading it latches the high half.
    pub const TIME_LOW: u64 = RTC;
    /// High half of the time, as latched.
    pub const TIME_HIGH: u64 = RTC + 0x04;
    /// Low half of the alarm; writing it arms.
    pub const ALARM_LOW: u64 = RTC + 0x08;
    /// High half of the alarm.
    pub const ALARM_HIGH: u64 = RTC + 0x0c;
    /// Whether a rung alarm raises the interrupt.
    pub const IRQ_ENABLED: u64 = RTC + 0x10;
    /// Disarms.
    pub const CLEAR_ALARM: u64 = RTC + 0x14;
    /// Whether an alarm is armed.
    pub const ALARM_STATUS: u64 = RTC + 0x18;
    /// Takes the interrupt back.
    pub const CLEAR_INTERRUPT: u64 = RTC + 0x1c;

    /// The time in nanoseconds since 1970.
    pub fn now() -> u64 {
        let low = read32(TIME_LOW);
        u64::from(read32(TIME_HIGH)) << 32 | u64::from(low)
    }

    /// Arms the alarm for `time`; one in the past rings at once.
    pub fn set_alarm(time: u64) {
        write32(ALARM_HIGH, (time >> 32) as u32);
        write32(ALARM_LOW, time as u32);
    }

    /// Raises the clock's interrupt line, by an alarm in the past.
    pub fn raise() {
        write32(IRQ_ENABLED, 1);
        set_alarm(0);
    }

    /// Lowers the clock's interrupt line.
    pub fn lower() {
        write32(CLEAR_ALARM, 1);
        write32(CLEAR_INTERRUPT, 1);
        write32(IRQ_ENABLED, 0);
    }
}
