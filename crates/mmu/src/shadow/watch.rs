//! Makes fences of everything cheap for guests that have no ASIDs, and so fence at each entry of their kernel.
//!
//! A guest table that was compared again and again and never found changed is *watched*: no shadow maps it writable, so
//! that a store to it is noticed, and ends that. What was made of watched tables alone is *settled*: until one of them is let
//! go, a fence has nothing to ask about it. Guests that write a table soon after find it watched less and less often.
//! Seldom for guests with ASIDs: they fence single addresses, and once they are trusted (see `trust`), nothing is compared.

use core::sync::atomic::Ordering;

use alloc::boxed::Box;

use arrayvec::ArrayVec;
use isa::paging::{Mode, Satp};
use memory::{GuestPhysAddr, GuestRam, PAGE_SIZE};

use super::contexts::bit;
use super::{LostRoots, ShadowMmu, TlbFlush};

/// How often a table is found unchanged before it is watched, at first; each store to a watched one doubles it.
const FIRST_LIMIT: u32 = if cfg!(test) { 1 } else { 16 };
/// The limit stops doubling here.
const LAST_LIMIT: u32 = if cfg!(test) { 2 } else { 1 << 20 };
/// Tables that are counted; a table shares its place with others.
const PLACES: u64 = 512;
/// Guest tables that one round of comparing may begin to watch.
pub(super) const AT_ONCE: usize = 16;

/// How often which guest table was found unchanged.
#[derive(Debug)]
pub(super) struct QuietTables(Box<[Place]>);

#[derive(Clone, Copy, Debug)]
struct Place {
    page: u64,
    rounds: u32,
    limit: u32,
}

impl QuietTables {
    pub(super) fn new() -> Self {
        Self((0..PLACES).map(|_| Place { page: u64::MAX, rounds: 0, limit: FIRST_LIMIT }).collect())
    }

    fn of(&mut self, table: GuestPhysAddr) -> Option<&mut Place> {
        let number = table.0 / PAGE_SIZE;
        let place = self.0.get_mut((number % PLACES) as usize)?;
        if place.page != number {
            *place = Place { page: number, rounds: 0, limit: FIRST_LIMIT };
        }
        Some(place)
    }
}

/// Numbers of the pages of guests' roots. The shared half follows whichever root one looks from, so it is settled for those
/// alone that are watched and were found to have what its own root has. Another one is compared when its space is entered.
pub(super) type Roots = ArrayVec<u64, 16>;

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
        !core::mem::take(&mut self.new_watches).is_empty()
    }

    /// Lets the page of `address`, which is about to be written, be watched no longer.
    pub fn unwatch(&mut self, ram: &GuestRam, address: GuestPhysAddr) {
        if ram.unwatch_page(address)
            && let Some(place) = self.quiet.of(address)
        {
            place.rounds = 0;
            place.limit = place.limit.saturating_mul(2).min(LAST_LIMIT);
        }
    }

    /// Settles nothing any more where a watched page was let go.
    pub(super) fn follow_unwatched(&mut self, ram: &GuestRam) {
        let now = ram.overlay().unwatched().load(Ordering::Acquire);
        if core::mem::replace(&mut self.unwatched, now) == now {
            return;
        }
        let mut restless = 0;
        for (number, context) in self.own_contexts().enumerate() {
            if context.as_ref().is_some_and(|context| context.key.satp.mode != Mode::Bare && !context.stale) {
                restless |= bit(number);
            }
        }
        self.restless |= restless;
        self.unsettle_shared();
    }

    pub(super) fn is_restless(&self, number: usize, shares: bool) -> bool {
        if shares { self.restless_shared } else { self.restless & bit(number) != 0 }
    }

    pub(super) fn set_restless(&mut self, number: usize, shares: bool, restless: bool) {
        if shares {
            self.restless_shared = restless;
        } else {
            self.restless = self.restless & !bit(number) | if restless { bit(number) } else { 0 };
        }
    }

    /// Whether the guest's table at `table` is watched. If not, and it was found unchanged, it may be from now on.
    #[inline]
    pub(super) fn is_watched(&mut self, ram: &GuestRam, table: GuestPhysAddr, is_quiet: bool) -> bool {
        let is_watched = ram.overlay().is_watched(table);
        if is_quiet && !is_watched {
            self.note_quiet(ram, table);
        }
        is_watched
    }

    fn note_quiet(&mut self, ram: &GuestRam, table: GuestPhysAddr) {
        let Some(place) = self.quiet.of(table) else { return };
        place.rounds = place.rounds.saturating_add(1);
        if place.rounds >= place.limit && !self.new_watches.is_full() && ram.watch_page(table) {
            self.new_watches.push(table);
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
        self.restless_shared
            || self.shared.as_ref().is_none_or(|shared| {
                shared.roots.contains(&satp.ppn) || self.pool.next_used(shared.root, 0).is_none()
            })
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

    /// Notes that the shared half has got something from the current space that others may not have.
    pub(super) fn disturb_shared(&mut self) {
        if let Some(shared) = &mut self.shared {
            shared.roots.clear();
            self.restless_shared = !shared.stale;
        }
    }

    /// Lets the shared half, if it was settled, be compared before it is used again: fences have passed it by, and it was
    /// known to be right for its `roots` alone.
    fn unsettle_shared(&mut self) {
        if let Some(shared) = &mut self.shared
            && !shared.roots.is_empty()
        {
            shared.roots.clear();
            if !self.restless_shared {
                shared.stale = true;
                self.lost_roots = LostRoots::All;
            }
        }
    }
}
