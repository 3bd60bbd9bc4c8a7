//! Where things are in QEMU's `virt` machine, and access to its device registers.

use core::ops::Range;

/// What the firmware keeps for itself: a power of two, as physical memory protection wants it.
pub const OWN: Range<u64> = 0x8000_0000..0x8008_0000;
/// The node of the device tree that says so.
pub const OWN_NODE: &[u8] = b"firmware@80000000";
/// Where QEMU's reset vector is, and behind it what it says to the firmware; the ROM is a little longer.
pub const ROM: Range<usize> = 0x1000..0xff00;
/// The next stage's entry, unless QEMU says another.
pub const NEXT: u64 = 0x8020_0000;
/// The highest priority that the interrupt controller knows: as a threshold it masks all sources.
pub const HIGHEST_PRIORITY: u32 = 7;
const CLINT: usize = 0x200_0000;
const PLIC: usize = 0xc00_0000;
const UART: usize = 0x1000_0000;
const FINISHER: usize = 0x10_0000;

/// A register that is written only, or read as well.
#[derive(Clone, Copy)]
pub struct Register<T>(*mut T);

impl<T: Copy> Register<T> {
    /// Reads it.
    pub fn read(self) -> T {
        // SAFETY: only the functions below make one, of a device register of this width; M-mode has no translation.
        unsafe { self.0.read_volatile() }
    }

    /// Writes it.
    pub fn write(self, value: T) {
        // SAFETY: as above; what a write does to the machine is the caller's purpose.
        unsafe { self.0.write_volatile(value) }
    }
}

/// Asks for a software interrupt of M-mode on a hart, at most 4094.
pub fn msip(hart: usize) -> Register<u32> {
    Register((CLINT + 4 * hart) as *mut u32)
}

/// The time from which on a hart, at most 4094, has a timer interrupt of M-mode.
pub fn mtimecmp(hart: usize) -> Register<u64> {
    Register((CLINT + 0x4000 + 8 * hart) as *mut u64)
}

/// The threshold of a context of the interrupt controller: two for each hart, M-mode's and S-mode's.
pub fn plic_threshold(context: usize) -> Register<u32> {
    Register((PLIC + 0x20_0000 + 0x1000 * context) as *mut u32)
}

/// One of the eight registers of the 16550.
pub fn uart(offset: usize) -> Register<u8> {
    Register((UART + (offset & 7)) as *mut u8)
}

/// The test finisher: ends the machine or resets it.
pub fn finisher() -> Register<u32> {
    Register(FINISHER as *mut u32)
}
