//! The floating-point and vector registers of a virtual hart, while the real hart does not hold them.

use alloc::boxed::Box;
use core::iter::repeat_n;

use isa::csr::sstatus;
use serde::{Deserialize, Serialize};

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
    /// Whose a real hart's floating-point registers are, where they hold what is here.
    float_owner: Owner,
    /// The same of its vector registers.
    vector_owner: Owner,
}

/// The vector unit's CSRs that a vCPU can change.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
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

/// Whose values a unit of a real hart holds: a vCPU's, as they were saved for the last time or set by a reset. Another hart on
/// which they were changed and saved since has raised the version.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Owner {
    vcpu: u64,
    version: u64,
}

impl Owner {
    const fn change(&mut self) {
        self.version = self.version.wrapping_add(1);
    }
}

/// Whose values the units' registers of a real hart hold; nobody's after the firmware.
#[derive(Clone, Copy, Debug, Default)]
pub struct Held {
    float: Option<Owner>,
    vector: Option<Owner>,
}

impl Held {
    /// The units, as bits of sstatus, whose registers on this hart are not the vCPU's and have to be loaded before it uses them.
    pub fn missing(&self, units: &Units) -> u64 {
        let float = if self.float == Some(units.float_owner) { 0 } else { sstatus::FS };
        let vector = if self.vector == Some(units.vector_owner) { 0 } else { sstatus::VS };
        float | vector
    }

    /// Notes that the floating-point registers were loaded from `units`.
    pub const fn loaded_float(&mut self, units: &Units) {
        self.float = Some(units.float_owner);
    }

    /// Notes that the vector registers were loaded from `units`.
    pub const fn loaded_vector(&mut self, units: &Units) {
        self.vector = Some(units.vector_owner);
    }

    /// Notes that the floating-point registers were saved to `units`: what other harts hold of them is old.
    pub const fn saved_float(&mut self, units: &mut Units) {
        units.float_owner.change();
        self.float = Some(units.float_owner);
    }

    /// Notes that the vector registers were saved to `units`: what other harts hold of them is old.
    pub const fn saved_vector(&mut self, units: &mut Units) {
        units.vector_owner.change();
        self.vector = Some(units.vector_owner);
    }
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
            float_owner: Owner { vcpu, version: 0 },
            vector_owner: Owner { vcpu, version: 0 },
        }
    }

    /// Back to zero. What the real hart may still hold is nobody's from now on.
    pub fn reset(&mut self) {
        self.float = [0; 32];
        self.fcsr = 0;
        self.vector.fill(0);
        self.vector_csrs = VectorCsrs::RESET;
        self.disown();
    }

    /// What real harts may still hold is nobody's from now on.
    pub(crate) const fn disown(&mut self) {
        self.float_owner.change();
        self.vector_owner.change();
    }

    /// The floating-point unit as firmware hands it over. It leaves the vector unit alone.
    pub(crate) const fn hand_over(&mut self) {
        self.float = [SINGLE_ZERO; 32];
        self.fcsr = 0;
        self.float_owner.change();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_reset_leaves_nothing_and_disowns_what_the_hart_holds() {
        let mut units = Units::new(3, 16);
        assert_eq!(units.vector.len() * 8, 32 * 16);
        let mut held = Held::default();
        held.loaded_float(&units);
        held.loaded_vector(&units);
        assert_eq!(held.missing(&units), 0);
        assert_eq!(held.missing(&Units::new(4, 16)), sstatus::FS | sstatus::VS);
        units.float[31] = 1;
        units.fcsr = 2;
        units.vector.fill(3);
        units.vector_csrs.vl = 4;
        units.reset();
        assert_eq!((units.float, units.fcsr, units.vector_csrs), ([0; 32], 0, VectorCsrs::RESET));
        assert!(units.vector.iter().all(|word| *word == 0));
        assert_eq!(held.missing(&units), sstatus::FS | sstatus::VS);
    }

    #[test]
    fn the_firmwares_values_are_loaded_and_the_vector_unit_stays() {
        let mut units = Units::new(0, 16);
        let mut held = Held::default();
        held.loaded_float(&units);
        held.loaded_vector(&units);
        units.hand_over();
        assert_eq!(held.missing(&units), sstatus::FS);
    }

    /// What happens to a vCPU that is on no hart.
    #[derive(Clone, Copy, Debug)]
    enum Step {
        /// A turn on this hart, in which it writes its units where `writes` says so.
        Turn {
            hart: usize,
            vcpu: usize,
            uses: [bool; 2],
            writes: bool,
        },
        Reset {
            vcpu: usize,
        },
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            8 => (0..3_usize, 0..3_usize, any::<[bool; 2]>(), any::<bool>())
                .prop_map(|(hart, vcpu, uses, writes)| Step::Turn { hart, vcpu, uses, writes }),
            1 => (0..3_usize).prop_map(|vcpu| Step::Reset { vcpu }),
        ]
    }

    proptest! {
        #[test]
        fn a_vcpu_finds_its_own_registers_on_whatever_hart_it_runs(steps in prop::collection::vec(step(), 1..60)) {
            // A register of each unit stands for all of them.
            let mut harts = [(Held::default(), [u64::MAX; 2]); 3];
            let mut vcpus = [0, 1, 2].map(|number| (Units::new(number, 8), [0_u64; 2]));
            for (value, step) in (1..).zip(steps) {
                match step {
                    Step::Reset { vcpu } => {
                        vcpus[vcpu].0.reset();
                        vcpus[vcpu].1 = [0; 2];
                    }
                    Step::Turn { hart, vcpu, uses, writes } => {
                        let ((held, registers), (units, expected)) = (&mut harts[hart], &mut vcpus[vcpu]);
                        let missing = held.missing(units);
                        for (unit, bit) in [sstatus::FS, sstatus::VS].into_iter().enumerate() {
                            let is_missing = missing & bit != 0;
                            if is_missing && !uses[unit] {
                                continue;
                            }
                            if is_missing && unit == 0 {
                                registers[0] = units.float[0];
                                held.loaded_float(units);
                            } else if is_missing {
                                registers[1] = units.vector[0];
                                held.loaded_vector(units);
                            }
                            prop_assert_eq!(registers[unit], expected[unit]);
                            if uses[unit] && writes {
                                registers[unit] = value;
                                expected[unit] = value;
                            }
                            if unit == 0 {
                                units.float[0] = registers[0];
                                held.saved_float(units);
                            } else {
                                units.vector[0] = registers[1];
                                held.saved_vector(units);
                            }
                        }
                    }
                }
            }
        }
    }
}
