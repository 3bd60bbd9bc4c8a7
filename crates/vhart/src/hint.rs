//! Where page faults are likely to come again: ranges of 2 MiB whose last tables, the guest's and the shadow's, are
//! known. The assembly fills in a page there, or gives the guest its fault, without a walk.
//!
//! The hardware's walks cache pointers, too, and forget them at the same fences.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec;
use core::sync::atomic::{AtomicU64, Ordering};

use isa::paging::{Pte, Satp};

use crate::tables::{ShadowTables, Slots, address_of};

/// A range of 2 MiB in one context, or in the half that contexts share.
#[derive(Clone, Copy, Debug)]
pub struct FillHint {
    /// The range's addresses divided by 2 MiB; canonical, so that an odd number of ones in front is never found.
    pub range: u64,
    /// The real satp of the context's root; 0 for the shared half, the upper one of supervisor mode.
    pub root: u64,
    /// The shadow's table, which is no root.
    pub table: u32,
    /// What a guest's entry has to be.
    pub ready: Ready,
    /// Whether a pointer above is global.
    pub global: bool,
    /// The guest-physical address of the guest's table.
    pub guest_table: u64,
    /// The entry of the guest's root that led there. In the shared half each space has its own.
    pub root_entry: u64,
    /// The pointers between that and the guest's table.
    pub pointers: [Pointer; 2],
}

/// Which of a guest's entries are plain ones of a view, ready to be used, and what of them is taken over.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ready {
    /// Whether they are user pages; if not, they are none.
    pub user: bool,
    /// Whether they have to be global.
    pub global: bool,
    /// Whether they may be executed where the guest allows it.
    pub execute: bool,
}

impl Ready {
    const PLAIN: u64 = Pte::V | Pte::R | Pte::A;

    /// The bits of an entry that decide.
    #[inline]
    pub const fn mask(self) -> u64 {
        Pte::RESERVED | Self::PLAIN | Pte::U | self.wanted_global()
    }

    /// What they have to be.
    #[inline]
    pub const fn value(self) -> u64 {
        Self::PLAIN | if self.user { Pte::U } else { 0 } | self.wanted_global()
    }

    /// The permissions that are taken over, beside W.
    #[inline]
    pub const fn kept(self) -> u64 {
        if self.execute { Pte::R | Pte::X } else { Pte::R }
    }

    const fn wanted_global(self) -> u64 {
        if self.global { Pte::G } else { 0 }
    }
}

/// A hint as the assembly reads it.
#[derive(Debug)]
#[repr(C, align(128))]
pub(crate) struct SharedHint {
    pub(crate) range: AtomicU64,
    pub(crate) root: AtomicU64,
    /// Where the guest's table is.
    pub(crate) guest: AtomicU64,
    /// Where the shadow's table is.
    pub(crate) shadow: AtomicU64,
    /// Where it is noted what the shadow's entries were made of.
    pub(crate) seen: AtomicU64,
    /// Where the bits of the shadow's slots in use are.
    pub(crate) used: AtomicU64,
    pub(crate) mask: AtomicU64,
    pub(crate) value: AtomicU64,
    pub(crate) kept: AtomicU64,
}

impl SharedHint {
    const fn none() -> Self {
        const fn zero() -> AtomicU64 {
            AtomicU64::new(0)
        }
        Self {
            range: AtomicU64::new(FillHint::NONE.range),
            root: zero(),
            guest: zero(),
            shadow: zero(),
            seen: zero(),
            used: zero(),
            mask: zero(),
            value: zero(),
            kept: zero(),
        }
    }
}

/// The hints as the assembly reads them, and what keeps alive that they lead to: guests' tables and shadow tables are there
/// for ever.
#[derive(Debug)]
pub(crate) struct SharedHints {
    places: Box<[SharedHint; HINTS]>,
    slots: Arc<[Slots]>,
}

impl SharedHints {
    /// Where they are, for the assembly.
    pub(crate) fn address(&self) -> u64 {
        address_of(&*self.places)
    }
}

/// A guest's pointer: where it is, if it is any, and what it was.
#[derive(Clone, Copy, Debug)]
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
    const NONE: Self = Self {
        range: u64::MAX >> 1,
        root: 0,
        table: 0,
        ready: Ready { user: false, global: false, execute: false },
        global: false,
        guest_table: 0,
        root_entry: 0,
        pointers: [Pointer::NONE; 2],
    };
}

/// Places of the table.
pub const HINTS: usize = 64;

/// Hints by range and root, for one vCPU's shadow tables.
#[derive(Debug)]
pub struct HintTable {
    own: Box<[FillHint; HINTS]>,
    shared: Arc<SharedHints>,
}

impl HintTable {
    /// An empty table of hints that lead to `tables`.
    pub fn new(tables: &ShadowTables) -> Self {
        // By way of the heap: it would be large for a stack.
        let Ok(own) = vec![FillHint::NONE; HINTS].into_boxed_slice().try_into() else { wrong_length() };
        let places: Box<[_]> = (0..HINTS).map(|_| SharedHint::none()).collect();
        let Ok(places) = places.try_into() else { wrong_length() };
        Self { own, shared: Arc::new(SharedHints { places, slots: tables.slots_of_all().clone() }) }
    }

    /// Forgets all.
    pub fn clear(&mut self) {
        self.forget(|_| true);
    }

    /// Forgets those of a root, or of the shared half for 0, that `insert` has put in these places, a bit each; for when its
    /// tables are given back.
    pub fn forget_root(&mut self, root: u64, mut places: u64) {
        while places != 0 {
            let index = places.trailing_zeros() as usize;
            if self.own.get(index).is_some_and(|hint| hint.root == root) {
                self.forget_place(index);
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
        for (index, own) in self.own.iter_mut().enumerate() {
            if own.range != FillHint::NONE.range && is_meant(own) {
                own.range = FillHint::NONE.range;
                if let Some(shared) = self.shared.places.get(index) {
                    shared.range.store(FillHint::NONE.range, Ordering::Relaxed);
                }
            }
        }
    }

    fn forget_place(&mut self, index: usize) {
        if let (Some(own), Some(shared)) = (self.own.get_mut(index), self.shared.places.get(index)) {
            own.range = FillHint::NONE.range;
            shared.range.store(FillHint::NONE.range, Ordering::Relaxed);
        }
    }

    /// Puts one in, in the place of another; gives the place as a bit. `guest` is the guest's table. Of `tables`, which must be
    /// those that the hints are for, it leads to one that is no root, or nothing is put in.
    #[inline]
    pub fn insert(&mut self, tables: &ShadowTables, guest: &'static [AtomicU64; 512], hint: FillHint) -> u64 {
        let index = Self::index(hint.range, hint.root);
        if !Arc::ptr_eq(tables.slots_of_all(), &self.shared.slots) {
            return 0;
        }
        let (Some([shadow, seen, used]), Some(own), Some(shared)) =
            (tables.places(hint.table), self.own.get_mut(index), self.shared.places.get(index))
        else {
            return 0;
        };
        *own = hint;
        // One by one: a loop over them would cost each fill some fifty instructions.
        shared.range.store(hint.range, Ordering::Relaxed);
        shared.root.store(hint.root, Ordering::Relaxed);
        shared.guest.store(address_of(guest), Ordering::Relaxed);
        shared.shadow.store(shadow, Ordering::Relaxed);
        shared.seen.store(seen, Ordering::Relaxed);
        shared.used.store(used, Ordering::Relaxed);
        shared.mask.store(hint.ready.mask(), Ordering::Relaxed);
        shared.value.store(hint.ready.value(), Ordering::Relaxed);
        shared.kept.store(hint.ready.kept(), Ordering::Relaxed);
        1 << index
    }

    /// The one for a range, and a root or 0.
    #[inline]
    pub fn find(&self, range: u64, root: u64) -> Option<&FillHint> {
        self.own.get(Self::index(range, root)).filter(|hint| hint.range == range && hint.root == root)
    }

    /// Forgets the one for a range, and a root or 0.
    pub fn remove(&mut self, range: u64, root: u64) {
        if self.find(range, root).is_some() {
            self.forget_place(Self::index(range, root));
        }
    }

    /// What the assembly reads.
    #[inline]
    pub(crate) const fn shared(&self) -> &Arc<SharedHints> {
        &self.shared
    }

    /// The assembly computes the same: the root's ASID tells contexts apart.
    const fn index(range: u64, root: u64) -> usize {
        (range ^ root >> Satp::ASID_SHIFT) as usize % HINTS
    }
}

#[cold]
#[allow(clippy::panic, reason = "the vector is made with this very length")]
fn wrong_length() -> ! {
    panic!("a hint table of the wrong length")
}

#[cfg(test)]
mod tests;
