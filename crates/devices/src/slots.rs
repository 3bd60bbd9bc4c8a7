//! The virtio transports of a board, by their numbers, and sets of them.

/// How many virtio-mmio transports there are.
pub const VIRTIO_SLOTS: usize = 8;

/// One of the [`VIRTIO_SLOTS`] transports, whatever is behind it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct SlotId(pub(crate) u8);

impl SlotId {
    /// The transport with this index; `None` where there is none.
    pub const fn new(index: usize) -> Option<Self> {
        if index < VIRTIO_SLOTS { Some(Self(index as u8)) } else { None }
    }

    /// All of them, in their order.
    pub fn all() -> impl Iterator<Item = Self> {
        (0..VIRTIO_SLOTS).filter_map(Self::new)
    }

    /// Its index, below [`VIRTIO_SLOTS`].
    #[inline]
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// Some of the transports.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct SlotSet(u8);

const _: () = assert!(VIRTIO_SLOTS <= u8::BITS as usize, "a bit each");

impl SlotSet {
    /// None of them.
    pub const NONE: Self = Self(0);

    /// One of them.
    #[inline]
    pub const fn of(slot: SlotId) -> Self {
        Self(1 << slot.0)
    }

    /// Those whose index is that of a bit that is set; bits from [`VIRTIO_SLOTS`] on stand for none.
    #[inline]
    pub const fn of_bits(bits: u32) -> Self {
        Self(bits as u8)
    }

    /// A bit each, for those who keep a set where harts share it.
    #[inline]
    pub const fn bits(self) -> u32 {
        self.0 as u32
    }

    /// Adds one.
    #[inline]
    pub const fn insert(&mut self, slot: SlotId) {
        self.0 |= 1 << slot.0;
    }

    /// Whether it has this one.
    #[inline]
    pub const fn contains(self, slot: SlotId) -> bool {
        self.0 & 1 << slot.0 != 0
    }

    /// Whether it has none.
    #[inline]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }
}

impl FromIterator<SlotId> for SlotSet {
    fn from_iter<I: IntoIterator<Item = SlotId>>(slots: I) -> Self {
        let mut set = Self::NONE;
        slots.into_iter().for_each(|slot| set.insert(slot));
        set
    }
}

impl IntoIterator for SlotSet {
    type Item = SlotId;
    type IntoIter = SlotSetIter;

    fn into_iter(self) -> SlotSetIter {
        SlotSetIter(self.0)
    }
}

/// The transports of a set, in their order.
#[derive(Clone, Debug)]
pub struct SlotSetIter(u8);

impl Iterator for SlotSetIter {
    type Item = SlotId;

    fn next(&mut self) -> Option<SlotId> {
        let slot = SlotId::new(self.0.trailing_zeros() as usize)?;
        self.0 &= self.0.wrapping_sub(1);
        Some(slot)
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;
    use std::vec::Vec;

    #[test]
    fn only_the_boards_transports_have_names() {
        let indices: Vec<_> = SlotId::all().map(SlotId::index).collect();
        assert_eq!(indices, [0, 1, 2, 3, 4, 5, 6, 7]);
        assert_eq!(SlotId::new(VIRTIO_SLOTS), None);
        assert_eq!(SlotId::new(usize::MAX), None);
    }

    #[test]
    fn a_set_gives_what_was_put_in_once_and_in_order() {
        let slot = |index| SlotId::new(index).unwrap();
        let set: SlotSet = [7, 0, 3, 7].into_iter().map(slot).collect();
        assert_eq!(set.into_iter().map(SlotId::index).collect::<Vec<_>>(), [0, 3, 7]);
        assert_eq!(SlotSet::NONE.into_iter().next(), None);
        assert!(SlotSet::NONE.is_empty() && !set.is_empty());
        assert_eq!(SlotSet::of_bits(set.bits() | 1 << 8), set);
        assert_eq!(SlotSet::of(slot(3)).bits(), 8);
        assert!(set.contains(slot(3)) && !set.contains(slot(4)));
    }
}
