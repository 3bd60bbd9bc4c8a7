//! Pages of guest RAM whose code is fetched from somewhere else: from a copy that the `rewrite` crate owns; and pages to
//! which nothing is stored unnoticed: those that are watched, and those whose code was scanned.
//!
//! Says what a shadow leaf for a page may be (`rule`), and notes when the hypervisor itself writes to a page that has a copy.
//! Decides nothing: what it says of copies and scanned pages is `rewrite`'s, what is watched is `mmu`'s. Atomic, like RAM: all
//! vCPUs of a VM share it.
//!
//! A page of which a copy is made is closed first: no shadow that is filled from then on maps it writable. So its place is taken
//! and it is counted in its block before its copy is published, and it stays closed after the copy was unpublished, until
//! `rewrite` opens it. *closed-before-copied*, *free-copy*.

use alloc::boxed::Box;
use alloc::sync::Arc;

use arrayvec::ArrayVec;

use crate::block::Block;
use crate::{BLOCK_SIZE, GuestPhysAddr, HostPhysAddr, PAGE_SIZE};
use sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Sets of places in the table. A page has one set, in which others may hold places.
const SETS: u64 = if cfg!(loom) { 1 } else { 1024 };
/// Places of a set: a kernel's code and its modules may lie anywhere in RAM, and as many pages of them at the same distance from
/// each other have copies all the same.
const WAYS: usize = if cfg!(loom) { 1 } else { 4 };

/// Which page's copy is where, in one word, so that nobody sees one page with another one's copy: the number of the copy's page
/// in the lower `COPY_BITS`, above it whether code is fetched from it, and above that the page's `tag`. 0 is an empty place.
#[derive(Debug)]
struct Place(AtomicU64);

/// Bits of the number of a page of host memory, whose addresses have 56 bits. Priv. spec, "Sv39: Page-Based 39-bit
/// Virtual-Memory System" and the like.
const COPY_BITS: u32 = 56 - PAGE_SIZE.ilog2();
/// Code is fetched from the copy.
const PUBLISHED: u64 = 1 << COPY_BITS;
/// Where in a place's word the tag begins.
const TAG_SHIFT: u32 = COPY_BITS + 1;
/// Where RAM must end, for tags to tell its pages apart.
const END: u64 = ((1 << (64 - TAG_SHIFT)) - 1) * SETS * PAGE_SIZE;

/// Tells a page from others that have the same set.
const fn tag(address: GuestPhysAddr) -> u64 {
    address.0 / (SETS * PAGE_SIZE) + 1
}

/// The copy that a place's word has.
const fn copy_in(word: u64) -> HostPhysAddr {
    HostPhysAddr(word << (64 - COPY_BITS) >> (64 - COPY_BITS) << PAGE_SIZE.ilog2())
}

impl Place {
    /// The place's word, if it is that of the page with this tag.
    fn word_of(&self, tag: u64) -> Option<u64> {
        let word = self.0.load(Ordering::Acquire);
        (word >> TAG_SHIFT == tag).then_some(word)
    }

    /// The copy that the code of the page with this tag is fetched from, if the place is its own.
    fn copy_of(&self, tag: u64) -> Option<HostPhysAddr> {
        self.word_of(tag).filter(|word| word & PUBLISHED != 0).map(copy_in)
    }

    /// Takes an empty place for a page with this tag; says whether it was empty.
    fn take(&self, tag: u64, copy: HostPhysAddr) -> bool {
        let word = tag << TAG_SHIFT | (copy.0 / PAGE_SIZE);
        self.0.compare_exchange(0, word, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }

    /// Lets code of the page with this tag be fetched from its copy or from itself, if the place is its own and that is not so
    /// now; gives the copy.
    fn publish(&self, tag: u64, publish: bool) -> Option<HostPhysAddr> {
        let old = self.word_of(tag).filter(|word| (word & PUBLISHED != 0) != publish)?;
        // Where two harts do so at one time, one of them gets the copy.
        self.0.compare_exchange(old, old ^ PUBLISHED, Ordering::AcqRel, Ordering::Relaxed).ok().map(copy_in)
    }
}

/// What shadow leaves for a page may be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LeafRule {
    /// Where the page's code is fetched from, if not from itself.
    pub copy: Option<HostPhysAddr>,
    /// Whether stores to the page pass unnoticed.
    pub writable: bool,
    /// What a kernel may execute of it.
    pub execution: Execution,
    /// Whether one leaf may map the page's whole block.
    pub whole_block: bool,
}

/// What a kernel may execute of a page.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Execution {
    /// All of it; the firmware complains of nothing.
    Free,
    /// All of it. The pages around it may have to be scanned first.
    Scanned,
    /// Nothing, before the page is scanned.
    AfterScan,
}

/// The page has a place, and is closed: most have none, and need not be looked for in their sets.
const CLOSED: u64 = 1;
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
pub const LOG: usize = if cfg!(loom) { 1 } else { 32 };

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

    /// What a shadow leaf for the page of `address` may be.
    #[inline]
    pub fn rule(&self, address: GuestPhysAddr) -> LeafRule {
        let execution = match self.wants_scan() {
            false => Execution::Free,
            true if self.has(address, SCANNED | EXEMPT) => Execution::Scanned,
            true => Execution::AfterScan,
        };
        if !self.touches_block(address) {
            return LeafRule { copy: None, writable: true, execution, whole_block: true };
        }
        let flags = self.flags(address) & (CLOSED | SCANNED | WATCHED);
        let copy = if flags & CLOSED != 0 { self.find_copy(address) } else { None };
        LeafRule { copy, writable: flags == 0, execution, whole_block: false }
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
    /// many, or one is not noted yet, or no longer.
    pub fn unwatched_since(&self, before: u64, now: u64) -> Option<ArrayVec<GuestPhysAddr, LOG>> {
        if now.wrapping_sub(before) > LOG as u64 {
            return None;
        }
        // Each entry is read once: another hart may put a later one in its place at any time.
        let mut pages = ArrayVec::new();
        for count in before..now {
            let found = self.log.get(count as usize % LOG)?.load(Ordering::Acquire);
            let number = found & PAGE_NUMBER;
            if found != entry(count, number) {
                return None;
            }
            pages.try_push(self.base.wrapping_add(number * PAGE_SIZE)).ok()?;
        }
        Some(pages)
    }

    /// Whether the page of `address` has one of these flags.
    #[inline]
    fn has(&self, address: GuestPhysAddr, flags: u64) -> bool {
        self.flags(address) & flags != 0
    }

    /// The flags of the page of `address`, and above them those of others.
    #[inline]
    fn flags(&self, address: GuestPhysAddr) -> u64 {
        self.flags_of(address).map_or(0, |(word, shift)| word.load(Ordering::Acquire) >> shift)
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

    /// Where the code of the page of `address` is fetched from, if not from itself.
    #[inline]
    pub fn copy_of(&self, address: GuestPhysAddr) -> Option<HostPhysAddr> {
        if self.has(address, CLOSED) { self.find_copy(address) } else { None }
    }

    #[inline]
    fn find_copy(&self, address: GuestPhysAddr) -> Option<HostPhysAddr> {
        self.set(address).iter().find_map(|place| place.copy_of(tag(address)))
    }

    /// The copy that is made of the page of `address`, or was its own until it ended: the page is closed, and its code fetched
    /// from itself.
    pub fn reserved_for(&self, address: GuestPhysAddr) -> Option<HostPhysAddr> {
        if !self.has(address, CLOSED) {
            return None;
        }
        let word = self.set(address).iter().find_map(|place| place.word_of(tag(address)))?;
        (word & PUBLISHED == 0).then(|| copy_in(word))
    }

    /// Closes the page of `address`, which is open: no shadow that is filled from now on maps it writable, and `copy` is its
    /// own. Says whether it could: all places of the page's set may be others'.
    pub(crate) fn close(&self, address: GuestPhysAddr, copy: HostPhysAddr) -> bool {
        let Some((word, shift)) = self.flags_of(address) else { return false };
        // Counted before it can be found: whoever finds it may open it, and count it no longer.
        self.enter_block(address);
        let is_done = self.set(address).iter().any(|place| place.take(tag(address), copy));
        if is_done {
            word.fetch_or(CLOSED << shift, Ordering::AcqRel);
        } else {
            self.leave_block(address, 1);
        }
        is_done
    }

    /// Lets the code of the page of `address`, which is closed, be fetched from its copy from now on; says whether it could.
    pub(crate) fn publish(&self, address: GuestPhysAddr) -> bool {
        self.set(address).iter().any(|place| place.publish(tag(address), true).is_some())
    }

    /// Lets the code of the page of `address` be fetched from itself again; its copy's address, if it had one. The page stays
    /// closed.
    pub(crate) fn unpublish(&self, address: GuestPhysAddr) -> Option<HostPhysAddr> {
        let (word, shift) = self.flags_of(address)?;
        if word.load(Ordering::Relaxed) >> shift & CLOSED == 0 {
            return None;
        }
        let copy = self.set(address).iter().find_map(|place| place.publish(tag(address), false))?;
        // What is there next has to be scanned again.
        let were = word.fetch_and(!((SCANNED | EXEMPT) << shift), Ordering::AcqRel) >> shift;
        if were & SCANNED != 0 {
            self.leave_block(address, 1);
        }
        Some(copy)
    }

    /// Opens the page of `address`, which is closed and whose code is fetched from itself: it is plain from now on, and what
    /// was reserved for it nobody's. Says whether it was so.
    pub(crate) fn open(&self, address: GuestPhysAddr) -> bool {
        let Some((word, shift)) = self.flags_of(address) else { return false };
        let is_unpublished =
            |place: &&Place| place.word_of(tag(address)).is_some_and(|word| word & PUBLISHED == 0);
        let Some(place) = self.set(address).iter().find(is_unpublished) else { return false };
        // Where two harts open it at one time, one of them does. Then it may be closed again at once, with another place.
        let is_done = word.fetch_and(!(CLOSED << shift), Ordering::AcqRel) >> shift & CLOSED != 0;
        if is_done {
            place.0.store(0, Ordering::Release);
            self.leave_block(address, 1);
        }
        is_done
    }

    /// Whether `copy` is some page's. Slow: for checks.
    pub fn holds_copy(&self, copy: HostPhysAddr) -> bool {
        self.places.iter().any(|place| {
            let word = place.0.load(Ordering::Acquire);
            word != 0 && copy_in(word) == copy
        })
    }

    /// Opens all pages, watches none, and forgets what was scanned. No hart may run the guest meanwhile.
    pub(crate) fn clear(&self) {
        self.disturbed.store(false, Ordering::Release);
        // Most are empty, and are not to be written.
        for place in self.places.iter().filter(|place| place.0.load(Ordering::Acquire) != 0) {
            place.0.store(0, Ordering::Release);
        }
        for (number, word) in (0..).zip(&self.pages) {
            if word.load(Ordering::Acquire) == 0 {
                continue;
            }
            let counted =
                word.swap(0, Ordering::AcqRel) & (of_all(CLOSED) | of_all(SCANNED) | of_all(WATCHED));
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

    /// Notes a write of ours to the page of `address`, which may have a copy or be about to get one.
    pub(crate) fn disturb(&self, page: GuestPhysAddr) {
        if self.has(page, CLOSED) {
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
