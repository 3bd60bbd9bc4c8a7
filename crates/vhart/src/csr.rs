//! The supervisor CSRs of a virtual hart: what can be read, what sticks when written, what is illegal.
//!
//! Holds values and rules: what is true of one CSR stands in one row of the table in `rules`, and nowhere else. Says nothing
//! of where an instruction came from but the privilege it ran with, and carries out no effect: translation and interrupts
//! are looked at again before the guest runs on.

mod rules;
#[cfg(test)]
mod tests;
mod values;

use core::fmt;

use isa::csr::{CsrAddr, scounteren, senvcfg, sstatus};
use isa::paging::{Mode, Satp};
use isa::{Interrupt, Privilege};

pub use rules::{CsrRule, InAssembly, STATUS_IN_ASSEMBLY, STVEC_MODE, STVEC_NO_MODE, Warl, rule};

/// What a virtual hart has, as far as its CSRs show it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CsrFeatures {
    /// The widest translation mode: Sv39 or Sv48.
    pub widest_mode: Mode,
    /// F and D.
    pub float: bool,
    /// V.
    pub vector: bool,
    /// Zicbom.
    pub cache_blocks: bool,
    /// Zicboz.
    pub cache_zero: bool,
    /// Svinval.
    pub svinval: bool,
}

/// A counter of the real hart.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs)] // The names are the CSRs'.
pub enum Counter {
    Cycle,
    Time,
    Instret,
}

/// What reading a CSR gives.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Read {
    /// This value.
    Value(u64),
    /// What the real hart's counter holds.
    Counter(Counter),
}

/// The access is illegal.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Illegal;

/// sepc holds any address of an instruction with C.
pub const SEPC_MASK: u64 = !1;

/// The supervisor CSRs of one virtual hart. The fast path works on some of its fields, too: see `layout`.
#[derive(Clone, Debug)]
#[repr(C)]
pub struct CsrFile {
    /// sstatus, without FS, VS and SD.
    pub(crate) sstatus: u64,
    /// FS and VS, in their places. While the guest runs, the real sstatus has them.
    units: u64,
    /// Which of FS, VS and SD the hart has.
    pub(crate) units_read: u64,
    /// Which of FS and VS it has.
    pub(crate) units_written: u64,
    sie: u64,
    pending: u64,
    pub(crate) stvec: u64,
    scounteren: u64,
    /// Counters, by their bits of scounteren, whose values are not the hart's: user mode must not read those.
    virtual_counters: u64,
    /// The real scounteren, which follows from the two.
    native_counters: u64,
    senvcfg: u64,
    sscratch: u64,
    pub(crate) sepc: u64,
    pub(crate) scause: u64,
    pub(crate) stval: u64,
    pub(crate) satp: u64,
    features: CsrFeatures,
}

impl CsrFile {
    /// The CSRs of a hart with these features after reset: all zero, and both units off.
    pub const fn new(features: CsrFeatures) -> Self {
        let units_written =
            if features.float { sstatus::FS } else { 0 } | if features.vector { sstatus::VS } else { 0 };
        Self {
            features,
            sstatus: sstatus::UXL_64,
            units: 0,
            units_read: units_written | if units_written != 0 { sstatus::SD } else { 0 },
            units_written,
            sie: 0,
            pending: 0,
            stvec: 0,
            scounteren: 0,
            virtual_counters: 0,
            native_counters: 0,
            senvcfg: 0,
            sscratch: 0,
            sepc: 0,
            scause: 0,
            stval: 0,
            satp: 0,
        }
    }

    /// Reads a CSR on behalf of code that runs with `privilege`; of a counter, only whether it may be read.
    ///
    /// # Errors
    /// `Illegal` where the hart has no such CSR or the privilege does not reach it.
    pub fn read(&self, csr: CsrAddr, privilege: Privilege) -> Result<Read, Illegal> {
        self.check_privilege(csr, privilege)?;
        self.read_by_rule(csr, privilege)
    }

    /// Writes a CSR on behalf of code that runs with `privilege`.
    ///
    /// # Errors
    /// As for `read`, and where the CSR is read-only.
    pub fn write(&mut self, csr: CsrAddr, value: u64, privilege: Privilege) -> Result<(), Illegal> {
        self.check_privilege(csr, privilege)?;
        if csr.is_read_only() {
            return Err(Illegal);
        }
        self.write_by_rule(csr, value)
    }

    /// sstatus as it reads.
    pub const fn sstatus(&self) -> u64 {
        let dirty =
            self.units & sstatus::FS == sstatus::FS_DIRTY || self.units & sstatus::VS == sstatus::VS_DIRTY;
        self.sstatus | self.units | if dirty { sstatus::SD } else { 0 }
    }

    /// satp.
    pub const fn satp_bits(&self) -> u64 {
        self.satp
    }

    /// satp in its fields.
    pub fn satp(&self) -> Satp {
        // What is stored was checked when it was written.
        Satp::from_bits(self.satp).unwrap_or(Satp::BARE)
    }

    /// The state of the floating-point and vector units: FS and VS, in their places.
    pub const fn unit_states(&self) -> u64 {
        self.units
    }

    /// Which of FS and VS, in their places, the hart has.
    pub const fn unit_mask(&self) -> u64 {
        self.units_written
    }

    /// Takes over from the hardware what the guest has done to its units. `hardware` is the real sstatus, with which
    /// the guest has run.
    pub const fn take_unit_states(&mut self, hardware: u64) {
        self.units = hardware & self.units_written;
    }

    /// Notes that a floating-point register was written.
    pub const fn mark_float_dirty(&mut self) {
        self.units |= sstatus::FS_DIRTY;
    }

    /// sstatus.SUM.
    pub const fn sum(&self) -> bool {
        self.sstatus & sstatus::SUM != 0
    }

    /// sstatus.MXR.
    pub const fn mxr(&self) -> bool {
        self.sstatus & sstatus::MXR != 0
    }

    /// What decides on translation but the privilege: satp, and SUM and MXR as they stand in sstatus.
    pub const fn translation(&self) -> (u64, u64) {
        (self.satp, self.sum_and_mxr())
    }

    /// Both, as they stand in sstatus.
    pub const fn sum_and_mxr(&self) -> u64 {
        self.sstatus & (sstatus::SUM | sstatus::MXR)
    }

    /// sepc.
    pub const fn sepc(&self) -> u64 {
        self.sepc
    }

    /// scause.
    pub const fn scause(&self) -> u64 {
        self.scause
    }

    /// senvcfg.
    pub const fn senvcfg(&self) -> u64 {
        self.senvcfg
    }

    /// The real scounteren: the hart's counters that user mode may read without a trap.
    pub const fn native_counters(&self) -> u64 {
        self.native_counters
    }

    /// Names counters, by their bits of scounteren, whose values are not the hart's.
    pub const fn set_virtual_counters(&mut self, counters: u64) {
        self.virtual_counters = counters;
        self.follow_counters();
    }

    const fn follow_counters(&mut self) {
        let native = scounteren::CY | scounteren::TM | scounteren::IR;
        self.native_counters = self.scounteren & native & !self.virtual_counters;
    }

    /// Raises or lowers an interrupt's bit in sip.
    pub const fn set_pending(&mut self, interrupt: Interrupt, pending: bool) {
        if pending {
            self.pending |= interrupt.mask();
        } else {
            self.pending &= !interrupt.mask();
        }
    }

    /// Whether an interrupt's bit in sip is set.
    pub const fn is_pending(&self, interrupt: Interrupt) -> bool {
        self.pending & interrupt.mask() != 0
    }

    /// Whether an interrupt is pending and enabled in sie, whatever sstatus.SIE says: what ends a WFI.
    pub const fn wakes(&self) -> bool {
        self.ready() != 0
    }

    /// The interrupt that a hart running with `privilege` takes now. Priv. spec, "Supervisor Interrupt Registers":
    /// user mode ignores SIE.
    pub fn deliverable(&self, privilege: Privilege) -> Option<Interrupt> {
        let ready = self.ready();
        if ready == 0 || privilege == Privilege::Supervisor && self.sstatus & sstatus::SIE == 0 {
            return None;
        }
        Interrupt::BY_PRIORITY.into_iter().find(|interrupt| ready & interrupt.mask() != 0)
    }

    /// Whether a hart running with `privilege` would take this interrupt, were it pending.
    pub const fn lets_in(&self, interrupt: Interrupt, privilege: Privilege) -> bool {
        let is_enabled = self.sie & interrupt.mask() != 0;
        is_enabled && (matches!(privilege, Privilege::User) || self.sstatus & sstatus::SIE != 0)
    }

    /// Enters a trap from `privilege` at `pc` and returns the handler's address.
    /// Priv. spec, "Supervisor Status Register": SPP <- privilege, SPIE <- SIE, SIE <- 0; "Supervisor Trap Vector
    /// Base Address Register": MODE 1 adds four times the cause for interrupts only.
    pub const fn enter_trap(&mut self, privilege: Privilege, pc: u64, cause: u64, value: u64) -> u64 {
        let spie = if self.sstatus & sstatus::SIE != 0 { sstatus::SPIE } else { 0 };
        let spp = if matches!(privilege, Privilege::Supervisor) { sstatus::SPP } else { 0 };
        self.sstatus = self.sstatus & !(sstatus::SIE | sstatus::SPIE | sstatus::SPP) | spie | spp;
        self.sepc = pc & SEPC_MASK;
        self.scause = cause;
        self.stval = value;
        let vectored = self.stvec & 3 == 1 && cause & Interrupt::CAUSE_BIT != 0;
        let offset = if vectored { (cause & !Interrupt::CAUSE_BIT).wrapping_mul(4) } else { 0 };
        (self.stvec & !3).wrapping_add(offset)
    }

    /// SRET: the privilege and the pc to return to. SIE <- SPIE, SPIE <- 1, SPP <- 0.
    pub const fn leave_trap(&mut self) -> (Privilege, u64) {
        let privilege =
            if self.sstatus & sstatus::SPP != 0 { Privilege::Supervisor } else { Privilege::User };
        let sie = if self.sstatus & sstatus::SPIE != 0 { sstatus::SIE } else { 0 };
        self.sstatus = self.sstatus & !(sstatus::SIE | sstatus::SPP) | sstatus::SPIE | sie;
        (privilege, self.sepc)
    }

    /// What firmware leaves to a kernel that a hart starts or resumes with at `address`. SBI spec, "Hart State
    /// Management": satp = 0, SIE = 0. The rest is as OpenSBI leaves it, for kernels that rely on it: both units are on,
    /// user mode may read the counters, and a trap before stvec is set enters the kernel again. What is pending, what the
    /// last trap has left, and senvcfg stay.
    pub(crate) const fn hand_over(&mut self, address: u64) {
        self.sstatus = sstatus::UXL_64;
        self.units = self.units_written;
        self.sie = 0;
        if let Some(stvec) = self.legal_stvec(address) {
            self.stvec = stvec;
        }
        self.scounteren = scounteren::CY | scounteren::TM | scounteren::IR;
        self.follow_counters();
        self.sscratch = 0;
        self.satp = 0;
    }

    /// The interrupts that are pending and enabled in sie, as bits of sip.
    pub const fn ready(&self) -> u64 {
        self.pending & self.sie
    }

    /// What the hart has.
    pub const fn features(&self) -> &CsrFeatures {
        &self.features
    }

    /// What the real senvcfg is in virtual user mode and in virtual supervisor mode. A user's is the guest's, but that a true
    /// CBO.INVAL could uncover another guest's data in the cache, so it runs as a flush; a supervisor has all of it.
    pub(crate) const fn real_senvcfg(&self) -> [u64; 2] {
        let invalidates = self.senvcfg & senvcfg::CBIE != 0;
        let user = self.senvcfg & !senvcfg::CBIE | if invalidates { senvcfg::CBIE_FLUSH } else { 0 };
        let blocks = if self.features.cache_blocks { senvcfg::CBIE_FLUSH | senvcfg::CBCFE } else { 0 };
        [user, blocks | if self.features.cache_zero { senvcfg::CBZE } else { 0 }]
    }

    fn counter(&self, enable: u64, privilege: Privilege, counter: Counter) -> Result<Read, Illegal> {
        match privilege {
            Privilege::User if self.scounteren & enable == 0 => Err(Illegal),
            _ => Ok(Read::Counter(counter)),
        }
    }

    fn check_privilege(&self, csr: CsrAddr, privilege: Privilege) -> Result<(), Illegal> {
        let reach = match privilege {
            Privilege::User => 0,
            Privilege::Supervisor => 1,
        };
        if csr.privilege() > reach { Err(Illegal) } else { Ok(()) }
    }
}

impl fmt::Display for CsrFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sstatus {:#x} sie {:#x} sip {:#x} ", self.sstatus(), self.sie, self.pending)?;
        write!(f, "stvec {:#x} sepc {:#x} scause {:#x} ", self.stvec, self.sepc, self.scause)?;
        write!(f, "stval {:#x} sscratch {:#x} satp {:#x}", self.stval, self.sscratch, self.satp)
    }
}
