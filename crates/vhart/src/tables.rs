//! The memory that shadow tables are made of, and the values for satp that name a root among them.
//!
//! The hardware and the assembly write here, too, so all of it is atomic words. Which entry means what is `mmu`'s business.
//! Here is seen to it that a root is a root: its table lies in memory that was handed out for shadow tables, and it maps the
//! hypervisor's window, where nobody can write.

use alloc::sync::Arc;
use core::fmt;
use core::num::NonZeroU64;
use core::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use arrayvec::ArrayVec;
use isa::paging::{Mode, Pte, Satp};
use memory::{HartAuthority, HostPhysAddr, PAGE_SIZE};

/// Roots of a vCPU: the first of its tables. The hypervisor may run under any of them at any time.
pub const ROOTS: usize = 65;

/// Entries of a table.
const ENTRIES: usize = 512;

/// An entry of a table.
#[derive(Debug)]
#[repr(transparent)]
pub struct Entry(AtomicU64);

impl Entry {
    /// What it holds.
    #[inline]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    #[inline]
    fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }
}

/// A page table that the hardware or the assembly uses meanwhile.
#[derive(Debug)]
#[repr(C, align(4096))]
pub struct SharedTable([Entry; ENTRIES]);

impl SharedTable {
    /// A table with this in each entry.
    pub const fn filled_with(value: u64) -> Self {
        Self([const { Entry(AtomicU64::new(0)) }; ENTRIES]).fill(value)
    }

    /// Its entries.
    pub const fn entries(&self) -> &[Entry; ENTRIES] {
        &self.0
    }

    const fn fill(mut self, value: u64) -> Self {
        let mut rest: &mut [Entry] = &mut self.0;
        while let [first, others @ ..] = rest {
            *first = Entry(AtomicU64::new(value));
            rest = others;
        }
        self
    }
}

/// Root entries of the hypervisor's own mappings, which every shadow root carries.
#[derive(Clone, Debug, Default)]
pub struct Window {
    /// The root slot of the first entry.
    pub first_slot: usize,
    /// The entries.
    pub entries: ArrayVec<Pte, 64>,
}

impl Window {
    /// Whether the entry of a root at `slot` is the window's.
    #[inline]
    pub fn covers(&self, slot: usize) -> bool {
        slot.wrapping_sub(self.first_slot) < self.entries.len()
    }
}

/// What the host gives for the shadow tables of one vCPU: memory, and how it translates and where the hypervisor lives.
#[derive(Debug)]
pub struct HostTables {
    tables: &'static [SharedTable],
    base: HostPhysAddr,
    mode: Mode,
    window: Window,
}

impl HostTables {
    /// `tables`, which lie at `base`, holding anything, for a host that translates by `mode` and has the hypervisor's mappings
    /// in `window`.
    pub const fn new(
        tables: &'static [SharedTable],
        base: HostPhysAddr,
        mode: Mode,
        window: Window,
        _: HartAuthority,
    ) -> Self {
        Self { tables, base, mode, window }
    }

    /// Tables.
    pub const fn len(&self) -> usize {
        self.tables.len()
    }

    /// Whether there are none.
    pub const fn is_empty(&self) -> bool {
        self.tables.is_empty()
    }

    /// How the host translates.
    pub const fn mode(&self) -> Mode {
        self.mode
    }

    /// Where the hypervisor lives.
    pub const fn window(&self) -> &Window {
        &self.window
    }
}

/// A value for the real satp that names one of a vCPU's shadow roots.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(transparent)]
pub struct RootSatp(NonZeroU64);

impl RootSatp {
    /// This value.
    pub const fn new(bits: NonZeroU64, _: HartAuthority) -> Self {
        Self(bits)
    }

    /// The value.
    #[inline]
    pub const fn bits(self) -> u64 {
        self.0.get()
    }
}

impl fmt::Debug for RootSatp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "satp:{:#x}", self.0)
    }
}

/// Which slots of a table are in use. The assembly works on it, too.
#[derive(Debug)]
#[repr(C)]
pub struct Slots {
    /// A bit for each slot whose entry is not 0.
    pub used: [AtomicU64; 8],
    /// Blocks of host memory in which leaves of the table may lie, by their numbers modulo 64, a bit each; the assembly notes
    /// those that it makes writable.
    pub blocks: AtomicU64,
    /// Which words of `used` may not be 0, a bit each: all, once the assembly fills the table.
    pub words: AtomicU8,
}

/// The shadow tables of one vCPU, by number. Half of what the host gave: the other half is for what their entries were made of.
#[derive(Debug)]
pub struct ShadowTables {
    tables: &'static [SharedTable],
    /// For each table, the guest's entries that its own were made of.
    seen: &'static [SharedTable],
    slots: Arc<[Slots]>,
    base: HostPhysAddr,
    /// The part of satp that all roots have in common.
    mode: NonZeroU64,
    window: Window,
}

impl ShadowTables {
    /// Tables in such memory, of which nothing is known but that the roots carry the window.
    ///
    /// # Panics
    /// Where there are not even the roots, or the host translates nothing.
    pub fn new(host: HostTables) -> Self {
        let HostTables { tables, base, mode, window } = host;
        let (tables, rest) = tables.split_at(tables.len() / 2);
        assert!(tables.len() >= ROOTS, "a shadow pool without room for the roots");
        let Some(mode) = NonZeroU64::new(Satp { mode, asid: 0, ppn: 0 }.bits()) else { no_translation() };
        for root in tables.iter().take(ROOTS) {
            for (place, entry) in root.0.iter().skip(window.first_slot).zip(&window.entries) {
                place.set(entry.0);
            }
        }
        let slots = tables.iter().map(|_| Slots {
            used: [const { AtomicU64::new(u64::MAX) }; 8],
            blocks: AtomicU64::new(0),
            words: AtomicU8::new(u8::MAX),
        });
        Self { tables, seen: rest, slots: slots.collect(), base, mode, window }
    }

    /// Tables.
    pub const fn len(&self) -> usize {
        self.tables.len()
    }

    /// Whether there are none.
    pub const fn is_empty(&self) -> bool {
        self.tables.is_empty()
    }

    /// Where the first of them lies.
    #[inline]
    pub const fn base(&self) -> HostPhysAddr {
        self.base
    }

    /// Where a table lies.
    #[inline]
    pub const fn address(&self, table: u32) -> HostPhysAddr {
        self.base.wrapping_add(table as u64 * PAGE_SIZE)
    }

    /// The value for the real satp of the root with this number, with this ASID; the last root's for any number that none has.
    #[inline]
    pub fn satp(&self, root: usize, asid: u16) -> RootSatp {
        let at = self.address(root.min(ROOTS - 1) as u32);
        RootSatp(self.mode | Satp { mode: Mode::Bare, asid, ppn: at.0 / PAGE_SIZE }.bits())
    }

    /// A table, to be read.
    #[inline]
    pub fn table(&self, table: u32) -> Option<&'static SharedTable> {
        self.tables.get(table as usize)
    }

    /// What the entries of a table were made of, to be read.
    #[inline]
    pub fn seen(&self, table: u32) -> Option<&'static SharedTable> {
        self.seen.get(table as usize)
    }

    /// Which slots of a table are in use.
    #[inline]
    pub fn slots(&self, table: u32) -> Option<&Slots> {
        self.slots.get(table as usize)
    }

    /// As `set` and `set_seen` in one; gives which of the table's slots are in use, which the caller is to keep true.
    #[inline]
    pub fn write(&self, table: u32, slot: usize, entry: u64, seen: u64) -> Option<&Slots> {
        let (number, slot) = (table as usize, slot % ENTRIES);
        let (own, from) = (self.tables.get(number)?.0.get(slot)?, self.seen.get(number)?.0.get(slot)?);
        let slots = self.slots.get(number)?;
        if number >= ROOTS || !self.window.covers(slot) {
            own.set(entry);
        }
        from.set(seen);
        Some(slots)
    }

    /// Writes an entry; `slot` counts modulo 512. What is the window's in a root stays.
    #[inline]
    pub fn set(&self, table: u32, slot: usize, entry: u64) {
        let slot = slot % ENTRIES;
        if (table as usize) < ROOTS && self.window.covers(slot) {
            return;
        }
        if let Some(place) = self.tables.get(table as usize).and_then(|table| table.0.get(slot)) {
            place.set(entry);
        }
    }

    /// Writes an entry, also the window's: to break what is never broken, where no hart runs under it.
    #[cfg(not(target_arch = "riscv64"))]
    pub fn spoil(&self, table: u32, slot: usize, entry: u64) {
        if let Some(place) = self.tables.get(table as usize).and_then(|table| table.0.get(slot)) {
            place.set(entry);
        }
    }

    /// Notes what an entry was made of; `slot` counts modulo 512.
    #[inline]
    pub fn set_seen(&self, table: u32, slot: usize, seen: u64) {
        if let Some(place) = self.seen.get(table as usize).and_then(|table| table.0.get(slot % ENTRIES)) {
            place.set(seen);
        }
    }

    /// Where a table that is no root lies for the assembly: itself, what its entries were made of, and its slots in use; they
    /// stay there for as long as whoever holds `slots_of_all`.
    #[inline]
    pub(crate) fn places(&self, table: u32) -> Option<[u64; 3]> {
        let number = table as usize;
        let is_root = number < ROOTS;
        let places = [address_of(self.tables.get(number)?), address_of(self.seen.get(number)?)];
        let [table, seen] = places;
        (!is_root).then_some([table, seen, address_of(&self.slots.get(number)?.used)])
    }

    pub(crate) fn slots_of_all(&self) -> &Arc<[Slots]> {
        &self.slots
    }
}

/// Where something lies, for the assembly.
pub(crate) fn address_of<T>(thing: &T) -> u64 {
    core::ptr::from_ref(thing).addr() as u64
}

#[cold]
#[allow(clippy::panic, reason = "no guest's input: the host's translation is known at the start")]
fn no_translation() -> ! {
    panic!("shadow tables for a host that translates nothing")
}

#[cfg(test)]
pub(crate) mod tests;
