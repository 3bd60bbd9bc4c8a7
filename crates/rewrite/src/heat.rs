//! How hot pages are: how often privileged instructions of theirs trap, and what has spoken against copies that they had.

pub(crate) mod balance;

use alloc::boxed::Box;

use memory::{GuestPhysAddr, PAGE_SIZE};

/// Traps on a page before it is copied, at first; each store to a copied page doubles it.
pub(crate) const FIRST_LIMIT: u32 = 32;
/// The limit stops doubling here: some pages are code and data at once.
const LAST_LIMIT: u32 = 1 << 20;
const _: () = assert!(balance::LAST_PATIENCE <= LAST_LIMIT);
/// Stores after which a page is scanned again, since a scan has found something.
const STORES: u8 = 16;
/// Pages whose traps are counted; a page shares its place with others.
const PLACES: u64 = if cfg!(loom) { 2 } else { 4096 };

/// What is known of a page that may be hot.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Heat {
    page: u64,
    traps: u32,
    limit: u32,
    /// Traps before it is copied again after loads have ended its copy; 0 where they have not.
    rest: u32,
    /// Stores after which it was to be scanned again, since a scan has found something.
    stores: u8,
}

impl Heat {
    const NEW: Self = Self { page: 0, traps: 0, limit: FIRST_LIMIT, rest: 0, stores: 0 };

    /// Counts a trap; says whether the page is worth a copy.
    pub(crate) fn trap(&mut self) -> bool {
        self.traps = self.traps.saturating_add(1);
        self.traps >= self.limit.max(self.rest)
    }

    /// Counts a store; says whether the page may be scanned again after it.
    pub(crate) fn store(&mut self) -> bool {
        self.stores = self.stores.saturating_add(1);
        self.stores <= STORES
    }

    /// Notes that a scan has found something.
    pub(crate) fn found(&mut self) {
        self.stores = 0;
    }

    /// Begins to count traps: the page's copy has ended.
    pub(crate) fn begin(&mut self) {
        self.traps = 0;
    }

    /// Lets twice as many traps pass before it is copied again, for a store has ended its copy.
    pub(crate) fn cool(&mut self) {
        self.limit = self.limit.saturating_mul(2).min(LAST_LIMIT);
    }

    /// Whether loads have ended its last copy.
    pub(crate) const fn rests(&self) -> bool {
        self.rest > 0
    }

    /// Notes what a copy was found to be worth: where it loses, more traps pass before there is another.
    pub(crate) fn weighed(&mut self, copy_wins: bool) {
        self.rest = if copy_wins { 0 } else { balance::double(self.rest) };
    }
}

/// What is known of pages, by place.
#[derive(Debug)]
pub(crate) struct HeatTable(Box<[Heat]>);

impl HeatTable {
    pub(crate) fn new() -> Self {
        Self((0..PLACES).map(|_| Heat { page: u64::MAX, ..Heat::NEW }).collect())
    }

    /// What is known of the page of `address`; another page that had its place is forgotten.
    pub(crate) fn of(&mut self, address: GuestPhysAddr) -> Option<&mut Heat> {
        let number = address.0 / PAGE_SIZE;
        let place = self.0.get_mut((number % PLACES) as usize)?;
        if place.page != number {
            *place = Heat { page: number, ..Heat::NEW };
        }
        Some(place)
    }
}
