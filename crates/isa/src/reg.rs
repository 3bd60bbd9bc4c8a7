//! Register names.

use core::fmt;

macro_rules! register {
    ($(#[$doc:meta])* $name:ident, $names:ident, [$($text:literal),* $(,)?]) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(u8);

        const $names: [&str; 32] = [$($text),*];

        impl $name {
            /// The register that the low five bits of `number` name.
            pub const fn new(number: u32) -> Self {
                Self((number & 31) as u8)
            }

            /// Its number, 0 to 31.
            pub const fn index(self) -> usize {
                (self.0 & 31) as usize
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str($names[self.index()])
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str($names[self.index()])
            }
        }
    };
}

register! {
    /// An integer register, x0 to x31.
    Reg, REG_NAMES, [
        "zero", "ra", "sp", "gp", "tp", "t0", "t1", "t2", "s0", "s1", "a0", "a1", "a2", "a3", "a4", "a5",
        "a6", "a7", "s2", "s3", "s4", "s5", "s6", "s7", "s8", "s9", "s10", "s11", "t3", "t4", "t5", "t6",
    ]
}
register! {
    /// A floating-point register, f0 to f31.
    FReg, FREG_NAMES, [
        "ft0", "ft1", "ft2", "ft3", "ft4", "ft5", "ft6", "ft7", "fs0", "fs1", "fa0", "fa1", "fa2", "fa3",
        "fa4", "fa5", "fa6", "fa7", "fs2", "fs3", "fs4", "fs5", "fs6", "fs7", "fs8", "fs9", "fs10", "fs11",
        "ft8", "ft9", "ft10", "ft11",
    ]
}

impl Reg {
    /// x0, hard-wired to zero.
    pub const ZERO: Self = Self::new(0);
    /// x1, the return address.
    pub const RA: Self = Self::new(1);
    /// x2, the stack pointer.
    pub const SP: Self = Self::new(2);
    /// x10, the first argument and result.
    pub const A0: Self = Self::new(10);
    /// x11, the second argument and result.
    pub const A1: Self = Self::new(11);
}

#[cfg(test)]
mod tests {
    use super::*;
    extern crate std;
    use std::format;

    #[test]
    fn a_register_number_is_its_low_five_bits() {
        assert_eq!(Reg::new(32), Reg::ZERO);
        assert_eq!(Reg::new(u32::MAX).index(), 31);
        assert_eq!(FReg::new(0x2b).index(), 11);
    }

    #[test]
    fn registers_print_by_their_abi_names() {
        let names = [Reg::ZERO, Reg::RA, Reg::SP, Reg::A0, Reg::A1, Reg::new(31)].map(|reg| format!("{reg}"));
        assert_eq!(names, ["zero", "ra", "sp", "a0", "a1", "t6"]);
        assert_eq!(format!("{:?} {}", FReg::new(0), FReg::new(31)), "ft0 ft11");
    }
}
