//! Rewritten code pages: copies of guest-kernel pages in which privileged instructions that trapped are replaced by
//! breakpoints, which the firmware delegates straight to us.
//!
//! A page is copied once it has trapped often enough, and a site is replaced once it has trapped on a copied page: what
//! trapped there is sure to be an instruction. Only the first two bytes of a site are replaced (C.EBREAK), so a jump
//! to its middle finds what it found before. One that a page's end tears is replaced, too; `vmm` then finds its second half. Copies are mapped execute-only by `mmu`, which asks `memory::Overlay`
//! for them; loads are served from the original, and a store ends the copy. The guest sees nothing of it.
//!
//! Loads from a copied page are carried out by hand, so a page that is read much is better off as it is: see `balance`.
//!
//! On firmware that complains of some instructions, `scan` replaces those before they trap; a store to a page that was scanned
//! lets it be scanned again, and `store` keeps the copies of their pages through stores, until nothing of the kind is left
//! in them.
//!
//! Known limit: an instruction that overlaps a site from in front (starting two bytes before it, in a guest that executes
//! the same bytes both ways) would read the breakpoint as its second half. `vmm` leaves such sites alone where the code
//! before them shows it, in exact mode wherever it is possible, but for those that the firmware complains of.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod balance;
mod scan;
mod site;
mod store;

use core::sync::atomic::{AtomicU64, Ordering};

use alloc::boxed::Box;
use alloc::vec::Vec;

use isa::instr::length;
use memory::{GuestPhysAddr, GuestRam, HostPhysAddr, PAGE_SIZE};

use balance::Scale;
pub use balance::Weighed;
pub use site::is_torn;
use site::{parcel, site_bits};

/// C.EBREAK.
const BREAKPOINT: u16 = 0x9002;
/// Traps on a page before it is copied, at first; each store to a copied page doubles it.
const FIRST_LIMIT: u32 = 32;
/// The limit stops doubling here: some pages are code and data at once.
const LAST_LIMIT: u32 = 1 << 20;
const _: () = assert!(balance::LAST_PATIENCE <= LAST_LIMIT);
/// Pages whose traps are counted; a page shares its place with others.
const PLACES: u64 = 4096;
const WORDS: usize = (PAGE_SIZE / 8) as usize;

/// What became of a site that trapped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Change {
    /// Nothing is different.
    None,
    /// The site's page is fetched from a copy from now on: every shadow that maps the page must go.
    Remap,
    /// Stores to the page are to be noticed from now on: every shadow leaf that allows them must go.
    Guard,
}

#[derive(Clone, Copy, Debug)]
struct Heat {
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
}

/// What is known of a copy.
#[derive(Clone, Copy, Debug)]
struct Copied {
    /// How many more stores it is kept through: see `store`.
    kept: u8,
    /// What speaks for it: see `balance`.
    scale: Scale,
}

impl Copied {
    const NEW: Self = Self { kept: 0, scale: Scale::NEW };
}

/// How often pages were copied, and how often a copy ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counts {
    /// Pages copied.
    pub copies: u64,
    /// Sites replaced.
    pub sites: u64,
    /// Copies that ended, by a store or for the loads from their pages.
    pub ended: u64,
}

/// The code pages of one guest.
#[derive(Debug)]
pub struct CodePages {
    words: &'static [AtomicU64],
    base: HostPhysAddr,
    free: Vec<HostPhysAddr>,
    heat: Box<[Heat]>,
    copies: Box<[Copied]>,
    counts: Counts,
    exact: bool,
}

impl CodePages {
    /// Room for copies in `words`, whole pages at `base`; with none, nothing is ever rewritten.
    pub fn new(words: &'static [AtomicU64], base: HostPhysAddr) -> Self {
        let mut pages = Self {
            words,
            base,
            free: Vec::with_capacity(words.len() / WORDS),
            heat: (0..PLACES).map(|_| Heat { page: u64::MAX, ..Heat::NEW }).collect(),
            copies: (0..words.len() / WORDS).map(|_| Copied::NEW).collect(),
            counts: Counts::default(),
            exact: false,
        };
        pages.refill();
        pages
    }

    /// Whether a site is to stay as it is where an instruction that overlaps it from in front could tell the difference.
    pub fn set_exact(&mut self, exact: bool) {
        self.exact = exact;
    }

    /// Whether it is.
    pub fn is_exact(&self) -> bool {
        self.exact
    }

    /// How often what happened.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Whether `address` lies in one of the copies.
    pub fn owns_host(&self, address: HostPhysAddr) -> bool {
        address.offset_from(self.base).is_some_and(|offset| offset < self.words.len() as u64 * 8)
    }

    /// Counts a trap of the four-byte instruction `bits`, which the hardware refuses, at `site`, and replaces it where that is
    /// due: at once, if the firmware complains of it. In user mode only for that, and only while half of the room for copies
    /// is left for the kernel. `is_overlapped` says whether an instruction that begins before `site` may have its second half
    /// there: such a site stays as it is, but where the firmware would complain each time.
    pub fn trapped(
        &mut self,
        ram: &GuestRam,
        site: GuestPhysAddr,
        bits: u32,
        is_user: bool,
        is_overlapped: impl FnOnce() -> bool,
    ) -> Change {
        let is_reported = ram.overlay().wants_scan() && is_reported(bits);
        // Asked last: it takes up to three walks of the guest's tables, and most traps are only counted.
        let stays = || !is_reported && is_overlapped();
        if let Some(copy) = ram.overlay().copy_of(site) {
            // Where it was replaced before, what trapped was the original, still mapped in this address space.
            if self.replaced(ram, site).is_some() {
                return Change::Remap;
            }
            if stays() {
                return Change::None;
            }
            self.replace(copy, site);
            ram.note_code_write();
            return Change::None;
        }
        let page = site.align_down(PAGE_SIZE);
        let may_copy = if is_user {
            is_reported && 2 * self.free.len() > self.copies.len()
        } else {
            self.is_hot(page) || is_reported
        };
        if !may_copy || stays() {
            return Change::None;
        }
        let Some(copy) = self.cover(ram, page) else { return Change::None };
        self.begin_balance(page, copy);
        if is_reported {
            self.keep(copy, if scan::is_loud(bits) { store::ALWAYS } else { store::PATIENCE });
        }
        self.replace(copy, site);
        ram.note_code_write();
        Change::Remap
    }

    /// Looks at the page of `address` before code in it is executed for the first time, or for the first time after a store,
    /// and replaces the instructions of the kinds that some firmware complains of. It may be executed then.
    ///
    /// Nothing has trapped there, so what looks like an instruction may be data, or lie across two others. Only what is
    /// met whether one reads the page's instructions from its first parcel on or from its second is taken for one, or what is
    /// met from `address` on up to the first jump, if `is_entry` says that an instruction begins there. Where the page begins
    /// with what may be one, `before`, the page in front of it, says whether an instruction begins there.
    pub fn scan(
        &mut self,
        ram: &GuestRam,
        address: GuestPhysAddr,
        is_entry: bool,
        before: impl FnOnce() -> Option<GuestPhysAddr>,
    ) -> Change {
        let page = address.align_down(PAGE_SIZE);
        if ram.overlay().may_run(page) {
            return Change::None;
        }
        // A copy made without scanning cannot be: pages are scanned before anything in them traps.
        ram.note_scanned(page);
        let sites = scan::loud_sites(ram, page, is_entry.then_some(address.0 % PAGE_SIZE), before);
        if sites.is_empty() {
            return Change::Guard;
        }
        if let Some(heat) = self.heat_of(page) {
            heat.stores = 0;
        }
        let Some(copy) = self.cover(ram, page) else { return Change::Guard };
        self.keep(copy, store::ALWAYS);
        for offset in sites {
            self.replace(copy, page.wrapping_add(offset));
        }
        ram.note_code_write();
        Change::Remap
    }

    /// Gives a page a copy, if there is room.
    fn cover(&mut self, ram: &GuestRam, page: GuestPhysAddr) -> Option<HostPhysAddr> {
        let copy = self.free.pop()?;
        if !self.copy(ram, page, copy) || !ram.overlay_page(page, copy) {
            self.free.push(copy);
            return None;
        }
        self.counts.copies = self.counts.copies.wrapping_add(1);
        Some(copy)
    }

    /// The instruction that the breakpoint at `site` stands for; `None` where it is the guest's own breakpoint. Of one that is
    /// torn by the page's end, its first half: the second is wherever the guest has mapped it.
    pub fn replaced(&self, ram: &GuestRam, site: GuestPhysAddr) -> Option<u32> {
        let copy = ram.overlay().copy_of(site)?;
        let word = self.word(copy, site)?.load(Ordering::Relaxed);
        if parcel(word, site) != BREAKPOINT {
            return None;
        }
        let bits = site_bits(ram, site)?;
        (bits as u16 != BREAKPOINT && length(bits as u16) == 4).then_some(bits)
    }

    /// Ends the copy of the page of `address`, which is about to be written, if there is one, and says where it was:
    /// every shadow leaf that maps it must go before it is used again.
    pub fn end(&mut self, ram: &GuestRam, address: GuestPhysAddr) -> Option<HostPhysAddr> {
        let copy = self.uncover(ram, address)?;
        if let Some(heat) = self.heat_of(address.align_down(PAGE_SIZE)) {
            heat.limit = heat.limit.saturating_mul(2).min(LAST_LIMIT);
        }
        Some(copy)
    }

    /// Takes a page's copy away, and begins to count its traps.
    fn uncover(&mut self, ram: &GuestRam, address: GuestPhysAddr) -> Option<HostPhysAddr> {
        let copy = ram.uncover_page(address)?;
        if let Some(place) = self.copied(copy) {
            *place = Copied::NEW;
        }
        self.free.push(copy);
        self.counts.ended = self.counts.ended.wrapping_add(1);
        if let Some(heat) = self.heat_of(address.align_down(PAGE_SIZE)) {
            heat.traps = 0;
        }
        Some(copy)
    }

    /// Ends all copies.
    pub fn clear(&mut self, ram: &GuestRam) {
        ram.uncover_all();
        self.refill();
    }

    fn refill(&mut self) {
        self.copies.fill(Copied::NEW);
        self.free.clear();
        let pages = self.words.len() / WORDS;
        self.free.extend((0..pages as u64).rev().map(|page| self.base.wrapping_add(page * PAGE_SIZE)));
    }

    fn keep(&mut self, copy: HostPhysAddr, stores: u8) {
        if let Some(place) = self.copied(copy) {
            place.kept = stores;
        }
    }

    fn copied(&mut self, copy: HostPhysAddr) -> Option<&mut Copied> {
        self.number(copy).and_then(|number| self.copies.get_mut(number))
    }

    /// The number of a copy.
    fn number(&self, copy: HostPhysAddr) -> Option<usize> {
        Some((copy.offset_from(self.base)? / PAGE_SIZE) as usize)
    }

    fn is_hot(&mut self, page: GuestPhysAddr) -> bool {
        self.heat_of(page).is_some_and(|heat| {
            heat.traps = heat.traps.saturating_add(1);
            heat.traps >= heat.limit.max(heat.rest)
        })
    }

    fn heat_of(&mut self, page: GuestPhysAddr) -> Option<&mut Heat> {
        let number = page.0 / PAGE_SIZE;
        let heat = self.heat.get_mut((number % PLACES) as usize)?;
        if heat.page != number {
            *heat = Heat { page: number, ..Heat::NEW };
        }
        Some(heat)
    }

    fn copy(&self, ram: &GuestRam, page: GuestPhysAddr, copy: HostPhysAddr) -> bool {
        (0..WORDS as u64).all(|n| self.copy_word(ram, page.wrapping_add(8 * n), copy))
    }

    fn copy_word(&self, ram: &GuestRam, address: GuestPhysAddr, copy: HostPhysAddr) -> bool {
        let (from, to) = (ram.read_word(address), self.word(copy, address));
        from.zip(to).map(|(value, word)| word.store(value, Ordering::Relaxed)).is_some()
    }

    fn replace(&mut self, copy: HostPhysAddr, site: GuestPhysAddr) {
        self.set_breakpoint(copy, site);
        self.counts.sites = self.counts.sites.wrapping_add(1);
    }

    fn set_breakpoint(&self, copy: HostPhysAddr, site: GuestPhysAddr) {
        self.set_parcel(copy, site, BREAKPOINT);
    }

    /// Lets the instruction at `site` be executed as it is, if the page has a copy.
    pub fn restore(&self, ram: &GuestRam, site: GuestPhysAddr) {
        if let (Some(copy), Some(bits)) = (ram.overlay().copy_of(site), site_bits(ram, site)) {
            self.set_parcel(copy, site, bits as u16);
            ram.note_code_write();
        }
    }

    fn set_parcel(&self, copy: HostPhysAddr, site: GuestPhysAddr, parcel: u16) {
        let shift = 8 * (site.0 & 6);
        let Some(word) = self.word(copy, site) else { return };
        let old = word.load(Ordering::Relaxed);
        word.store(old & !(0xffff << shift) | u64::from(parcel) << shift, Ordering::Relaxed);
    }

    /// The word of `copy` in which the byte at the page offset of `address` lies.
    fn word(&self, copy: HostPhysAddr, address: GuestPhysAddr) -> Option<&AtomicU64> {
        let offset = copy.offset_from(self.base)?.checked_add(address.0 % PAGE_SIZE)?;
        self.words.get((offset / 8) as usize)
    }
}

/// Whether firmware that complains of some instructions does so of `bits`, which has trapped as an illegal instruction: it has
/// the opcode of CSR accesses, and is none: funct3 is 0, or 4, as of the hypervisor extension's loads and stores.
pub const fn is_reported(bits: u32) -> bool {
    bits & 0x307f == 0x73
}

#[cfg(test)]
mod tests;
