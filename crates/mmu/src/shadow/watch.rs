//! Lets a fence of everything cost what has changed, for guests that have no ASIDs, and so fence at each entry of their kernel.
//!
//! A guest table that was compared again and again and never found changed is *watched*: no shadow maps it writable, so
//! that a store to it is noticed, and ends that. A shadow table is *loose* until the guest's table that it follows is watched,
//! and then compared once more; it is loose again when that is let go. A fence has to ask about loose tables alone, so a
//! process that grows pays for the tables that it grows in. Where nothing is loose, all is *settled*, and the assembly
//! serves fences. Guests that write a table soon after it is watched find it watched less and less often.
//! Seldom for guests with ASIDs: they fence single addresses, and once they are trusted (see `trust`), nothing is compared.

use core::sync::atomic::Ordering;

use alloc::boxed::Box;

use arrayvec::ArrayVec;
use isa::paging::Satp;
use memory::{GuestPhysAddr, GuestRam, PAGE_SIZE};

use super::roots::{KERNEL, bit, members};
use super::{LostRoots, ShadowMmu, TlbFlush};
use crate::pool::{Source, TableId, TableList};

/// How often a table is found unchanged before it is watched, at first; a store to one that was just watched doubles it.
const FIRST_LIMIT: u32 = if cfg!(test) { 1 } else { 16 };
/// The limit stops doubling here.
const LAST_LIMIT: u32 = if cfg!(test) { 2 } else { 1 << 8 };
/// A table counts once more for so many entries: the more there are, the sooner watching is cheaper than comparing.
const ENTRIES: u32 = 64;
/// Tables whose limits are remembered; a table shares its place with others.
const PLACES: u64 = 512;
/// Guest tables that one round of comparing may begin to watch.
pub(super) const AT_ONCE: usize = 16;

/// A watch has paid where it has lasted for so many fences times its limit: a table that changes so seldom, as one does
/// whose last entry a growing process has filled, may be watched again as soon.
const PAYS: u64 = 16;

/// The limits of guest tables that are watched or were let go.
#[derive(Debug)]
pub(super) struct Limits(Box<[Limit]>);

#[derive(Clone, Copy, Debug)]
struct Limit {
    page: u64,
    limit: u32,
    /// How many fences there had been when it was watched.
    since: u64,
}

impl Limit {
    /// No table is at this page.
    const NONE: Self = Self { page: u64::MAX, limit: FIRST_LIMIT, since: 0 };
}

impl Limits {
    pub(super) fn new() -> Self {
        Self((0..PLACES).map(|_| Limit::NONE).collect())
    }

    /// Forgets all.
    pub(super) fn clear(&mut self) {
        self.0.fill(Limit::NONE);
    }

    fn of(&self, table: GuestPhysAddr) -> u32 {
        let number = table.0 / PAGE_SIZE;
        let place = self.0.get((number % PLACES) as usize);
        place.filter(|place| place.page == number).map_or(FIRST_LIMIT, |place| place.limit)
    }

    /// Notes that a table is watched from now on, after so many fences.
    fn begin(&mut self, table: GuestPhysAddr, fences: u64) {
        let (page, limit) = (table.0 / PAGE_SIZE, self.of(table));
        if let Some(place) = self.0.get_mut((page % PLACES) as usize) {
            *place = Limit { page, limit, since: fences };
        }
    }

    /// Notes that it is let go.
    fn end(&mut self, table: GuestPhysAddr, fences: u64) {
        let page = table.0 / PAGE_SIZE;
        let Some(place) = self.0.get_mut((page % PLACES) as usize).filter(|place| place.page == page) else {
            return;
        };
        if fences.wrapping_sub(place.since) < PAYS.wrapping_mul(place.limit.into()) {
            place.limit = place.limit.saturating_mul(2).min(LAST_LIMIT);
        }
    }
}

/// Numbers of the pages of guests' roots. The shared half follows whichever root one looks from, so it is settled for those
/// alone that are watched and were found to have what its own root has. Another one is compared when its space is entered.
pub(super) type Roots = Box<ArrayVec<u64, 16>>;

impl ShadowMmu {
    /// What `Overlay::unwatched` has to be for a fence of all addresses to have nothing to do; `u64::MAX`, which it never
    /// is, where there is something.
    #[inline]
    pub fn settled(&self) -> u64 {
        if self.is_settled() { self.unwatched } else { u64::MAX }
    }

    /// Whether a fence of all addresses had nothing to do when `Overlay::unwatched` was last looked at.
    #[inline]
    pub(super) const fn is_settled(&self) -> bool {
        self.restless == 0 && !self.restless_shared
    }

    /// Whether pages are watched since this was last asked that other vCPUs may have mapped writable.
    #[inline]
    pub fn take_new_watches(&mut self) -> bool {
        // Not by `take`, which would copy all places at each exit.
        let are_new = !self.new_watches.is_empty();
        if are_new {
            self.new_watches.clear();
        }
        are_new
    }

    /// Lets the page of `address`, which is about to be written, be watched no longer.
    pub fn unwatch(&mut self, ram: &GuestRam, address: GuestPhysAddr) {
        if ram.unwatch_page(address) {
            self.limits.end(address, self.fences);
        }
    }

    /// Makes loose what follows pages that were watched and let go.
    #[inline]
    pub(super) fn follow_unwatched(&mut self, ram: &GuestRam) {
        let now = ram.overlay().unwatched().load(Ordering::Acquire);
        let before = core::mem::replace(&mut self.unwatched, now);
        if before != now {
            self.loosen_all(ram, before, now);
        }
    }

    #[cold]
    fn loosen_all(&mut self, ram: &GuestRam, before: u64, now: u64) {
        let pages = ram.overlay().unwatched_since(before, now);
        let was_settled = self.is_shared_settled();
        let forgets_roots = match (&mut self.shared, &pages) {
            (None, _) => false,
            (Some(shared), Some(pages))
                if !shared.roots.iter().any(|root| pages.contains(&GuestPhysAddr(root * PAGE_SIZE))) =>
            {
                false
            }
            (Some(shared), _) => {
                shared.roots.clear();
                true
            }
        };
        let is_meant = |source: Source| match (source, &pages) {
            (Source::None, _) => false,
            (_, None) => true,
            (Source::AnyRoot, _) => forgets_roots,
            (Source::Table(table), Some(pages)) => pages.contains(&table),
        };
        let halves = members(self.live).map(|number| (number, false)).chain([(KERNEL, true)]);
        for (number, shares) in halves {
            let mut loose = self.take_loose(number, shares);
            let mut next = self.start(number, shares);
            let below = self.tables(number, shares).and_then(TableList::first);
            let mut is_root = true;
            while let Some(table) = next {
                next = if core::mem::take(&mut is_root) { below } else { self.pool.next(table) };
                if is_meant(self.pool.source(table)) {
                    // What was stored may be where the shadow has nothing to compare.
                    self.pool.count_quiet(table, None);
                    self.pool.push_loose(&mut loose, table);
                }
            }
            self.put_loose(number, shares, loose);
        }
        if was_settled
            && self.restless_shared
            && let Some(shared) = &mut self.shared
        {
            // Fences have passed it by, and it was known to be right for its `roots` alone.
            shared.stale = true;
            self.restless_shared = false;
            self.lost_roots = LostRoots::All;
        }
    }

    /// Whether the shared half has something in it, which fences pass by.
    fn is_shared_settled(&self) -> bool {
        !self.restless_shared
            && self
                .shared
                .as_ref()
                .is_some_and(|shared| !shared.stale && self.pool.next_used(shared.root, 0).is_some())
    }

    fn tables(&self, number: usize, shares: bool) -> Option<&TableList> {
        if shares {
            self.shared.as_ref().map(|shared| &shared.tables)
        } else {
            self.context(number).map(|context| &context.tables)
        }
    }

    /// Takes the list of loose tables of a context or of the shared half, which `put_loose` gives back.
    pub(super) fn take_loose(&mut self, number: usize, shares: bool) -> Option<TableId> {
        let loose = if shares {
            self.shared.as_mut().map(|shared| &mut shared.loose)
        } else {
            self.context_mut(number).map(|context| &mut context.loose)
        };
        loose.and_then(Option::take)
    }

    pub(super) fn put_loose(&mut self, number: usize, shares: bool, loose: Option<TableId>) {
        let is_restless = |stale: bool| loose.is_some() && !stale;
        if shares {
            if let Some(shared) = &mut self.shared {
                shared.loose = loose;
                self.restless_shared = is_restless(shared.stale);
            }
        } else if let Some(context) = self.context_mut(number) {
            context.loose = loose;
            let restless = if is_restless(context.stale) { bit(number) } else { 0 };
            self.restless = self.restless & !bit(number) | restless;
        }
    }

    /// Makes a table loose that is filled from a guest's table which is not watched.
    pub(super) fn loosen(&mut self, number: usize, shares: bool, table: TableId) {
        if !self.pool.is_loose(table) {
            let mut loose = self.take_loose(number, shares);
            self.pool.push_loose(&mut loose, table);
            self.put_loose(number, shares, loose);
        }
    }

    /// Notes that a loose table was compared with the guest's at `source`, and that `unchanged` entries were found as they
    /// were; `None` where there was one that was not. The guest's table may be watched from now on.
    pub(super) fn note_compared(
        &mut self,
        ram: &GuestRam,
        table: TableId,
        source: GuestPhysAddr,
        unchanged: Option<u32>,
    ) {
        let quiet = self.pool.count_quiet(table, unchanged.map(|entries| 1 + entries / ENTRIES));
        if unchanged.is_some()
            && quiet >= self.limits.of(source)
            && !self.new_watches.is_full()
            && ram.watch_page(source)
        {
            self.limits.begin(source, self.fences);
            self.new_watches.push(source);
        }
    }

    /// Lets nothing write to the tables that are watched from now on. The assembly may have mapped them writable, too.
    pub(super) fn begin_watches(&mut self, ram: &GuestRam) {
        for nth in 0..self.new_watches.len() {
            if let Some(table) = self.new_watches.get(nth).copied() {
                self.protect(ram, table, true);
                self.flush = TlbFlush::All;
            }
        }
    }

    /// Whether the shared half may be used in this address space without asking its root. While the half is restless, no
    /// fence passes it by.
    #[inline]
    pub(super) fn can_share(&self, satp: Satp) -> bool {
        self.knows_root(satp) || !self.is_shared_settled()
    }

    /// Whether the shared half is known to have what the root of `satp` has, which is watched.
    pub(super) fn knows_root(&self, satp: Satp) -> bool {
        self.shared.as_ref().is_some_and(|shared| shared.roots.contains(&satp.ppn))
    }

    /// Notes that the shared half was compared with the root of `satp` and has what that has now, and whether it did before.
    /// Stores to one that is watched are noticed.
    pub(super) fn note_root(&mut self, satp: Satp, is_quiet: bool, is_watched: bool) {
        let Some(shared) = &mut self.shared else { return };
        if !is_quiet || shared.roots.is_full() {
            shared.roots.clear();
            self.lost_roots = LostRoots::All;
        }
        if is_watched && !shared.roots.contains(&satp.ppn) {
            shared.roots.push(satp.ppn);
        }
    }

    /// Notes that the shared half has got something from the current space that others may not have: `table` follows the
    /// root of each.
    pub(super) fn disturb_shared(&mut self, table: TableId) {
        if let Some(shared) = &mut self.shared {
            shared.roots.clear();
            shared.any_root = Some(table);
        }
        self.loosen(KERNEL, true, table);
    }
}
