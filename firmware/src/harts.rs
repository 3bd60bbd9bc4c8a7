//! Sets of harts, as bits of a word, and how calls name them.

/// As many harts as the firmware serves; the others stay where they are and count as absent.
pub const MAX_HARTS: usize = 16;

/// A set of harts: bit N is hart N.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HartSet(pub u64);

impl HartSet {
    /// Whether `hart` is in the set.
    pub fn contains(self, hart: usize) -> bool {
        hart < MAX_HARTS && self.0 & (1 << hart) != 0
    }

    /// The set with `hart` in it, if the firmware serves it.
    pub fn with(self, hart: usize) -> Self {
        if hart < MAX_HARTS { Self(self.0 | 1 << hart) } else { self }
    }

    /// Its harts, in order.
    pub fn iter(self) -> impl Iterator<Item = usize> {
        (0..MAX_HARTS).filter(move |&hart| self.contains(hart))
    }

    /// The harts that `mask` means, bit N of it being hart `base + N`; `None` where one of them is not in `self`.
    /// SBI spec, "Hart List Parameter": a base of -1 is all harts, whatever the mask.
    pub fn named(self, mask: usize, base: usize) -> Option<Self> {
        if base == usize::MAX {
            return Some(self);
        }
        let bits = (0..usize::BITS).filter(|bit| mask & (1 << bit) != 0);
        let mut named = bits.map(|bit| base.checked_add(bit as usize).filter(|&hart| self.contains(hart)));
        named.try_fold(Self::default(), |set, hart| Some(set.with(hart?)))
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;

    const TWO: HartSet = HartSet(0b101);

    #[test]
    fn bits_of_the_mask_count_from_the_base() {
        assert_eq!(TWO.named(0b101, 0), Some(TWO));
        assert_eq!(TWO.named(0b1, 2), Some(HartSet(0b100)));
        assert_eq!(TWO.iter().collect::<std::vec::Vec<_>>(), [0, 2]);
    }

    #[test]
    fn an_absent_hart_is_an_error_and_none_is_not() {
        assert_eq!(TWO.named(0b10, 0), None);
        assert_eq!(TWO.named(1, 77), None);
        assert_eq!(TWO.named(2, usize::MAX - 1), None, "the sum overflows");
        assert_eq!(TWO.named(0, 77), Some(HartSet(0)));
    }

    #[test]
    fn base_minus_1_is_all() {
        assert_eq!(TWO.named(0, usize::MAX), Some(TWO));
        assert_eq!(TWO.named(0xff00, usize::MAX), Some(TWO));
    }

    #[test]
    fn harts_beyond_the_limit_are_absent() {
        assert_eq!(TWO.with(MAX_HARTS), TWO);
        assert!(!HartSet(u64::MAX).contains(MAX_HARTS));
    }
}
