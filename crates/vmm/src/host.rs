//! What a virtual machine needs of the real hart it runs on. `world` has the real one, tests a fake.

use isa::FReg;

/// The real hart, as far as a virtual machine may reach it.
pub trait Host {
    /// The time CSR: ticks of the timebase. Guests see the same clock.
    fn now(&self) -> u64;

    /// The hart's cycle counter.
    fn cycle(&self) -> u64;

    /// The hart's counter of retired instructions.
    fn instret(&self) -> u64;

    /// Takes bytes for the operator's console and says how many it took; the rest must be offered again.
    fn console_write(&mut self, bytes: &[u8]) -> usize;

    /// A byte that the operator typed for this VM.
    fn console_read(&mut self) -> Option<u8>;

    /// A floating-point register of the running vCPU, whose state the hart holds.
    fn fp_read(&mut self, register: FReg) -> u64;

    /// Sets a floating-point register of the running vCPU.
    fn fp_write(&mut self, register: FReg, value: u64);
}
