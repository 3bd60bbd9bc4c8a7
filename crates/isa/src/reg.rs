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
