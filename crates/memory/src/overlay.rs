//! Pages of guest RAM whose code is fetched from somewhere else: from a copy that the `rewrite` crate owns; and pages to
//! which nothing is stored unnoticed: those that are watched, and those whose code was scanned.
//!
//! Says which pages those are and where their copies lie, so that shadow tables can be filled accordingly, and notes
//! when the hypervisor itself writes to one. Decides nothing. Atomic, like RAM: all vCPUs of a VM share it.

use alloc::boxed::Box;
use alloc::sync::Arc;

use crate::block::Block;
use crate::sync::{AtomicBool, AtomicU64, Ordering};
use crate::{BLOCK_SIZE, GuestPhysAddr, HostPhysAddr, PAGE_SIZE};

/// Sets of places in the table. A page has one set, in which others may hold places.
const SETS: u64 = if cfg!(loom) { 1 } else { 1024 };
/// Places of a set: a kernel's code and its modules may lie anywhere in RAM, and as many pages of them at the same distance from
/// each other have copies all the same.
const WAYS: usize = if cfg!(loom) { 1 } else { 4 };

/// Which page's copy is where, in one word, so that nobody sees one page with another one's copy: the number of the copy's page
/// in the lower `COPY_BITS`, and above it the page's `tag`. 0 is an empty place.
#[derive(Debug)]
struct Place(AtomicU64);

/// Bits of the number of a page of host memory, whose addresses have 56 bits. Priv. spec, "Sv39: Page-Based 39-bit
/// Virtual-Memory System" and the like.
const COPY_BITS: u32 = 56 - PAGE_SIZE.ilog2();
/// Where RAM must end, for tags to tell its pages apart.
const END: u64 = ((1 << (64 - COPY_BITS)) - 1) * SETS * PAGE_SIZE;

/// Tells a page from others that have the same set.
const fn tag(address: GuestPhysAddr) -> u64 {
    address.0 / (SETS * PAGE_SIZE) + 1
}

/// The copy that a place's word has.
const fn copy_in(word: u64) -> HostPhysAddr {
    HostPhysAddr(word << (64 - COPY_BITS) >> (64 - COPY_BITS) << PAGE_SIZE.ilog2())
}

impl Place {
    /// The copy of the page with this tag, if the place is its own.
    fn copy_of(&self, tag: u64) -> Option<HostPhysAddr> {
        let word = self.0.load(Ordering::Acquire);
        (word >> COPY_BITS == tag).then(|| copy_in(word))
    }

    /// Takes an empty place for a page with this tag; says whether it was empty.
    fn fill(&self, tag: u64, copy: HostPhysAddr) -> bool {
        let word = tag << COPY_BITS | (copy.0 / PAGE_SIZE);
        self.0.compare_exchange(0, word, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }

    /// Empties the place if it is that of the page with this tag; gives the page's copy.
    fn empty(&self, tag: u64) -> Option<HostPhysAddr> {
        let word = self.0.load(Ordering::Acquire);
        if word >> COPY_BITS != tag {
            return None;
        }
        // Where two harts empty it at one time, one of them gets the copy.
        self.0.compare_exchange(word, 0, Ordering::AcqRel, Ordering::Relaxed).ok().map(copy_in)
    }

    /// Empties the place, which is in the set with this number; gives the address of the page whose it was.
    fn clear(&self, set: u64) -> Option<GuestPhysAddr> {
        // Most are empty, and are not to be written.
        if self.0.load(Ordering::Acquire) == 0 {
            return None;
        }
        let tag = self.0.swap(0, Ordering::AcqRel) >> COPY_BITS;
        Some(GuestPhysAddr((tag.checked_sub(1)? * SETS + set) * PAGE_SIZE))
    }
}

/// The page has a place: most have none, and need not be looked for in their sets.
const COPIED: u64 = 1;
/// The page was scanned, and was not stored to since.
const SCANNED: u64 = 1 << 1;
/// The page may be executed and stored to without being scanned again.
const EXEMPT: u64 = 1 << 2;
/// The page is watched.
const WATCHED: u64 = 1 << 3;
/// Flags of a page.
const FLAGS: u32 = 4;
/// Pages whose flags are in one word.
const PAGES_OF_WORD: u64 = (u64::BITS / FLAGS) as u64;

/// A flag of all pages of a word.
const fn of_all(flag: u64) -> u64 {
    u64::MAX / ((1 << FLAGS) - 1) * flag
}

/// The pages of one guest whose code is fetched from copies.
#[derive(Debug)]
pub struct Overlay {
    places: Box<[Place]>,
    /// The flags of all pages, `FLAGS` bits each.
    pages: Box<[AtomicU64]>,
    /// How often a block had none of those any more.
    released: AtomicU64,
    base: GuestPhysAddr,
    disturbed: AtomicBool,
    /// Kernel code must be scanned before it is executed.
    wants_scan: AtomicBool,
    state: Arc<RamState>,
    /// The last pages that were watched no longer: `entry` of the count before and the page's number in RAM.
    log: [AtomicU64; LOG],
}

/// What the assembly asks of a guest's RAM, which lives on as long as anybody may ask.
#[derive(Debug)]
pub struct RamState {
    /// The blocks of RAM. Each counts its pages that have a copy, are watched, and are scanned: the sum.
    blocks: Box<[Block]>,
    unwatched: AtomicU64,
}

impl RamState {
    /// The blocks of RAM, `BLOCK_SIZE` each.
    pub fn blocks(&self) -> &[Block] {
        &self.blocks
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
        assert!(base.0.saturating_add(size) <= END, "RAM beyond what the table of copies can tell apart");
        let words = (size / PAGE_SIZE).div_ceil(PAGES_OF_WORD);
        Self {
            places: (0..SETS as usize * WAYS).map(|_| Place(AtomicU64::new(0))).collect(),
            pages: (0..words).map(|_| AtomicU64::new(0)).collect(),
            released: AtomicU64::new(0),
            base,
            disturbed: AtomicBool::new(false),
            wants_scan: AtomicBool::new(false),
            state: Arc::new(RamState {
                blocks: (0..size / BLOCK_SIZE).map(|_| Block::new()).collect(),
                unwatched: AtomicU64::new(0),
            }),
            log: core::array::from_fn(|_| AtomicU64::new(u64::MAX)),
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
        !self.wants_scan() || self.has(address, SCANNED | EXEMPT)
    }

    /// Whether the page of `address` was scanned and not stored to since.
    pub fn is_scanned(&self, address: GuestPhysAddr) -> bool {
        self.has(address, SCANNED)
    }

    /// Notes that the page of `address` is about to be scanned.
    pub(crate) fn note_scanned(&self, address: GuestPhysAddr) {
        self.enter(address, SCANNED);
    }

    /// Notes that the page of `address` has to be scanned again before it is executed.
    pub(crate) fn forget_scanned(&self, address: GuestPhysAddr) {
        self.leave(address, SCANNED);
    }

    /// Lets the page of `address` be executed and stored to without being scanned, until a copy of it ends.
    pub(crate) fn exempt(&self, address: GuestPhysAddr) {
        self.leave(address, SCANNED);
        if let Some((word, shift)) = self.flags_of(address) {
            word.fetch_or(EXEMPT << shift, Ordering::AcqRel);
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
        self.touches_block(address) && self.has(address, WATCHED)
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
        self.enter(address, WATCHED)
    }

    /// Watches the page of `address` no longer; says whether it was watched.
    pub(crate) fn unwatch(&self, address: GuestPhysAddr) -> bool {
        let was = self.leave(address, WATCHED);
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

    /// Whether the page of `address` has one of these flags.
    #[inline]
    fn has(&self, address: GuestPhysAddr, flags: u64) -> bool {
        self.flags_of(address).is_some_and(|(word, shift)| word.load(Ordering::Acquire) >> shift & flags != 0)
    }

    /// Sets a flag of a page and counts it in the page's block; says whether it was not set before.
    fn enter(&self, address: GuestPhysAddr, flag: u64) -> bool {
        let Some((word, shift)) = self.flags_of(address) else { return false };
        // Counted first, as in `insert`.
        self.enter_block(address);
        let is_new = word.fetch_or(flag << shift, Ordering::AcqRel) >> shift & flag == 0;
        if !is_new {
            self.leave_block(address, 1);
        }
        is_new
    }

    /// Clears a flag of a page, and counts it no longer; says whether it was set.
    fn leave(&self, address: GuestPhysAddr, flag: u64) -> bool {
        let Some((word, shift)) = self.flags_of(address) else { return false };
        let was = word.fetch_and(!(flag << shift), Ordering::AcqRel) >> shift & flag != 0;
        if was {
            self.leave_block(address, 1);
        }
        was
    }

    /// Counts a page of the block of `address`.
    fn enter_block(&self, address: GuestPhysAddr) {
        if let Some(block) = self.block(address) {
            block.add_page();
        }
    }

    /// Counts so many pages of the block of `address` no longer.
    fn leave_block(&self, address: GuestPhysAddr, pages: u16) {
        if let Some(block) = self.block(address)
            && block.remove_pages(pages)
        {
            self.released.fetch_add(1, Ordering::AcqRel);
        }
    }

    /// The word with the flags of the page of `address`, and where in it they begin.
    #[inline]
    fn flags_of(&self, address: GuestPhysAddr) -> Option<(&AtomicU64, u32)> {
        let page = address.offset_from(self.base)? / PAGE_SIZE;
        Some((self.pages.get((page / PAGES_OF_WORD) as usize)?, (page % PAGES_OF_WORD) as u32 * FLAGS))
    }

    /// Whether any page in the block of `address` may have a copy or be guarded, so that the block cannot be mapped whole.
    #[inline]
    pub fn touches_block(&self, address: GuestPhysAddr) -> bool {
        self.block(address).is_some_and(Block::has_pages)
    }

    /// The blocks of RAM.
    pub(crate) fn blocks(&self) -> &[Block] {
        self.state.blocks()
    }

    /// How often `touches_block` has become false of a block. As long as this stays, it stays true where it is.
    pub fn released(&self) -> u64 {
        self.released.load(Ordering::Acquire)
    }

    /// Where the code of the page of `address` is fetched from, if it is here.
    pub fn copy_of(&self, address: GuestPhysAddr) -> Option<HostPhysAddr> {
        if !self.has(address, COPIED) {
            return None;
        }
        self.set(address).iter().find_map(|place| place.copy_of(tag(address)))
    }

    /// Lets the code of the page of `address`, which is not here, be fetched from `copy`. Says whether it could: all places of
    /// the page's set may be others'.
    pub(crate) fn insert(&self, address: GuestPhysAddr, copy: HostPhysAddr) -> bool {
        let Some(block) = self.block(address) else { return false };
        // Counted before it can be found: whoever finds it may take it out, and count it no longer.
        block.add_page();
        let is_done = self.set(address).iter().any(|place| place.fill(tag(address), copy));
        if !is_done {
            self.leave_block(address, 1);
        } else if let Some((word, shift)) = self.flags_of(address) {
            word.fetch_or(COPIED << shift, Ordering::AcqRel);
        }
        is_done
    }

    /// Takes the page of `address` out; its copy's address, if it was here.
    pub(crate) fn remove(&self, address: GuestPhysAddr) -> Option<HostPhysAddr> {
        let (word, shift) = self.flags_of(address)?;
        if word.load(Ordering::Relaxed) >> shift & COPIED == 0 {
            return None;
        }
        // What is there next has to be scanned again.
        let were = word.fetch_and(!((COPIED | SCANNED | EXEMPT) << shift), Ordering::AcqRel) >> shift;
        let is_own = were & COPIED != 0;
        let copy = self.set(address).iter().filter(|_| is_own).find_map(|place| place.empty(tag(address)));
        let pages = u16::from(copy.is_some()) + u16::from(were & SCANNED != 0);
        if pages != 0 {
            self.leave_block(address, pages);
        }
        copy
    }

    /// Whether some page's code is fetched from `copy`. Slow: for checks.
    pub fn holds_copy(&self, copy: HostPhysAddr) -> bool {
        self.places.iter().any(|place| {
            let word = place.0.load(Ordering::Acquire);
            word != 0 && copy_in(word) == copy
        })
    }

    /// Takes all pages out, watches none, and forgets what was scanned.
    pub(crate) fn clear(&self) {
        self.disturbed.store(false, Ordering::Release);
        for (set, places) in (0..).zip(self.places.chunks(WAYS)) {
            for page in places.iter().filter_map(|place| place.clear(set)) {
                self.leave_block(page, 1);
            }
        }
        for (number, word) in (0..).zip(&self.pages) {
            if word.load(Ordering::Acquire) == 0 {
                continue;
            }
            let counted = word.swap(0, Ordering::AcqRel) & (of_all(SCANNED) | of_all(WATCHED));
            if counted != 0 {
                let first = self.base.wrapping_add(number * PAGES_OF_WORD * PAGE_SIZE);
                self.leave_block(first, counted.count_ones() as u16);
            }
        }
        self.state.unwatched.fetch_add(1, Ordering::AcqRel);
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
            && self.blocks().get((offset / BLOCK_SIZE) as usize).is_some_and(|block| !block.has_pages())
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

    /// Where the page of `address` may be.
    #[inline]
    fn set(&self, address: GuestPhysAddr) -> &[Place] {
        let first = (address.0 / PAGE_SIZE % SETS) as usize * WAYS;
        self.places.get(first..first + WAYS).unwrap_or(&[])
    }

    fn block(&self, address: GuestPhysAddr) -> Option<&Block> {
        self.blocks().get((address.offset_from(self.base)? / BLOCK_SIZE) as usize)
    }
}

/// The bits of an entry of the log that are the page's number; RAM has fewer pages.
const PAGE_NUMBER: u64 = u32::MAX as u64;

/// An entry of the log.
const fn entry(count: u64, page: u64) -> u64 {
    count << 32 | page
}

#[cfg(all(test, not(loom)))]
mod tests;

#[cfg(all(test, loom))]
mod races;
