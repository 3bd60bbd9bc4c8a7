//! What a trap leaves behind: the registers it saved, and what the hardware says of it.

use core::fmt;

use crate::reg::Reg;

/// A hart's integer registers and pc, saved while the hypervisor works. The world switch finds its fields by
/// `offset_of!`.
#[derive(Clone, Debug, Default)]
#[repr(C)]
pub struct TrapFrame {
    /// x1 to x31; the place of x0 is never read.
    x: [u64; 32],
    /// Where the guest goes on.
    pub pc: u64,
    /// The hypervisor's stack pointer while the guest runs; the world switch's own.
    pub host_sp: u64,
}

impl TrapFrame {
    /// Where in the frame the registers are; x0 is the first.
    pub const REGISTERS_OFFSET: usize = core::mem::offset_of!(Self, x);

    /// A register's value; 0 for x0.
    pub const fn get(&self, reg: Reg) -> u64 {
        if reg.index() == 0 { 0 } else { self.x[reg.index()] }
    }

    /// Sets a register; x0 stays 0.
    pub const fn set(&mut self, reg: Reg, value: u64) {
        if reg.index() != 0 {
            self.x[reg.index()] = value;
        }
    }
}

impl fmt::Display for TrapFrame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "  pc   {:#018x}", self.pc)?;
        for number in 1..32 {
            let reg = Reg::new(number);
            let separator = if number % 4 == 0 { "\n" } else { "" };
            write!(f, "{separator}  {:<4} {:#018x}", reg, self.get(reg))?;
        }
        Ok(())
    }
}

/// What the hardware says of a trap.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TrapInfo {
    /// scause.
    pub cause: u64,
    /// stval.
    pub value: u64,
}
