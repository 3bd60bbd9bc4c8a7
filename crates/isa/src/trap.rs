//! Privilege modes, exceptions and interrupts. Priv. spec, "Supervisor Cause Register".

/// A privilege mode of a virtual hart. Machine mode belongs to the firmware and is never seen.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
#[repr(u64)] // The world switch reads it.
pub enum Privilege {
    /// U-mode.
    User = 0,
    /// S-mode.
    Supervisor = 1,
}

/// A synchronous exception, by its code in scause.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[repr(u8)]
#[allow(missing_docs)] // The names are the specification's.
pub enum Exception {
    InstructionAddressMisaligned = 0,
    InstructionAccessFault = 1,
    IllegalInstruction = 2,
    Breakpoint = 3,
    LoadAddressMisaligned = 4,
    LoadAccessFault = 5,
    StoreAddressMisaligned = 6,
    StoreAccessFault = 7,
    EcallFromUser = 8,
    EcallFromSupervisor = 9,
    InstructionPageFault = 12,
    LoadPageFault = 13,
    StorePageFault = 15,
}

impl Exception {
    /// Its code, as in scause with the interrupt bit clear.
    pub const fn code(self) -> u64 {
        self as u64
    }

    /// The exception with this code, or `None` for a reserved or custom one.
    pub const fn from_code(code: u64) -> Option<Self> {
        Some(match code {
            0 => Self::InstructionAddressMisaligned,
            1 => Self::InstructionAccessFault,
            2 => Self::IllegalInstruction,
            3 => Self::Breakpoint,
            4 => Self::LoadAddressMisaligned,
            5 => Self::LoadAccessFault,
            6 => Self::StoreAddressMisaligned,
            7 => Self::StoreAccessFault,
            8 => Self::EcallFromUser,
            9 => Self::EcallFromSupervisor,
            12 => Self::InstructionPageFault,
            13 => Self::LoadPageFault,
            15 => Self::StorePageFault,
            _ => return None,
        })
    }
}

/// A supervisor-level interrupt, by its code in scause and its bit in sip and sie.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[repr(u8)]
pub enum Interrupt {
    /// Supervisor software interrupt.
    Software = 1,
    /// Supervisor timer interrupt.
    Timer = 5,
    /// Supervisor external interrupt.
    External = 9,
}

impl Interrupt {
    /// scause's interrupt bit.
    pub const CAUSE_BIT: u64 = 1 << 63;

    /// All, the highest priority first. Priv. spec, "Supervisor Interrupt Registers": SEI, SSI, STI.
    pub const BY_PRIORITY: [Self; 3] = [Self::External, Self::Software, Self::Timer];

    /// Its code, without the interrupt bit.
    pub const fn code(self) -> u64 {
        self as u64
    }

    /// Its bit in sip and sie.
    pub const fn mask(self) -> u64 {
        1 << self as u64
    }

    /// scause as a trap on it reports it.
    pub const fn cause(self) -> u64 {
        Self::CAUSE_BIT | self as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exception_codes_lead_back_to_the_exception() {
        let defined = |code| Exception::from_code(code).map(Exception::code);
        for code in [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 13, 15] {
            assert_eq!(defined(code), Some(code));
        }
        for code in [10, 11, 14, 16, 24, 63, u64::MAX, Interrupt::CAUSE_BIT | 2] {
            assert_eq!(defined(code), None, "{code:#x}");
        }
    }

    #[test]
    fn interrupts_are_at_their_bits_of_sip() {
        assert_eq!(Interrupt::BY_PRIORITY.map(Interrupt::mask), [0x200, 0x2, 0x20]);
        assert_eq!(Interrupt::Timer.code(), 5);
        assert_eq!(Interrupt::Timer.cause(), 0x8000_0000_0000_0005);
    }

    #[test]
    fn supervisor_is_above_user() {
        assert!(Privilege::Supervisor > Privilege::User);
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
