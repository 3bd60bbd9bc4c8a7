//! What a load or store that was decoded does.

use isa::{FReg, Reg, Width};
use mmu::Access;

/// A load or store, decoded.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plan {
    pub(super) rs1: Reg,
    pub(super) offset: i32,
    pub(super) width: Width,
    pub(super) transfer: Transfer,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Transfer {
    Load { rd: Reg, signed: bool },
    FloatLoad { rd: FReg },
    Store { rs2: Reg },
    FloatStore { rs2: FReg },
}

impl Plan {
    pub(super) const fn access(self) -> Access {
        match self.transfer {
            Transfer::Store { .. } | Transfer::FloatStore { .. } => Access::Store,
            Transfer::Load { .. } | Transfer::FloatLoad { .. } => Access::Load,
        }
    }

    pub(super) const fn is_float(self) -> bool {
        matches!(self.transfer, Transfer::FloatLoad { .. } | Transfer::FloatStore { .. })
    }
}
