//! What of a `VcpuFrame` is the guest's, as plain data: to be stored, and to be taken up again by another frame. The caches in
//! `FastState` are not part of it, nor what depends on the hart that the frame is on.
//!
//! A state that is read may come from anybody, so nothing of it is believed: a value that no hart could hold is refused.

use alloc::vec::Vec;
use core::fmt;

use isa::Privilege;
use serde::{Deserialize, Serialize};

use crate::csr::{CsrFeatures, CsrFile, SEPC_MASK};
use crate::frame::VcpuFrame;
use crate::units::VectorCsrs;

/// A virtual hart's registers, as far as its guest can tell.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct FrameState {
    hart: HartKind,
    /// x1 to x31; not an array, of which serde has the code for each element.
    x: Vec<u64>,
    pc: u64,
    is_supervisor: bool,
    /// Supervisor CSRs with their numbers, in the order of the table of rules.
    csrs: Vec<(u16, u64)>,
    float: Vec<u64>,
    fcsr: u64,
    /// v0 to v31, one behind the other.
    vector: Vec<u64>,
    vector_csrs: VectorCsrs,
}

/// What a hart has.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
struct HartKind {
    /// The widest translation mode, as in satp.
    widest_mode: u8,
    float: bool,
    vector: bool,
    cache_blocks: bool,
    cache_zero: bool,
    svinval: bool,
}

impl HartKind {
    const fn of(features: &CsrFeatures) -> Self {
        let CsrFeatures { widest_mode, float, vector, cache_blocks, cache_zero, svinval } = *features;
        Self { widest_mode: widest_mode as u8, float, vector, cache_blocks, cache_zero, svinval }
    }
}

/// Why a hart cannot be in a state.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unfit {
    /// It is that of a hart with another ISA, or longer or shorter vectors.
    OtherHart,
    /// No hart could be in it: what is wrong.
    Impossible(&'static str),
}

impl fmt::Display for Unfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OtherHart => f.write_str("the state is another hart's"),
            Self::Impossible(what) => write!(f, "no hart could be in this state: {what}"),
        }
    }
}

impl core::error::Error for Unfit {}

impl FrameState {
    /// The state of a frame that is on no hart, or whose units were saved.
    pub fn of(frame: &VcpuFrame) -> Self {
        // Without `..`: a new field is to be saved, or to be known as what is not the guest's.
        let VcpuFrame {
            x,
            pc,
            host_sp: _,
            privilege,
            csr,
            fast_exits: _,
            fast_fences: _,
            switch_flushes: _,
            fast: _,
            guarded: _,
            units,
        } = frame;
        let [_, x @ ..] = x;
        Self {
            hart: HartKind::of(csr.features()),
            x: x.to_vec(),
            pc: *pc,
            is_supervisor: *privilege == Privilege::Supervisor,
            csrs: csr.values().collect(),
            float: units.float.to_vec(),
            fcsr: units.fcsr,
            vector: units.vector.to_vec(),
            vector_csrs: units.vector_csrs,
        }
    }

    /// Puts a frame, which is on no hart, into this state. Its caches stay, and are to be dropped.
    ///
    /// # Errors
    /// Where it cannot be in it; it is as before then.
    pub fn restore(&self, frame: &mut VcpuFrame) -> Result<(), Unfit> {
        let csr = self.check(frame)?;
        let (Ok(x), Ok(float)) = (self.x.as_slice().try_into(), self.float.as_slice().try_into()) else {
            return Err(Unfit::Impossible("more or fewer registers"));
        };
        let privilege = if self.is_supervisor { Privilege::Supervisor } else { Privilege::User };
        frame.go_on_from(x, self.pc, privilege);
        frame.csr = csr;
        let units = &mut frame.units;
        units.disown();
        units.float = float;
        units.fcsr = self.fcsr;
        units.vector.copy_from_slice(&self.vector);
        units.vector_csrs = self.vector_csrs;
        Ok(())
    }

    /// Whether a frame can be in this state; the CSRs that it has then.
    ///
    /// # Errors
    /// Why not.
    pub fn check(&self, frame: &VcpuFrame) -> Result<CsrFile, Unfit> {
        const FCSR: u64 = 0xff;
        const VCSR: u64 = 0b111;
        let features = frame.csr.features();
        if self.hart != HartKind::of(features) || self.vector.len() != frame.units.vector.len() {
            return Err(Unfit::OtherHart);
        }
        if self.x.len() != 31 || self.float.len() != frame.units.float.len() {
            return Err(Unfit::Impossible("more or fewer registers"));
        }
        if self.pc & !SEPC_MASK != 0 {
            return Err(Unfit::Impossible("an odd pc"));
        }
        if self.fcsr & !FCSR != 0 || self.vector_csrs.vcsr & !VCSR != 0 {
            return Err(Unfit::Impossible("bits of fcsr or vcsr that there are not"));
        }
        CsrFile::with_values(*features, &self.csrs).ok_or(Unfit::Impossible("a CSR's value"))
    }
}

#[cfg(test)]
mod tests;
