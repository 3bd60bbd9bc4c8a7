//! The floating-point and vector registers of a virtual hart, while the real hart does not hold them.

use alloc::boxed::Box;
use core::iter::repeat_n;

/// What OpenSBI puts into each floating-point register before it hands a hart over: 0 in single precision. Unpriv. spec,
/// "NaN Boxing of Narrower Values".
pub const SINGLE_ZERO: u64 = 0xffff_ffff_0000_0000;

/// The registers of both units. All zero at first: nobody else's values are ever seen.
#[derive(Clone, Debug)]
pub struct Units {
    /// f0 to f31; narrower values are boxed.
    pub float: [u64; 32],
    /// fcsr.
    pub fcsr: u64,
    /// v0 to v31, one behind the other; empty where there is no V.
    pub vector: Box<[u64]>,
    /// The vector unit's CSRs.
    pub vector_csrs: VectorCsrs,
    owner: Owner,
}

/// The vector unit's CSRs that a vCPU can change.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(C)]
#[allow(missing_docs)] // The names are the specification's.
pub struct VectorCsrs {
    pub vstart: u64,
    pub vl: u64,
    pub vtype: u64,
    pub vcsr: u64,
}

impl VectorCsrs {
    /// vtype.vill is set, as recommended for a hart that was reset. Vector spec, "State of Vector Extension at Reset".
    pub const RESET: Self = Self { vstart: 0, vl: 0, vtype: 1 << 63, vcsr: 0 };
}

/// Whose values a unit of the real hart holds: a vCPU's, between two of its resets.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Owner {
    vcpu: u64,
    life: u64,
}

impl Units {
    /// The units of the vCPU with this number, which no other of the machine's has. `vlenb` is the length of a vector
    /// register in bytes, a multiple of 8; 0 where there is no V.
    pub fn new(vcpu: u64, vlenb: usize) -> Self {
        Self {
            float: [0; 32],
            fcsr: 0,
            vector: repeat_n(0, 32 * vlenb / 8).collect(),
            vector_csrs: VectorCsrs::RESET,
            owner: Owner { vcpu, life: 0 },
        }
    }

    /// Back to zero. What the real hart may still hold is nobody's from now on.
    pub fn reset(&mut self) {
        self.float = [0; 32];
        self.fcsr = 0;
        self.vector.fill(0);
        self.vector_csrs = VectorCsrs::RESET;
        self.owner.life = self.owner.life.wrapping_add(1);
    }

    /// The floating-point unit as firmware hands it over. It leaves the vector unit alone.
    pub(crate) const fn hand_over(&mut self) {
        self.float = [SINGLE_ZERO; 32];
        self.fcsr = 0;
    }

    /// Whose registers these are.
    pub const fn owner(&self) -> Owner {
        self.owner
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reset_leaves_nothing_and_disowns_what_the_hart_holds() {
        let mut units = Units::new(3, 16);
        assert_eq!(units.vector.len() * 8, 32 * 16);
        let before = units.owner();
        units.float[31] = 1;
        units.fcsr = 2;
        units.vector.fill(3);
        units.vector_csrs.vl = 4;
        units.reset();
        assert_eq!((units.float, units.fcsr, units.vector_csrs), ([0; 32], 0, VectorCsrs::RESET));
        assert!(units.vector.iter().all(|word| *word == 0));
        assert_ne!(units.owner(), before);
        assert_ne!(units.owner(), Units::new(4, 16).owner());
    }
}
