//! Where page faults are likely to come again: ranges of 2 MiB whose last tables, the guest's and the shadow's, are
//! known. The assembly fills in a page there, or gives the guest its fault, without a walk.
//!
//! The hardware's walks cache pointers, too, and forget them at the same fences.

use alloc::boxed::Box;
use alloc::vec;
use core::sync::atomic::{AtomicU64, Ordering};

/// A range of 2 MiB in one context, or in the half that contexts share.
///
/// The addresses are the hypervisor's own. Whoever makes a hint vouches for them, for as long as the hint is in a table.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(128))]
pub struct FillHint {
    /// The range's addresses divided by 2 MiB; canonical, so that an odd number of ones in front is never found.
    pub range: u64,
    /// The real satp of the context's root; 0 for the shared half, the upper one of supervisor mode.
    pub root: u64,
    /// The guest's table.
    pub guest: u64,
    /// The shadow's table.
    pub shadow: u64,
    /// What the shadow's entries were made of.
    pub seen: u64,
    /// The bits of the shadow's slots in use.
    pub used: u64,
    /// The bits of a guest's entry that decide whether it is a plain one of this view, ready to be used, and what they
    /// then are.
    pub mask: u64,
    /// See `mask`.
    pub value: u64,
    /// The permissions that the view takes over: R and X, or R.
    pub kept: u64,
    /// For who makes hints: the shadow's table, and whether a pointer above is global.
    pub table: u32,
    /// See `table`.
    pub global: bool,
    /// For who makes hints: the guest-physical address of the guest's table.
    pub guest_table: u64,
    /// The entry of the guest's root that led there. In the shared half each space has its own.
    pub root_entry: u64,
    /// The pointers between that and the guest's table.
    pub pointers: [Pointer; 2],
}

/// A guest's pointer: where it is, if it is any, and what it was.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Pointer {
    /// The word of RAM.
    pub at: Option<&'static AtomicU64>,
    /// What it held.
    pub seen: u64,
}

impl Pointer {
    /// None.
    pub const NONE: Self = Self { at: None, seen: 0 };

    /// Whether it is what it was.
    #[inline]
    pub fn stands(&self) -> bool {
        self.at.is_none_or(|at| at.load(Ordering::Relaxed) == self.seen)
    }
}

impl FillHint {
    /// No address is in this range.
    pub const NONE: Self = Self {
        range: u64::MAX >> 1,
        root: 0,
        guest: 0,
        shadow: 0,
        seen: 0,
        used: 0,
        mask: 0,
        value: 0,
        kept: 0,
        table: 0,
        global: false,
        guest_table: 0,
        root_entry: 0,
        pointers: [Pointer::NONE; 2],
    };
}

/// Places of the table.
pub const HINTS: usize = 64;

/// Hints by range and root.
#[derive(Clone, Debug)]
#[repr(transparent)]
pub struct HintTable(Box<[FillHint; HINTS]>);

impl HintTable {
    /// An empty table.
    pub fn new() -> Self {
        // By way of the heap: it would be large for a stack.
        let Ok(places) = vec![FillHint::NONE; HINTS].into_boxed_slice().try_into() else { wrong_length() };
        Self(places)
    }

    /// Forgets all.
    pub fn clear(&mut self) {
        self.forget(|_| true);
    }

    /// Forgets those of a root, or of the shared half for 0, that `insert` has put in these places, a bit each; for when its
    /// tables are given back.
    pub fn forget_root(&mut self, root: u64, mut places: u64) {
        while places != 0 {
            let place = self.0.get_mut(places.trailing_zeros() as usize);
            if let Some(hint) = place.filter(|hint| hint.root == root) {
                *hint = FillHint::NONE;
            }
            places &= places.wrapping_sub(1);
        }
    }

    /// Forgets those that lead to a table of the shadow's; for when it follows another one of the guest's.
    pub fn forget_table(&mut self, table: u32) {
        self.forget(|hint| hint.table == table);
    }

    #[inline]
    fn forget(&mut self, is_meant: impl Fn(&FillHint) -> bool) {
        let places = self.0.iter_mut().filter(|hint| hint.range != FillHint::NONE.range && is_meant(hint));
        places.for_each(|hint| *hint = FillHint::NONE);
    }

    /// Puts one in, in the place of another; gives the place as a bit.
    pub fn insert(&mut self, hint: FillHint) -> u64 {
        let index = Self::index(hint.range, hint.root);
        if let Some(place) = self.0.get_mut(index) {
            *place = hint;
        }
        1 << index
    }

    /// The one for a range, and a root or 0.
    #[inline]
    pub fn find(&self, range: u64, root: u64) -> Option<&FillHint> {
        self.0.get(Self::index(range, root)).filter(|hint| hint.range == range && hint.root == root)
    }

    /// Forgets the one for a range, and a root or 0.
    pub fn remove(&mut self, range: u64, root: u64) {
        if self.find(range, root).is_some()
            && let Some(place) = self.0.get_mut(Self::index(range, root))
        {
            *place = FillHint::NONE;
        }
    }

    /// Where the table lies, for the assembly. It stays there.
    pub fn address(&self) -> u64 {
        core::ptr::from_ref(&*self.0).addr() as u64
    }

    /// The assembly computes the same: the root's ASID tells contexts apart.
    const fn index(range: u64, root: u64) -> usize {
        (range ^ root >> 44) as usize % HINTS
    }
}

impl Default for HintTable {
    fn default() -> Self {
        Self::new()
    }
}

#[cold]
#[allow(clippy::panic, reason = "the vector is made with this very length")]
fn wrong_length() -> ! {
    panic!("a hint table of the wrong length")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hint_is_found_by_range_and_root_until_another_takes_its_place() {
        let mut table = HintTable::new();
        let (range, root) = (0x3fff_1234, 9 << 60 | 5 << 44 | 0x81000);
        table.insert(FillHint { range, root, kept: 7, ..FillHint::NONE });
        assert_eq!(table.find(range, root).map(|hint| hint.kept), Some(7));
        assert!(table.find(range, root + 1).is_none() && table.find(range + 64, root).is_none());
        table.insert(FillHint { range: range + 64, root, ..FillHint::NONE });
        assert!(table.find(range, root).is_none());
        table.remove(range + 64, root + 1);
        assert!(table.find(range + 64, root).is_some());
        table.remove(range + 64, root);
        assert!(table.find(range + 64, root).is_none());
    }

    #[test]
    fn the_hints_of_a_root_are_forgotten_by_their_places() {
        let mut table = HintTable::new();
        let [one, other] = [1, 2].map(|asid| 9 << 60 | asid << 44 | 0x81000);
        let mut places = 0;
        for range in [3, 9, 63] {
            places |= table.insert(FillHint { range, root: one, ..FillHint::NONE });
        }
        table.insert(FillHint { range: 9 ^ 1 ^ 2, root: other, ..FillHint::NONE });
        table.forget_root(one, places);
        assert!([3, 9, 63].into_iter().all(|range| table.find(range, one).is_none()));
        assert!(table.find(9 ^ 1 ^ 2, other).is_some());
    }

    #[test]
    fn no_address_is_in_an_empty_places_range() {
        let mut table = HintTable::new();
        table.clear();
        for address in [0, u64::MAX, 1 << 63, u64::MAX >> 1] {
            assert!(table.find(address >> 21, 0).is_none());
        }
    }
}
