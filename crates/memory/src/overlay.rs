//! Pages of guest RAM whose code is fetched from somewhere else: from a copy that the `rewrite` crate owns; and pages to
//! which nothing is stored unnoticed: those that are watched, and those whose code was scanned.
//!
//! Says which pages those are and where their copies lie, so that shadow tables can be filled accordingly, and notes
//! when the hypervisor itself writes to one. Decides nothing. Atomic, like RAM: all vCPUs of a VM share it.

use core::sync::atomic::{AtomicBool, AtomicU8, AtomicU16, AtomicU64, Ordering};

use alloc::boxed::Box;
use alloc::sync::Arc;

use crate::{BLOCK_SIZE, GuestPhysAddr, HostPhysAddr, PAGE_SIZE};

/// Places of the table. A page has one place, which another page may hold.
const PLACES: u64 = 4096;

#[derive(Debug, Default)]
struct Place {
    /// The page's number plus 1, or 0.
    page: AtomicU64,
    copy: AtomicU64,
}

/// The pages of one guest whose code is fetched from copies.
#[derive(Debug)]
pub struct Overlay {
    places: Box<[Place]>,
    /// For each block of RAM, how many of its pages have a copy, are watched, and are scanned: the sum.
    blocks: Box<[AtomicU16]>,
    /// How often a block had none of those any more.
    released: AtomicU64,
    base: GuestPhysAddr,
    disturbed: AtomicBool,
    /// Kernel code must be scanned before it is executed: a bit for each page that was, and was not stored to since.
    scanned: Box<[AtomicU64]>,
    /// Pages that may be executed and stored to without being scanned again, a bit each.
    exempt: Box<[AtomicU64]>,
    wants_scan: AtomicBool,
    /// Watched pages, a bit each.
    watched: Box<[AtomicU64]>,
    state: Arc<RamState>,
    /// The last pages that were watched no longer: `entry` of the count before and the page's number in RAM.
    log: [AtomicU64; LOG],
}

/// What the assembly asks of a guest's RAM, which lives on as long as anybody may ask.
#[derive(Debug)]
pub struct RamState {
    /// For each block, 1 where it is filled in, no code of it is fetched from elsewhere, and none of it is guarded.
    pub(crate) plain: Box<[AtomicU8]>,
    unwatched: AtomicU64,
}

impl RamState {
    /// For each block, not 0 where it is filled in, no code of it is fetched from elsewhere, and none of it is guarded.
    pub fn plain(&self) -> &[AtomicU8] {
        &self.plain
    }

    /// See `Overlay::unwatched`.
    pub const fn unwatched(&self) -> &AtomicU64 {
        &self.unwatched
    }
}

/// Pages that are remembered after they were watched no longer.
pub const LOG: usize = 32;

impl Overlay {
    pub(crate) fn new(base: GuestPhysAddr, size: u64) -> Self {
        let bits = || (0..(size / PAGE_SIZE).div_ceil(64)).map(|_| AtomicU64::new(0)).collect();
        Self {
            places: (0..PLACES).map(|_| Place::default()).collect(),
            blocks: (0..size / BLOCK_SIZE).map(|_| AtomicU16::new(0)).collect(),
            released: AtomicU64::new(0),
            base,
            disturbed: AtomicBool::new(false),
            scanned: bits(),
            exempt: bits(),
            wants_scan: AtomicBool::new(false),
            watched: bits(),
            state: Arc::new(RamState {
                plain: (0..size / BLOCK_SIZE).map(|_| AtomicU8::new(0)).collect(),
                unwatched: AtomicU64::new(0),
            }),
            log: [const { AtomicU64::new(u64::MAX) }; LOG],
        }
    }

    /// Lets no page's kernel code be executed before the page is scanned.
    pub fn require_scan(&self) {
        self.wants_scan.store(true, Ordering::Release);
    }

    /// Whether kernel code must be scanned before it is executed.
    #[inline]
    pub fn wants_scan(&self) -> bool {
        self.wants_scan.load(Ordering::Relaxed)
    }

    /// Whether the kernel code in the page of `address` may be executed.
    #[inline]
    pub fn may_run(&self, address: GuestPhysAddr) -> bool {
        !self.wants_scan() || self.is_in(&self.scanned, address) || self.is_in(&self.exempt, address)
    }

    /// Whether the page of `address` was scanned and not stored to since.
    pub fn is_scanned(&self, address: GuestPhysAddr) -> bool {
        self.is_in(&self.scanned, address)
    }

    /// Notes that the page of `address` is about to be scanned.
    pub(crate) fn note_scanned(&self, address: GuestPhysAddr) {
        self.enter(&self.scanned, address);
    }

    /// Notes that the page of `address` has to be scanned again before it is executed.
    pub(crate) fn forget_scanned(&self, address: GuestPhysAddr) {
        self.leave(&self.scanned, address);
    }

    /// Lets the page of `address` be executed and stored to without being scanned, until a copy of it ends.
    pub(crate) fn exempt(&self, address: GuestPhysAddr) {
        self.leave(&self.scanned, address);
        if let Some((word, bit)) = self.bit_of(&self.exempt, address) {
            word.fetch_or(bit, Ordering::AcqRel);
        }
    }

    /// Whether a store to the page of `address`, which has no copy, has to be noticed.
    #[inline]
    pub fn is_guarded(&self, address: GuestPhysAddr) -> bool {
        self.is_watched(address) || self.is_scanned(address)
    }

    /// Whether the page of `address` is watched.
    #[inline]
    pub fn is_watched(&self, address: GuestPhysAddr) -> bool {
        self.touches_block(address) && self.is_in(&self.watched, address)
    }

    /// How often a page was watched no longer. As long as this stays, nothing was stored to any page that is watched.
    #[inline]
    pub fn unwatched(&self) -> &AtomicU64 {
        &self.state.unwatched
    }

    /// What the assembly asks of the RAM.
    pub(crate) const fn state(&self) -> &Arc<RamState> {
        &self.state
    }

    /// Watches the page of `address`; says whether it does so from now on.
    pub(crate) fn watch(&self, address: GuestPhysAddr) -> bool {
        self.enter(&self.watched, address)
    }

    /// Watches the page of `address` no longer; says whether it was watched.
    pub(crate) fn unwatch(&self, address: GuestPhysAddr) -> bool {
        let was = self.leave(&self.watched, address);
        if was {
            let count = self.state.unwatched.fetch_add(1, Ordering::AcqRel);
            if let (Some(place), Some(offset)) =
                (self.log.get(count as usize % LOG), address.offset_from(self.base))
            {
                place.store(entry(count, offset / PAGE_SIZE), Ordering::Release);
            }
        }
        was
    }

    /// The pages that were watched no longer since `unwatched` was `before` and until it was `now`; `None` where there are too
    /// many, or one is not noted yet.
    pub fn unwatched_since(&self, before: u64, now: u64) -> Option<impl Iterator<Item = GuestPhysAddr> + '_> {
        let page = move |count: u64| {
            let found = self.log.get(count as usize % LOG)?.load(Ordering::Acquire);
            let number = found & PAGE_NUMBER;
            (found == entry(count, number)).then(|| self.base.wrapping_add(number * PAGE_SIZE))
        };
        let range = (now.wrapping_sub(before) <= LOG as u64).then_some(before..now)?;
        range.clone().all(|count| page(count).is_some()).then(|| range.filter_map(page))
    }

    #[inline]
    fn is_in(&self, bits: &[AtomicU64], address: GuestPhysAddr) -> bool {
        self.bit_of(bits, address).is_some_and(|(word, bit)| word.load(Ordering::Acquire) & bit != 0)
    }

    /// Sets a page's bit and counts it in its block; says whether it was not set before.
    fn enter(&self, bits: &[AtomicU64], address: GuestPhysAddr) -> bool {
        let Some((word, bit)) = self.bit_of(bits, address) else { return false };
        let is_new = word.fetch_or(bit, Ordering::AcqRel) & bit == 0;
        if is_new && let Some(block) = self.block(address) {
            block.fetch_add(1, Ordering::AcqRel);
        }
        is_new
    }

    /// Takes a page's bit out again; says whether it was set.
    fn leave(&self, bits: &[AtomicU64], address: GuestPhysAddr) -> bool {
        let Some((word, bit)) = self.bit_of(bits, address) else { return false };
        let was = word.fetch_and(!bit, Ordering::AcqRel) & bit != 0;
        if was {
            self.leave_block(address);
        }
        was
    }

    /// Counts a page of the block of `address` no longer.
    fn leave_block(&self, address: GuestPhysAddr) {
        if let Some(block) = self.block(address)
            && block.fetch_sub(1, Ordering::AcqRel) == 1
        {
            self.released.fetch_add(1, Ordering::AcqRel);
        }
    }

    fn bit_of<'a>(&self, bits: &'a [AtomicU64], address: GuestPhysAddr) -> Option<(&'a AtomicU64, u64)> {
        let page = address.offset_from(self.base)? / PAGE_SIZE;
        Some((bits.get((page / 64) as usize)?, 1 << (page % 64)))
    }

    /// Whether any page in the block of `address` may have a copy or be guarded, so that the block cannot be mapped whole.
    #[inline]
    pub fn touches_block(&self, address: GuestPhysAddr) -> bool {
        self.block(address).is_some_and(|count| count.load(Ordering::Acquire) > 0)
    }

    /// How often `touches_block` has become false of a block. As long as this stays, it stays true where it is.
    pub fn released(&self) -> u64 {
        self.released.load(Ordering::Acquire)
    }

    /// Where the code of the page of `address` is fetched from, if it is here.
    pub fn copy_of(&self, address: GuestPhysAddr) -> Option<HostPhysAddr> {
        if !self.touches_block(address) {
            return None;
        }
        let place = self.place(address)?;
        (place.page.load(Ordering::Acquire) == tag(address))
            .then(|| HostPhysAddr(place.copy.load(Ordering::Relaxed)))
    }

    /// Lets the code of the page of `address` be fetched from `copy`. Says whether it could: the page's place may be
    /// another's.
    pub(crate) fn insert(&self, address: GuestPhysAddr, copy: HostPhysAddr) -> bool {
        let (Some(place), Some(block)) = (self.place(address), self.block(address)) else { return false };
        if place.page.load(Ordering::Acquire) != 0 {
            return false;
        }
        place.copy.store(copy.0, Ordering::Relaxed);
        place.page.store(tag(address), Ordering::Release);
        block.fetch_add(1, Ordering::AcqRel);
        true
    }

    /// Takes the page of `address` out; its copy's address, if it was here.
    pub(crate) fn remove(&self, address: GuestPhysAddr) -> Option<HostPhysAddr> {
        let copy = self.copy_of(address)?;
        self.place(address)?.page.store(0, Ordering::Release);
        // What is there next has to be scanned again.
        self.leave(&self.scanned, address);
        if let Some((word, bit)) = self.bit_of(&self.exempt, address) {
            word.fetch_and(!bit, Ordering::AcqRel);
        }
        self.leave_block(address);
        Some(copy)
    }

    /// Whether some page's code is fetched from `copy`. Slow: for checks.
    pub fn holds_copy(&self, copy: HostPhysAddr) -> bool {
        self.places.iter().any(|place| {
            place.page.load(Ordering::Acquire) != 0 && place.copy.load(Ordering::Relaxed) == copy.0
        })
    }

    /// Takes all pages out, watches none, and forgets what was scanned.
    pub(crate) fn clear(&self) {
        self.places.iter().for_each(|place| place.page.store(0, Ordering::Release));
        self.blocks.iter().for_each(|block| block.store(0, Ordering::Release));
        self.disturbed.store(false, Ordering::Release);
        let bits = self.scanned.iter().chain(&self.exempt).chain(&self.watched);
        bits.for_each(|word| word.store(0, Ordering::Release));
        self.state.unwatched.fetch_add(1, Ordering::AcqRel);
        self.released.fetch_add(1, Ordering::AcqRel);
    }

    /// Whether the hypervisor wrote to a page that is here since this was last asked: copies are stale then.
    #[inline]
    pub fn take_disturbed(&self) -> bool {
        self.disturbed.load(Ordering::Relaxed) && self.disturbed.swap(false, Ordering::AcqRel)
    }

    /// Whether the `len` bytes at `address` lie in one block, none of whose pages has a copy or is guarded. Most that devices
    /// write does, so this is asked before `touched_pages`.
    #[inline]
    pub(crate) fn passes_by(&self, address: GuestPhysAddr, len: u64) -> bool {
        let offset = address.0.wrapping_sub(self.base.0);
        len <= BLOCK_SIZE - offset % BLOCK_SIZE
            && self
                .blocks
                .get((offset / BLOCK_SIZE) as usize)
                .is_some_and(|count| count.load(Ordering::Acquire) == 0)
    }

    /// The pages among the `len` bytes at `address` that may have a copy or be guarded.
    #[inline]
    pub(crate) fn touched_pages(
        &self,
        address: GuestPhysAddr,
        len: u64,
    ) -> impl Iterator<Item = GuestPhysAddr> {
        let end = address.0.saturating_add(len);
        let mut next = Some(address.align_down(PAGE_SIZE));
        core::iter::from_fn(move || {
            while let Some(page) = next.filter(|page| page.0 < end) {
                // Most blocks have none: a large range costs little.
                let touched = self.touches_block(page);
                let step = if touched { PAGE_SIZE } else { BLOCK_SIZE };
                next = page.align_down(step).checked_add(step);
                if touched {
                    return Some(page);
                }
            }
            None
        })
    }

    /// Notes a write of ours to the page of `address`, which may have a copy.
    pub(crate) fn disturb(&self, page: GuestPhysAddr) {
        if self.copy_of(page).is_some() {
            self.disturbed.store(true, Ordering::Release);
        }
    }

    fn place(&self, address: GuestPhysAddr) -> Option<&Place> {
        self.places.get((address.0 / PAGE_SIZE % PLACES) as usize)
    }

    fn block(&self, address: GuestPhysAddr) -> Option<&AtomicU16> {
        self.blocks.get((address.offset_from(self.base)? / BLOCK_SIZE) as usize)
    }
}

/// The bits of an entry of the log that are the page's number; RAM has fewer pages.
const PAGE_NUMBER: u64 = u32::MAX as u64;

/// An entry of the log.
const fn entry(count: u64, page: u64) -> u64 {
    count << 32 | page
}

const fn tag(address: GuestPhysAddr) -> u64 {
    address.0 / PAGE_SIZE + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASE: GuestPhysAddr = GuestPhysAddr(0x8000_0000);
    const PAGE: GuestPhysAddr = GuestPhysAddr(0x8030_5000);

    #[test]
    fn a_page_is_found_by_any_of_its_addresses_until_it_is_removed() {
        let overlay = Overlay::new(BASE, 4 * BLOCK_SIZE);
        assert!(overlay.insert(PAGE, HostPhysAddr(0x1000)));
        assert_eq!(overlay.copy_of(PAGE.wrapping_add(0xfff)), Some(HostPhysAddr(0x1000)));
        assert_eq!(overlay.copy_of(PAGE.wrapping_add(0x1000)), None);
        assert!(overlay.touches_block(GuestPhysAddr(0x803f_ffff)));
        assert!(!overlay.touches_block(BASE));
        assert_eq!(overlay.remove(PAGE), Some(HostPhysAddr(0x1000)));
        assert_eq!(overlay.copy_of(PAGE), None);
        assert!(!overlay.touches_block(PAGE));
    }

    #[test]
    fn a_place_holds_one_page_and_an_address_outside_ram_none() {
        let overlay = Overlay::new(BASE, 16 * BLOCK_SIZE);
        assert!(overlay.insert(PAGE, HostPhysAddr(0x1000)));
        assert!(!overlay.insert(PAGE.wrapping_add(PLACES * PAGE_SIZE), HostPhysAddr(0x2000)));
        assert!(!overlay.insert(GuestPhysAddr(0), HostPhysAddr(0x2000)));
        assert_eq!(overlay.copy_of(PAGE.wrapping_add(PLACES * PAGE_SIZE)), None);
    }

    #[test]
    fn a_page_is_watched_until_it_is_not_and_that_is_counted() {
        let overlay = Overlay::new(BASE, 4 * BLOCK_SIZE);
        let count = || overlay.unwatched().load(Ordering::Relaxed);
        assert!(overlay.watch(PAGE) && !overlay.watch(PAGE));
        assert!(
            overlay.is_watched(PAGE.wrapping_add(0xfff)) && !overlay.is_watched(PAGE.wrapping_add(0x1000))
        );
        assert!(overlay.touches_block(PAGE) && overlay.copy_of(PAGE).is_none());
        assert_eq!(count(), 0);
        assert!(overlay.unwatch(PAGE) && !overlay.unwatch(PAGE));
        assert!(!overlay.is_watched(PAGE) && !overlay.touches_block(PAGE));
        assert_eq!(count(), 1);
        assert!(!overlay.watch(GuestPhysAddr(0)) && !overlay.is_watched(GuestPhysAddr(0)));
        overlay.watch(PAGE);
        overlay.clear();
        assert!(!overlay.is_watched(PAGE) && !overlay.touches_block(PAGE));
        assert_eq!(count(), 2);
    }

    #[test]
    fn the_last_pages_that_were_let_go_are_known() {
        let overlay = Overlay::new(BASE, 4 * BLOCK_SIZE);
        let let_go = |number: u64| {
            let page = BASE.wrapping_add(number * PAGE_SIZE);
            assert!(overlay.watch(page) && overlay.unwatch(page));
            page
        };
        let since = |before| {
            let now = overlay.unwatched().load(Ordering::Relaxed);
            overlay.unwatched_since(before, now).map(|pages| pages.collect::<alloc::vec::Vec<_>>())
        };
        assert_eq!(since(0), Some(alloc::vec![]));
        let pages = [3, 700, 3].map(let_go);
        assert_eq!(since(0), Some(pages.to_vec()));
        assert_eq!(since(1), Some(pages[1..].to_vec()));
        (0..LOG as u64 - 2).for_each(|number| _ = let_go(number));
        assert_eq!(since(0), None);
        assert_eq!(since(1).map(|pages| pages.len()), Some(LOG));
        // All were let go at once, and none by name.
        overlay.clear();
        assert_eq!(since(LOG as u64 + 1), None);
    }

    #[test]
    fn a_write_of_ours_is_noted_once_and_only_on_its_pages() {
        let overlay = Overlay::new(BASE, 4 * BLOCK_SIZE);
        overlay.insert(PAGE, HostPhysAddr(0x1000));
        let touched = |address, len| overlay.touched_pages(address, len).collect::<alloc::vec::Vec<_>>();
        assert_eq!(touched(BASE, BLOCK_SIZE), []);
        assert_eq!(touched(GuestPhysAddr(PAGE.0 - 1), 2), [GuestPhysAddr(PAGE.0 - PAGE_SIZE), PAGE]);
        assert_eq!(touched(BASE, 4 * BLOCK_SIZE).len() as u64, BLOCK_SIZE / PAGE_SIZE);
        assert_eq!(touched(GuestPhysAddr(u64::MAX), 2), []);
        assert!(overlay.passes_by(BASE, BLOCK_SIZE));
        assert!(overlay.passes_by(GuestPhysAddr(BASE.0 + BLOCK_SIZE - 1), 1));
        // The page's block, the border before it, and what is no RAM.
        assert!(!overlay.passes_by(GuestPhysAddr(PAGE.0 + PAGE_SIZE), 1));
        assert!(!overlay.passes_by(GuestPhysAddr(BASE.0 + BLOCK_SIZE - 1), 2));
        assert!(!overlay.passes_by(BASE, u64::MAX));
        assert!(!overlay.passes_by(GuestPhysAddr(BASE.0 - 1), 1));
        assert!(!overlay.passes_by(GuestPhysAddr(u64::MAX), 2));
        overlay.disturb(PAGE.wrapping_add(0x1000));
        assert!(!overlay.take_disturbed());
        overlay.disturb(PAGE);
        assert!(overlay.take_disturbed());
        assert!(!overlay.take_disturbed());
    }

    #[test]
    fn a_scanned_page_is_guarded_until_it_is_stored_to() {
        let overlay = Overlay::new(BASE, 4 * BLOCK_SIZE);
        assert!(overlay.may_run(PAGE));
        overlay.require_scan();
        assert!(!overlay.may_run(PAGE) && !overlay.is_guarded(PAGE));
        overlay.note_scanned(PAGE);
        assert!(overlay.may_run(PAGE) && overlay.is_guarded(PAGE) && overlay.touches_block(PAGE));
        assert_eq!(overlay.released(), 0);
        overlay.forget_scanned(PAGE);
        assert!(!overlay.may_run(PAGE) && !overlay.is_guarded(PAGE) && !overlay.touches_block(PAGE));
        assert_eq!(overlay.released(), 1);
        overlay.note_scanned(PAGE);
        overlay.exempt(PAGE);
        assert!(overlay.may_run(PAGE) && !overlay.is_guarded(PAGE) && !overlay.touches_block(PAGE));
        // What follows a copy has to be scanned again.
        overlay.insert(PAGE, HostPhysAddr(0x1000));
        overlay.note_scanned(PAGE);
        overlay.remove(PAGE);
        assert!(!overlay.may_run(PAGE) && !overlay.touches_block(PAGE));
        assert_eq!(overlay.released(), 3);
        overlay.note_scanned(PAGE);
        overlay.clear();
        assert!(!overlay.touches_block(PAGE) && overlay.released() == 4);
    }
}
