//! Privilege modes, exceptions and interrupts. Priv. spec, "Supervisor Cause Register".

/// A privilege mode of a virtual hart. Machine mode belongs to the firmware and is never seen.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub enum Privilege {
    /// U-mode.
    User,
    /// S-mode.
    Supervisor,
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
