//! The table of CSR rules, one row a CSR. From it come what Rust reads and writes, what a rewritten site may leave to the
//! assembly, and the assembly's constants.

use core::mem::offset_of;

use isa::csr::{CsrAddr, scounteren, senvcfg, sstatus};
use isa::paging::Satp;
use isa::{Interrupt, Privilege};

use super::{Counter, CsrFile, Illegal, Read, SEPC_MASK};

/// What becomes of a value that is written: the specification's "write any values, read legal values".
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Warl {
    /// Bits that cannot be written become 0.
    Masked,
    /// Bits that cannot be written stay.
    Kept,
    /// A method of `CsrFile` says what sticks; where it says nothing, the write has no effect.
    Legal,
    /// As for sstatus: UXL is fixed, and FS and VS live apart where there are such units.
    Status,
    /// Every write is illegal.
    ReadOnly,
}

/// What a rewritten site may leave to the assembly.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum InAssembly {
    /// Nothing.
    Nothing,
    /// A read of the field.
    Read,
    /// That, a write of the bits that can be written, and a swap.
    ReadWrite,
    /// All that is done to sstatus.
    Status,
    /// A read; a write, if the value has a MODE.
    Vector,
    /// A read; a write, if the roots of the new space are at hand.
    Root,
}

/// A row of the table.
#[derive(Clone, Copy, Debug)]
pub struct CsrRule {
    /// The CSR.
    pub csr: CsrAddr,
    /// Where in a `CsrFile` its field is; a counter has none.
    pub field: Option<usize>,
    /// The bits that can be written.
    pub writable: u64,
    /// What becomes of a value that is written.
    pub warl: Warl,
    /// What the assembly may do.
    pub in_assembly: InAssembly,
}

macro_rules! csr_rules {
    (
        fields { $($csr:ident: $field:ident, $writable:expr, $warl:ident $(($legal:ident))? $(then $after:ident)?,
            $fast:ident;)* }
        counters { $($counter:ident: $name:ident, $enable:expr;)* }
    ) => {
        /// All rows.
        pub(crate) const RULES: &[CsrRule] = &[
            $(CsrRule {
                csr: CsrAddr::$csr,
                field: Some(offset_of!(CsrFile, $field)),
                writable: $writable,
                warl: Warl::$warl,
                in_assembly: InAssembly::$fast,
            },)*
            $(CsrRule {
                csr: CsrAddr::$counter,
                field: None,
                writable: 0,
                warl: Warl::ReadOnly,
                in_assembly: InAssembly::Nothing,
            },)*
        ];

        impl CsrFile {
            /// Reads a CSR that the privilege reaches.
            #[inline]
            pub(super) fn read_by_rule(&self, csr: CsrAddr, privilege: Privilege) -> Result<Read, Illegal> {
                match csr {
                    $(CsrAddr::$csr => Ok(Read::Value(csr_rules!(@read $warl self $field))),)*
                    $(CsrAddr::$counter => self.counter($enable, privilege, Counter::$name),)*
                    _ => Err(Illegal),
                }
            }

            /// Writes a CSR that the privilege reaches and that is not read-only.
            #[inline]
            pub(super) fn write_by_rule(&mut self, csr: CsrAddr, value: u64) -> Result<(), Illegal> {
                match csr {
                    $(CsrAddr::$csr => {
                        csr_rules!(@write $warl $(($legal))? self $field ($writable) value);
                        $(self.$after();)?
                    })*
                    _ => return Err(Illegal),
                }
                Ok(())
            }
        }
    };
    (@read Status $this:ident $field:ident) => { $this.sstatus() };
    (@read $warl:ident $this:ident $field:ident) => { $this.$field };
    (@write Masked $this:ident $field:ident $writable:tt $value:ident) => { $this.$field = $value & $writable };
    (@write Kept $this:ident $field:ident $writable:tt $value:ident) => {
        $this.$field = $this.$field & !$writable | $value & $writable
    };
    (@write Legal($legal:ident) $this:ident $field:ident $writable:tt $value:ident) => {
        if let Some(legal) = $this.$legal($value) {
            $this.$field = legal & $writable;
        }
    };
    (@write Status $this:ident $field:ident $writable:tt $value:ident) => {{
        $this.$field = $value & $writable | sstatus::UXL_64;
        $this.units = $value & $this.units_written;
    }};
}

/// All bits.
const ALL: u64 = u64::MAX;
/// Bits of sstatus that every virtual hart has; FS and VS come with their units.
const STATUS: u64 = sstatus::SIE | sstatus::SPIE | sstatus::SPP | sstatus::SUM | sstatus::MXR;
/// Priv. spec, "Supervisor Interrupt Registers".
pub(super) const INTERRUPTS: u64 =
    Interrupt::Software.mask() | Interrupt::Timer.mask() | Interrupt::External.mask();
/// The one interrupt that a guest raises and lowers itself.
const SOFTWARE: u64 = Interrupt::Software.mask();
/// scounteren is a 32-bit register, all of whose bits stick.
const COUNTERS: u64 = u32::MAX as u64;
const ENVIRONMENT: u64 = senvcfg::FIOM | senvcfg::CBIE | senvcfg::CBCFE | senvcfg::CBZE;

csr_rules! {
    fields {
        // CSR:     field,      writable,    WARL rule,                    left to the assembly
        SSTATUS:    sstatus,    STATUS,      Status,                       Status;
        SIE:        sie,        INTERRUPTS,  Masked,                       Read;
        SIP:        pending,    SOFTWARE,    Kept,                         Read;
        STVEC:      stvec,      ALL,         Legal(legal_stvec),           Vector;
        SCOUNTEREN: scounteren, COUNTERS,    Masked then follow_counters,  Read;
        SENVCFG:    senvcfg,    ENVIRONMENT, Legal(legal_senvcfg),         Read;
        SSCRATCH:   sscratch,   ALL,         Masked,                       ReadWrite;
        SEPC:       sepc,       SEPC_MASK,   Masked,                       ReadWrite;
        SCAUSE:     scause,     ALL,         Masked,                       ReadWrite;
        STVAL:      stval,      ALL,         Masked,                       ReadWrite;
        SATP:       satp,       ALL,         Legal(legal_satp),            Root;
    }
    counters {
        // CSR:     counter,    the bit of scounteren
        CYCLE:      Cycle,      scounteren::CY;
        TIME:       Time,       scounteren::TM;
        INSTRET:    Instret,    scounteren::IR;
    }
}

/// A CSR's row.
pub const fn rule(csr: CsrAddr) -> Option<&'static CsrRule> {
    let mut rest = RULES;
    while let [first, others @ ..] = rest {
        if first.csr.as_u16() == csr.as_u16() {
            return Some(first);
        }
        rest = others;
    }
    None
}

/// Bits of sstatus that the assembly writes. MXR it never does, for `VcpuFrame::guarded` has it.
pub const STATUS_IN_ASSEMBLY: u64 = STATUS & !sstatus::MXR;
/// stvec.MODE.
pub const STVEC_MODE: u64 = 3;
/// Set in each MODE that is reserved.
pub const STVEC_NO_MODE: u64 = 2;

impl CsrFile {
    /// A reserved MODE leaves the register as it was, like the hardware that guests were made for.
    pub(super) const fn legal_stvec(&self, value: u64) -> Option<u64> {
        if value & STVEC_NO_MODE == 0 { Some(value) } else { None }
    }

    const fn legal_senvcfg(&self, value: u64) -> Option<u64> {
        let mut mask = senvcfg::FIOM;
        if self.features.cache_zero {
            mask |= senvcfg::CBZE;
        }
        if self.features.cache_blocks {
            mask |= senvcfg::CBCFE | senvcfg::CBIE;
        }
        let mut legal = value & mask;
        // CBIE = 2 is reserved; the field keeps its value.
        if legal & senvcfg::CBIE == 2 * senvcfg::CBIE_FLUSH {
            legal = legal & !senvcfg::CBIE | self.senvcfg & senvcfg::CBIE;
        }
        Some(legal)
    }

    /// Priv. spec, "Supervisor Address Translation and Protection Register": with an unsupported MODE the whole write has no
    /// effect.
    fn legal_satp(&self, value: u64) -> Option<u64> {
        Satp::from_bits(value).filter(|satp| satp.mode <= self.features.widest_mode).map(|_| value)
    }
}

const _: () = {
    let mut rest = RULES;
    while let [rule, others @ ..] = rest {
        let is_masked = matches!(rule.warl, Warl::Masked);
        assert!(!matches!(rule.in_assembly, InAssembly::ReadWrite) || is_masked, "the assembly only masks");
        assert!(rule.field.is_some() || matches!(rule.in_assembly, InAssembly::Nothing), "it reads a field");
        assert!(matches!(rule.warl, Warl::ReadOnly) == rule.csr.is_read_only());
        let mut later = others;
        while let [other, more @ ..] = later {
            assert!(rule.csr.as_u16() != other.csr.as_u16(), "two rows for one CSR");
            later = more;
        }
        rest = others;
    }
};
