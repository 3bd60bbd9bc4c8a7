//! What an instruction is, as far as a hypervisor must know: privileged ones, and everything that touches
//! memory. The rest is `Other`.

mod amo;
mod compressed;
mod decode;

pub use amo::Amo;
pub use decode::{decode, length};

use crate::csr::CsrAddr;
use crate::reg::{FReg, Reg};

/// How many bytes an access moves.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
#[allow(missing_docs)]
pub enum Width {
    Byte,
    Half,
    Word,
    Double,
}

impl Width {
    /// 1, 2, 4 or 8.
    pub const fn bytes(self) -> u64 {
        1 << self as u64
    }
}

/// What a Zicsr instruction does to the CSR.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CsrOp {
    /// CSRRW, CSRRWI: writes always; reads unless rd is x0.
    Write,
    /// CSRRS, CSRRSI: sets bits; does not write where the source field is 0.
    Set,
    /// CSRRC, CSRRCI: clears bits; does not write where the source field is 0.
    Clear,
}

/// Where a Zicsr instruction takes its operand.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CsrSource {
    /// A register.
    Reg(Reg),
    /// A zero-extended immediate, 0 to 31.
    Imm(u8),
}

/// An atomic memory operation's class: what matters for the kind of fault.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Atomic {
    /// LR.W, LR.D: faults as a load.
    LoadReserved,
    /// SC.W, SC.D: faults as a store.
    StoreConditional,
    /// AMO*, AMOCAS*: faults as a store.
    Amo,
}

/// A cache-block operation (Zicbom, Zicboz).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub enum CacheBlock {
    Inval,
    Clean,
    Flush,
    Zero,
}

/// An instruction.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Instr {
    /// CSRRW, CSRRS, CSRRC and their immediate forms.
    Csr {
        /// What it does.
        op: CsrOp,
        /// To which CSR.
        csr: CsrAddr,
        /// Where the old value goes.
        rd: Reg,
        /// The operand.
        src: CsrSource,
    },
    /// ECALL.
    Ecall,
    /// EBREAK or C.EBREAK.
    Ebreak,
    /// SRET.
    Sret,
    /// MRET, and MNRET of Smrnmi.
    Mret,
    /// WFI.
    Wfi,
    /// SFENCE.VMA.
    SfenceVma {
        /// The address, or x0 for all.
        rs1: Reg,
        /// The ASID, or x0 for all.
        rs2: Reg,
    },
    /// SINVAL.VMA (Svinval).
    SinvalVma {
        /// The address, or x0 for all.
        rs1: Reg,
        /// The ASID, or x0 for all.
        rs2: Reg,
    },
    /// SFENCE.W.INVAL (Svinval).
    SfenceWInval,
    /// SFENCE.INVAL.IR (Svinval).
    SfenceInvalIr,
    /// HFENCE.*, HINVAL.*, HLV*, HSV*.
    Hypervisor,
    /// An integer load.
    Load {
        /// The destination.
        rd: Reg,
        /// The base address.
        rs1: Reg,
        /// Added to the base.
        offset: i32,
        /// How much.
        width: Width,
        /// Whether the value is sign-extended.
        signed: bool,
    },
    /// An integer store.
    Store {
        /// The value.
        rs2: Reg,
        /// The base address.
        rs1: Reg,
        /// Added to the base.
        offset: i32,
        /// How much.
        width: Width,
    },
    /// A floating-point load; narrower ones are NaN-boxed.
    FpLoad {
        /// The destination.
        rd: FReg,
        /// The base address.
        rs1: Reg,
        /// Added to the base.
        offset: i32,
        /// How much: half, word or double.
        width: Width,
    },
    /// A floating-point store.
    FpStore {
        /// The value.
        rs2: FReg,
        /// The base address.
        rs1: Reg,
        /// Added to the base.
        offset: i32,
        /// How much: half, word or double.
        width: Width,
    },
    /// LR, SC, AMO*.
    Atomic {
        /// Which class.
        kind: Atomic,
        /// The address.
        rs1: Reg,
        /// How much. AMOCAS.Q is `Other`.
        width: Width,
    },
    /// CBO.*.
    CacheBlock {
        /// Which.
        op: CacheBlock,
        /// An address in the block.
        rs1: Reg,
    },
    /// A vector load or store, of any kind.
    VectorMemory,
    /// Anything else, legal or not.
    Other,
}
