//! One type for each address space, so that an address cannot cross from one to another by accident.

use core::fmt;

macro_rules! address {
    ($(#[$doc:meta])* $name:ident, $tag:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        #[repr(transparent)]
        pub struct $name(pub u64);

        impl $name {
            /// The address as a number.
            pub const fn as_u64(self) -> u64 {
                self.0
            }

            /// `self + bytes`, or `None` where that wraps.
            pub const fn checked_add(self, bytes: u64) -> Option<Self> {
                match self.0.checked_add(bytes) {
                    Some(sum) => Some(Self(sum)),
                    None => None,
                }
            }

            /// `self + bytes` modulo 2^64, as the hardware's address arithmetic does it.
            pub const fn wrapping_add(self, bytes: u64) -> Self {
                Self(self.0.wrapping_add(bytes))
            }

            /// Bytes from `base` up to `self`, or `None` where `self` is below `base`.
            pub const fn offset_from(self, base: Self) -> Option<u64> {
                self.0.checked_sub(base.0)
            }

            /// The address rounded down to a multiple of `align`, a power of two.
            pub const fn align_down(self, align: u64) -> Self {
                Self(self.0 & !(align.wrapping_sub(1)))
            }

            /// The address rounded up to a multiple of `align`, a power of two; `None` where that wraps.
            pub const fn align_up(self, align: u64) -> Option<Self> {
                match self.0.checked_add(align.wrapping_sub(1)) {
                    Some(sum) => Some(Self(sum & !(align.wrapping_sub(1)))),
                    None => None,
                }
            }

            /// Whether the address is a multiple of `align`, a power of two.
            pub const fn is_aligned(self, align: u64) -> bool {
                self.0 & align.wrapping_sub(1) == 0
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($tag, ":{:#x}"), self.0)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:#x}", self.0)
            }
        }

        impl From<u64> for $name {
            fn from(address: u64) -> Self {
                Self(address)
            }
        }
    };
}

address! {
    /// An address that guest code forms: virtual under its satp, physical while that is Bare.
    GuestVirtAddr, "gva"
}
address! {
    /// An address in a virtual machine's physical address space.
    GuestPhysAddr, "gpa"
}
address! {
    /// An address in the real machine's physical address space.
    HostPhysAddr, "hpa"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounding_up_refuses_to_wrap() {
        assert_eq!(GuestPhysAddr(u64::MAX).align_up(4096), None);
        assert_eq!(GuestPhysAddr(0x1001).align_up(4096), Some(GuestPhysAddr(0x2000)));
        assert_eq!(GuestPhysAddr(0x1fff).align_down(4096), GuestPhysAddr(0x1000));
    }

    #[test]
    fn an_offset_below_the_base_is_none() {
        assert_eq!(HostPhysAddr(5).offset_from(HostPhysAddr(6)), None);
        assert_eq!(HostPhysAddr(6).offset_from(HostPhysAddr(6)), Some(0));
    }
}
