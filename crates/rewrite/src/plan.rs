//! What happens to a page: decides, for each trap, load and store that concerns its code, whether it gets a copy, keeps it or
//! loses it, and says what the shadows have to do for it. Whoever maps pages carries that out, and tells when it is done.

use core::ops::ControlFlow;

use memory::{GuestPhysAddr, GuestRam, HostPhysAddr, PAGE_SIZE};

use crate::CodePages;
use crate::copies::{self, BREAKPOINT, Cover};
use crate::heat::balance::{Scale, Weighing};
use crate::rounds::Round;
use crate::scan;
use crate::site::{is_torn, site_bits};

/// What has to be done because a page is mapped otherwise from now on. Where a round has begun with it, `CodePages::acknowledge`
/// is to be told once the own vCPU has done it.
#[must_use]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Change {
    /// Nothing is different.
    None,
    /// The page is fetched from a copy from now on: every leaf that allows stores to it must go, and the one by which it is
    /// executed.
    Remap(Option<Round>),
    /// Stores to the page are to be noticed from now on: every leaf that allows them must go.
    ///
    /// With a round, the page gets a copy once that is over, and all vCPUs have to do so; without, a store that one of them
    /// makes unnoticed does little harm.
    Guard(Option<Round>),
    /// The sites in the page are not what the assembly remembers.
    ForgetSites,
    /// Every leaf that maps this page of host memory must go, and the sites in the page.
    Drop(HostPhysAddr, Round),
    /// Every leaf that maps a copy must go, and all sites.
    DropAll(Round),
}

/// What a breakpoint stands for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Replaced {
    /// The instruction. Of one that is torn by the page's end, its first half: the second is wherever the guest has mapped it.
    pub bits: u32,
    /// Whether it is torn.
    pub is_torn: bool,
    /// Whether the assembly may remember it: its executions need not be counted.
    pub may_be_remembered: bool,
    /// What follows of its being executed.
    pub change: Change,
}

/// An instruction of four bytes that the hardware has refused.
#[derive(Clone, Copy, Debug)]
pub struct Trapped {
    /// Where it lies.
    pub site: GuestPhysAddr,
    /// Its bits.
    pub bits: u32,
    /// Whether it trapped in user mode.
    pub is_user: bool,
}

impl CodePages {
    /// Counts a trap, on `vcpu`, and replaces the instruction where that is due: at once, if the firmware complains of it. In
    /// user mode only for that, and only while half of the room for copies is left for the kernel. Where `is_overlapped` says
    /// that another instruction could have its second half there, it stays as it is, but if the firmware complains of it: it
    /// would print each time.
    pub fn trapped(
        &mut self,
        ram: &GuestRam,
        vcpu: usize,
        Trapped { site, bits, is_user }: Trapped,
        is_overlapped: impl FnOnce() -> bool,
    ) -> Change {
        let is_reported = ram.overlay().wants_scan() && is_reported(bits);
        // Asked last: it takes up to three walks of the guest's tables, and most traps are only counted.
        let stays = || !is_reported && is_overlapped();
        if let Some(copy) = ram.overlay().copy_of(site) {
            // Where it was replaced before, what trapped was the original, still mapped in this address space.
            if self.bits_at(ram, site, copy).is_some() {
                return Change::Remap(None);
            }
            if stays() {
                return Change::None;
            }
            self.replace(ram, copy, site);
            return Change::None;
        }
        let page = site.align_down(PAGE_SIZE);
        let may_copy = match is_user {
            true => is_reported && 2 * self.copies.free() > self.copies.len(),
            false => self.heat.of(page).is_some_and(|heat| heat.trap()) || is_reported,
        };
        if !may_copy || stays() {
            return Change::None;
        }
        let (copy, round) = match self.cover(ram, vcpu, page) {
            Ok(copied) => copied,
            Err(change) => return change,
        };
        if self.heat.of(page).is_some_and(|heat| heat.rests())
            && let Some(copy) = self.copies.of_mut(copy)
        {
            copy.scale = Scale::WEIGHED;
        }
        if is_reported {
            self.keep(copy, if scan::is_loud(bits) { copies::ALWAYS } else { copies::PATIENCE });
        }
        self.replace(ram, copy, site);
        Change::Remap(round)
    }

    /// Looks at the page of `address` before code in it is executed, on `vcpu`, for the first time, or for the first time after a
    /// store, and replaces the instructions of the kinds that some firmware complains of. It may be executed then.
    ///
    /// Nothing has trapped there, so what looks like an instruction may be data, or lie across two others. Only what is
    /// met whether one reads the page's instructions from its first parcel on or from its second is taken for one, or what is
    /// met from `address` on up to the first jump, if `is_entry` says that an instruction begins there. Where the page begins
    /// with what may be one, `before`, the page in front of it, says whether an instruction begins there.
    pub fn scan(
        &mut self,
        ram: &GuestRam,
        vcpu: usize,
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
            return Change::Guard(None);
        }
        if let Some(heat) = self.heat.of(page) {
            heat.found();
        }
        // Where there can be none yet, the first of them that traps asks for it.
        let (copy, round) = match self.cover(ram, vcpu, page) {
            Ok(copied) => copied,
            Err(Change::None) => return Change::Guard(None),
            Err(change) => return change,
        };
        self.keep(copy, copies::ALWAYS);
        for offset in sites {
            self.replace(ram, copy, page.wrapping_add(offset));
        }
        Change::Remap(round)
    }

    /// Gives a page a copy, if it can have one now, or says what has to be done first.
    fn cover(
        &mut self,
        ram: &GuestRam,
        vcpu: usize,
        page: GuestPhysAddr,
    ) -> Result<(HostPhysAddr, Option<Round>), Change> {
        match self.copies.cover(ram, page, &self.rounds, vcpu) {
            Cover::Copied(copy, round) => {
                self.counts.copies = self.counts.copies.wrapping_add(1);
                Ok((copy, round))
            }
            Cover::Closing(round) => Err(Change::Guard(Some(round))),
            Cover::None => Err(Change::None),
        }
    }

    /// What the breakpoint at `site`, which is executed and which the assembly does not know, stands for; `None` where it is the
    /// guest's own.
    pub fn breakpoint(&mut self, ram: &GuestRam, site: GuestPhysAddr) -> Option<Replaced> {
        let bits = self.replaced(ram, site)?;
        let weighed = self.weigh(ram, site, Scale::site);
        // What a torn one's second half is, the assembly could not know.
        let is_torn = is_torn(site);
        let (is_counted, change) = match weighed {
            ControlFlow::Continue(weighing) => (weighing == Weighing::Counted, Change::None),
            ControlFlow::Break(change) => (true, change),
        };
        Some(Replaced { bits, is_torn, may_be_remembered: !is_counted && !is_torn, change })
    }

    /// Counts a load from a copied page, which was carried out by hand.
    pub fn loaded(&mut self, ram: &GuestRam, address: GuestPhysAddr) -> Change {
        match self.weigh(ram, address, Scale::load) {
            ControlFlow::Continue(Weighing::Begins) => Change::ForgetSites,
            ControlFlow::Continue(_) => Change::None,
            ControlFlow::Break(change) => change,
        }
    }

    /// Counts something on the scale of the page of `address`, if it has a copy and may do without; ends the copy where it loses.
    fn weigh(
        &mut self,
        ram: &GuestRam,
        address: GuestPhysAddr,
        count: impl FnOnce(&mut Scale) -> Weighing,
    ) -> ControlFlow<Change, Weighing> {
        let copy = ram.overlay().copy_of(address).and_then(|copy| self.copies.of_mut(copy));
        let Some(copy) = copy.filter(|copy| copy.kept == 0) else {
            return ControlFlow::Continue(Weighing::No);
        };
        let weighing = count(&mut copy.scale);
        if let Weighing::CopyWins | Weighing::CopyLoses = weighing
            && let Some(heat) = self.heat.of(address)
        {
            heat.weighed(weighing == Weighing::CopyWins);
        }
        if weighing == Weighing::CopyLoses {
            return ControlFlow::Break(self.uncover(ram, address));
        }
        ControlFlow::Continue(weighing)
    }

    /// Whether a store to the page of `address` is carried out by hand; `is_own` says whether the storing instruction lies in
    /// that page.
    pub fn carries_out(&self, ram: &GuestRam, address: GuestPhysAddr, is_own: impl FnOnce() -> bool) -> bool {
        match ram.overlay().copy_of(address) {
            Some(copy) => self.copies.of(copy).is_some_and(|copy| copy.kept > 0),
            None => ram.overlay().is_scanned(address) && is_own(),
        }
    }

    /// Lets the page of `address` be stored to by the hardware: ends its copy, and lets it be scanned again before it is
    /// executed. `is_own` says whether the storing instruction lies in that page.
    pub fn make_way(
        &mut self,
        ram: &GuestRam,
        address: GuestPhysAddr,
        is_own: impl FnOnce() -> bool,
    ) -> Change {
        let page = address.align_down(PAGE_SIZE);
        let change = match ram.overlay().rule(page).copy {
            Some(_) => {
                if let Some(heat) = self.heat.of(page) {
                    heat.cool();
                }
                self.uncover(ram, page)
            }
            None => {
                self.copies.give_up(ram, page, &self.rounds);
                self.reopen(ram, page)
            }
        };
        // To be tried again, the store must be fetched. Where it lies in the page that it writes, scanning the page first would
        // guard it or make the next copy, which the store would end, and so on for ever.
        if ram.overlay().wants_scan() && is_own() {
            ram.exempt_from_scan(page);
        }
        change
    }

    /// Lets a page that has no copy be stored to, and scanned again before it is executed, if it was scanned.
    pub(crate) fn reopen(&mut self, ram: &GuestRam, page: GuestPhysAddr) -> Change {
        if !ram.overlay().is_scanned(page) {
            return Change::None;
        }
        if self.may_be_scanned_again(page) {
            ram.forget_scanned(page);
            return ram
                .host_address(page)
                .map_or(Change::None, |host| Change::Drop(host, self.rounds.begin()));
        }
        ram.exempt_from_scan(page);
        Change::None
    }

    /// Counts a store to a page; says whether it may be scanned again after it.
    pub(crate) fn may_be_scanned_again(&mut self, page: GuestPhysAddr) -> bool {
        self.heat.of(page).is_some_and(|heat| heat.store())
    }

    /// Ends all copies: the hypervisor itself, or a device, has written to a page with one.
    pub fn end_all(&mut self, ram: &GuestRam) -> Change {
        let (ended, round) = self.copies.end_all(ram, &self.rounds);
        self.counts.ended = self.counts.ended.wrapping_add(ended);
        Change::DropAll(round)
    }

    /// Takes a page's copy away, and begins to count its traps.
    pub(crate) fn uncover(&mut self, ram: &GuestRam, address: GuestPhysAddr) -> Change {
        let page = address.align_down(PAGE_SIZE);
        let Some((copy, round)) = self.copies.end(ram, page, &self.rounds) else { return Change::None };
        self.counts.ended = self.counts.ended.wrapping_add(1);
        if let Some(heat) = self.heat.of(page) {
            heat.begin();
        }
        Change::Drop(copy, round)
    }

    /// Notes that `vcpu` has done what a change of this round asks for; says whether it has done so for all rounds before, too:
    /// where not, it has to drop everything that it has.
    pub fn acknowledge(&mut self, ram: &GuestRam, vcpu: usize, round: Round) -> bool {
        let is_all = self.rounds.answer_one(vcpu, round);
        self.copies.reclaim(ram, &self.rounds);
        is_all
    }

    /// The instruction that the breakpoint at `site` stands for; `None` where it is the guest's own breakpoint. Of one that is
    /// torn by the page's end, its first half: the second is wherever the guest has mapped it.
    pub(crate) fn replaced(&self, ram: &GuestRam, site: GuestPhysAddr) -> Option<u32> {
        self.bits_at(ram, site, ram.overlay().copy_of(site)?)
    }

    /// As `replaced`, in a page that has this copy.
    pub(crate) fn bits_at(&self, ram: &GuestRam, site: GuestPhysAddr, copy: HostPhysAddr) -> Option<u32> {
        if self.copies.parcel(copy, site)? != BREAKPOINT {
            return None;
        }
        site_bits(ram, site).filter(|bits| can_be_replaced(*bits))
    }

    fn replace(&mut self, ram: &GuestRam, copy: HostPhysAddr, site: GuestPhysAddr) {
        self.copies.set_parcel(copy, site, BREAKPOINT);
        self.counts.sites = self.counts.sites.wrapping_add(1);
        ram.note_code_write();
    }

    /// Lets the instruction at `site` be executed as it is, if the page has a copy.
    pub fn restore(&self, ram: &GuestRam, site: GuestPhysAddr) {
        if let (Some(copy), Some(bits)) = (ram.overlay().copy_of(site), site_bits(ram, site)) {
            self.copies.set_parcel(copy, site, bits as u16);
            ram.note_code_write();
        }
    }

    pub(crate) fn keep(&mut self, copy: HostPhysAddr, stores: u8) {
        if let Some(copy) = self.copies.of_mut(copy) {
            copy.kept = stores;
        }
    }
}

/// Whether a breakpoint can stand for an instruction with these bits.
const fn can_be_replaced(bits: u32) -> bool {
    bits as u16 != BREAKPOINT && isa::instr::length(bits as u16) == 4
}

/// Whether firmware that complains of some instructions does so of `bits`, which has trapped as an illegal instruction: it has
/// the opcode of CSR accesses, and is none: funct3 is 0, or 4, as of the hypervisor extension's loads and stores.
pub const fn is_reported(bits: u32) -> bool {
    bits & 0x307f == 0x73
}
