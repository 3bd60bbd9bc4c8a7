//! The memory of copies, and how a page comes by one and loses it.
//!
//! ```text
//! plain    close -> closing
//! closing  the round is over -> closed; a store -> plain
//! closed   read and publish -> copied, at once
//! copied   unpublish -> ending
//! ending   the round is over: open -> plain
//! ```
//!
//! While a page is *closing*, no shadow that is filled maps it writable, but one that was filled before may; the page is *closed*
//! once all vCPUs have dropped those, and only then it is read (*closed-before-copied*). While it is *ending*, nobody who looks
//! finds the copy, but a vCPU may still fetch from it; so its memory is nobody else's until all have dropped what leads there
//! (*free-copy*), and no leaf maps the page writable before that: a store is tried again until then (*acked-before-store*).
//!
//! Which page has which copy, and whether it is published, is in `memory::Overlay`, where whoever fills shadows finds it.

use alloc::boxed::Box;
use alloc::vec::Vec;

use memory::{GuestPhysAddr, GuestRam, HostPhysAddr, PAGE_SIZE};

use crate::heat::balance::Scale;
use crate::rounds::{Round, Rounds};
use crate::site::parcel;
use sync::atomic::{AtomicU64, Ordering};

/// C.EBREAK.
pub(crate) const BREAKPOINT: u16 = 0x9002;
/// Words of a page.
pub(crate) const WORDS: usize = if cfg!(loom) { 1 } else { (PAGE_SIZE / 8) as usize };

/// For `Copy::kept`: as long as there are instructions that the firmware complains of.
pub(crate) const ALWAYS: u8 = u8::MAX;
/// The same: stores that a copy without any is kept through.
pub(crate) const PATIENCE: u8 = 16;

/// What a copy is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Free,
    /// It will be this page's, which is closed when the round is over.
    Closing(GuestPhysAddr, Round),
    /// Code of this page is fetched from it.
    Copied(GuestPhysAddr),
    /// It was this page's, and is free when the round is over.
    Ending(GuestPhysAddr, Round),
}

/// What is known of a copy.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Copy {
    state: State,
    /// How many more stores it is kept through: see `store`.
    pub(crate) kept: u8,
    /// What speaks for it: see `heat::balance`.
    pub(crate) scale: Scale,
}

impl Copy {
    const FREE: Self = Self { state: State::Free, kept: 0, scale: Scale::NEW };
}

/// What came of the wish to give a page a copy.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Cover {
    /// It has this one. The round by which it was closed has begun just now, if it is given.
    Copied(HostPhysAddr, Option<Round>),
    /// It will have one once this round is over: stores to it have to be noticed from now on.
    Closing(Round),
    /// There is no room.
    None,
}

/// The copies of one guest's pages.
#[derive(Debug)]
pub(crate) struct Copies {
    words: &'static [AtomicU64],
    base: HostPhysAddr,
    copies: Box<[Copy]>,
    free: Vec<HostPhysAddr>,
    /// Those that are ending.
    ending: Vec<HostPhysAddr>,
}

impl Copies {
    pub(crate) fn new(words: &'static [AtomicU64], base: HostPhysAddr) -> Self {
        let pages = words.len() / WORDS;
        let mut copies = Self {
            words,
            base,
            copies: (0..pages).map(|_| Copy::FREE).collect(),
            free: Vec::with_capacity(pages),
            ending: Vec::with_capacity(pages),
        };
        copies.refill();
        copies
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.copies.len()
    }

    /// How many are free.
    pub(crate) fn free(&self) -> usize {
        self.free.len()
    }

    /// Lets a page have a copy, if its way there is as far as that; `vcpu` asks, which does not run before it has done as it
    /// is told.
    pub(crate) fn cover(
        &mut self,
        ram: &GuestRam,
        page: GuestPhysAddr,
        rounds: &Rounds,
        vcpu: usize,
    ) -> Cover {
        self.reclaim(ram, rounds);
        let reserved = ram.overlay().reserved_for(page);
        let Some(copy) = reserved.or_else(|| self.close(ram, page, rounds)) else { return Cover::None };
        let Some(State::Closing(_, round)) = self.of(copy).map(|copy| copy.state) else { return Cover::None };
        if !rounds.is_over(round, Some(vcpu)) {
            return Cover::Closing(round);
        }
        self.read(ram, page, copy);
        // Before it can be found: a hart that maps it must not execute what its instruction cache has of the page before.
        ram.note_code_write();
        self.set_state(copy, State::Copied(page));
        if !ram.publish_copy(page) {
            return Cover::None;
        }
        Cover::Copied(copy, reserved.is_none().then_some(round))
    }

    fn close(&mut self, ram: &GuestRam, page: GuestPhysAddr, rounds: &Rounds) -> Option<HostPhysAddr> {
        // What is not RAM cannot be read.
        ram.host_address(page)?;
        let copy = self.free.pop()?;
        if !ram.close_page(page, copy) {
            self.free.push(copy);
            return None;
        }
        self.set_state(copy, State::Closing(page, rounds.begin()));
        Some(copy)
    }

    /// Lets code of a page be fetched from itself again; its copy, if it had one, which is free when the round that begins is
    /// over.
    pub(crate) fn end(
        &mut self,
        ram: &GuestRam,
        page: GuestPhysAddr,
        rounds: &Rounds,
    ) -> Option<(HostPhysAddr, Round)> {
        let copy = ram.unpublish_copy(page)?;
        let round = rounds.begin();
        self.set_state(copy, State::Ending(page, round));
        self.ending.push(copy);
        Some((copy, round))
    }

    /// Opens a page without a copy that is closed, for it is to be stored to: at once where it is closing, and where it is
    /// ending once the round is over.
    pub(crate) fn give_up(&mut self, ram: &GuestRam, page: GuestPhysAddr, rounds: &Rounds) {
        self.reclaim(ram, rounds);
        if let Some(copy) = ram.overlay().reserved_for(page)
            && let Some(State::Closing(page, _)) = self.of(copy).map(|copy| copy.state)
        {
            self.release(ram, page, copy);
        }
    }

    /// Lets all pages' code be fetched from themselves again; says how many had copies, and the round after which those are
    /// free.
    pub(crate) fn end_all(&mut self, ram: &GuestRam, rounds: &Rounds) -> (u64, Round) {
        let places = (0..).step_by(PAGE_SIZE as usize).map(|offset| self.base.wrapping_add(offset));
        let used: Vec<_> = places.zip(&self.copies).map(|(at, copy)| (at, copy.state)).collect();
        for (at, state) in &used {
            match *state {
                State::Closing(page, _) => self.release(ram, page, *at),
                State::Copied(page) => _ = ram.unpublish_copy(page),
                State::Free | State::Ending(..) => {}
            }
        }
        let (before, round) = (self.ending.len(), rounds.begin());
        for (at, state) in used {
            if let State::Copied(page) = state {
                self.set_state(at, State::Ending(page, round));
                self.ending.push(at);
            }
        }
        ((self.ending.len() - before) as u64, round)
    }

    /// Opens the pages and frees the copies whose rounds are over.
    pub(crate) fn reclaim(&mut self, ram: &GuestRam, rounds: &Rounds) {
        let mut nth = 0;
        while let Some(&copy) = self.ending.get(nth) {
            match self.of(copy).map(|copy| copy.state) {
                Some(State::Ending(page, round)) if rounds.is_over(round, None) => {
                    self.ending.swap_remove(nth);
                    self.release(ram, page, copy);
                }
                _ => nth += 1,
            }
        }
    }

    fn release(&mut self, ram: &GuestRam, page: GuestPhysAddr, copy: HostPhysAddr) {
        ram.open_page(page);
        if let Some(place) = self.of_mut(copy) {
            *place = Copy::FREE;
        }
        self.free.push(copy);
    }

    /// Frees all. No hart may run the guest meanwhile.
    pub(crate) fn reset(&mut self, ram: &GuestRam) {
        ram.open_all_pages();
        self.refill();
    }

    fn refill(&mut self) {
        self.copies.fill(Copy::FREE);
        self.ending.clear();
        self.free.clear();
        let pages = self.copies.len() as u64;
        self.free.extend((0..pages).rev().map(|page| self.base.wrapping_add(page * PAGE_SIZE)));
    }

    /// What is known of the copy at an address.
    pub(crate) fn of(&self, copy: HostPhysAddr) -> Option<&Copy> {
        self.copies.get(self.number(copy)?)
    }

    pub(crate) fn of_mut(&mut self, copy: HostPhysAddr) -> Option<&mut Copy> {
        self.number(copy).and_then(|number| self.copies.get_mut(number))
    }

    fn number(&self, copy: HostPhysAddr) -> Option<usize> {
        Some((copy.offset_from(self.base)? / PAGE_SIZE) as usize)
    }

    fn set_state(&mut self, copy: HostPhysAddr, state: State) {
        if let Some(copy) = self.of_mut(copy) {
            copy.state = state;
        }
    }

    /// Reads a page that is closed.
    fn read(&self, ram: &GuestRam, page: GuestPhysAddr, copy: HostPhysAddr) {
        for at in (0..WORDS as u64).map(|n| page.wrapping_add(8 * n)) {
            self.write(ram, at, copy, |_| false);
        }
    }

    /// Makes the word of a copy at the page offset of `address` what RAM has there, once, with breakpoints where `is_site` says
    /// so: a hart that fetches from it meanwhile finds the word as it was or as it is to be.
    pub(crate) fn write(
        &self,
        ram: &GuestRam,
        address: GuestPhysAddr,
        copy: HostPhysAddr,
        mut is_site: impl FnMut(GuestPhysAddr) -> bool,
    ) {
        let (Some(mut value), Some(word)) = (ram.read_word(address), self.word(copy, address)) else {
            return;
        };
        for at in (0..8).step_by(2).map(|n| address.wrapping_add(n)) {
            if is_site(at) {
                value = with_parcel(value, at, BREAKPOINT);
            }
        }
        word.store(value, Ordering::Relaxed);
    }

    /// The parcel of a copy at the page offset of `address`.
    pub(crate) fn parcel(&self, copy: HostPhysAddr, address: GuestPhysAddr) -> Option<u16> {
        Some(parcel(self.word(copy, address)?.load(Ordering::Relaxed), address))
    }

    pub(crate) fn set_parcel(&self, copy: HostPhysAddr, site: GuestPhysAddr, parcel: u16) {
        if let Some(word) = self.word(copy, site) {
            word.store(with_parcel(word.load(Ordering::Relaxed), site, parcel), Ordering::Relaxed);
        }
    }

    /// The word of `copy` in which the byte at the page offset of `address` lies.
    fn word(&self, copy: HostPhysAddr, address: GuestPhysAddr) -> Option<&AtomicU64> {
        let copy = self.words.chunks_exact(WORDS).nth(self.number(copy)?)?;
        copy.get((address.0 % PAGE_SIZE / 8) as usize)
    }
}

/// The word that has `parcel` at the place of an address.
const fn with_parcel(word: u64, at: GuestPhysAddr, parcel: u16) -> u64 {
    let shift = 8 * (at.0 & 6);
    word & !(0xffff << shift) | (parcel as u64) << shift
}
