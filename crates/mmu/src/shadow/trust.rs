//! Which kernels are trusted to fence what they change. QEMU's hart forgets all translations at each SFENCE.VMA, whatever
//! its operands, and at each change of satp, sstatus.SUM and sstatus.MXR. A kernel that fences less, or something else, works
//! there, so it has to work here.
//!
//! Until a kernel has shown what it does, each of these is a fence of everything, and what `compare` then finds is counted:
//! - a fence that names what has changed is *needed*; a change that no fence has named is *missed*;
//! - after enough fences that were needed, with none missed among them, its fences mean what they say, and changes of
//!   SUM and MXR mean nothing;
//! - after enough writes of satp with an ASID, with none missed in a space of its own, those mean nothing either.
//!
//! What a kernel is trusted with stays so. A kernel without ASIDs is never trusted to fence where it writes satp. Nothing is
//! missed by an entry that allows more than before: no hart need see that at once.
//!
//! Where all is settled (see `watch`), a fence has nothing to do, whoever asks for it. So there the assembly switches as for
//! kernels that are trusted, and only where tables have changed lately a kernel that is not pays for it.

use isa::paging::{self, Pte, Satp};
use memory::{GuestPhysAddr, GuestRam, GuestVirtAddr};

use super::roots::{bit, members};
use super::{LostRoots, ShadowMmu};
use crate::pool::{Source, TableId};

/// How often a kernel has to do well.
pub(super) const ENOUGH: u8 = 16;
/// How often it has to switch.
pub(super) const ENOUGH_SWITCHES: u8 = 8;

/// What is known of a kernel.
#[derive(Debug, Default)]
pub(super) struct Trust {
    /// Fences that were needed since one was missed; stays at `ENOUGH`.
    needed: u8,
    /// Writes of satp with an ASID since a fence was missed in a space of its own; stays at `ENOUGH_SWITCHES`.
    switches: u8,
    /// The contexts that are stale though no fence has named them, a bit each.
    unnamed: u64,
    /// Whether the shared half is.
    unnamed_shared: bool,
    /// Whether fences mean what they say, and writes of satp are none.
    entire: bool,
    /// Whether comparing has found something that allows less than before.
    found_less: bool,
}

impl Trust {
    /// Whether fences mean what they say.
    #[inline]
    pub(super) const fn fences(&self) -> bool {
        self.needed >= ENOUGH
    }

    /// Notes which contexts become stale, a bit each, and whether the shared half does, though no fence has named them.
    pub(super) fn note_unnamed(&mut self, marked: u64, shared: bool) {
        self.unnamed |= marked;
        self.unnamed_shared |= shared;
    }

    /// Notes which contexts a fence has named, and whether the shared half is named.
    pub(super) fn note_named(&mut self, named: u64, shared: bool) {
        self.unnamed &= !named;
        self.unnamed_shared &= !shared;
    }

    /// Notes an entry that was found changed.
    pub(super) const fn note_found(&mut self, seen: u64, now: u64) {
        self.found_less |= is_less(seen, now);
    }

    /// What was found is no change, but how one space differs from another.
    pub(super) const fn disregard_found(&mut self) {
        self.found_less = false;
    }

    /// Judges what was found in something that was stale: a context's own tables, or the shared half.
    pub(super) fn judge_found(&mut self, number: usize, shares: bool) {
        if !core::mem::take(&mut self.found_less) {
            return;
        }
        let is_missed = if shares { self.unnamed_shared } else { self.unnamed & bit(number) != 0 };
        if !is_missed {
            self.note_needed();
            return;
        }
        if !self.fences() {
            self.needed = 0;
        }
        // What all spaces have is often unmapped long before it is fenced.
        if !shares {
            self.switches = 0;
        }
    }

    fn note_needed(&mut self) {
        self.needed = self.needed.saturating_add(1).min(ENOUGH);
    }
}

impl ShadowMmu {
    /// Whether the kernel is trusted to fence where it writes satp, and so in all else.
    #[inline]
    pub const fn trusts_switches(&self) -> bool {
        self.trust.entire
    }

    /// Whether the kernel's fences mean what they say, and its changes of SUM and MXR nothing.
    #[inline]
    pub const fn trusts_fences(&self) -> bool {
        self.trust.fences()
    }

    /// Follows a write of satp that has changed it.
    pub fn satp_changed(&mut self, ram: &GuestRam, satp: Satp) {
        // What the last write has missed is known by now.
        self.trust.entire |= self.trust.fences() && self.trust.switches >= ENOUGH_SWITCHES;
        if self.trust.entire {
            return;
        }
        if satp.asid != 0 {
            self.trust.switches = self.trust.switches.saturating_add(1).min(ENOUGH_SWITCHES);
        }
        self.fence_unnamed(ram);
    }

    /// Follows a change of sstatus.SUM or MXR.
    pub fn rights_changed(&mut self, ram: &GuestRam) {
        if !self.trust.fences() {
            self.fence_unnamed(ram);
        }
    }

    /// A fence of everything that the kernel has not asked for. The TLB holds nothing that the shadow does not.
    fn fence_unnamed(&mut self, ram: &GuestRam) {
        self.follow_unwatched(ram);
        self.fences = self.fences.wrapping_add(1);
        self.mark_unnamed();
    }

    /// Marks all contexts, for a kernel that may have changed what it has not named in a fence.
    pub(super) fn mark_unnamed(&mut self) {
        self.trust.note_unnamed(self.restless, self.restless_shared);
        if self.mark(self.restless, self.restless_shared) {
            self.lost_roots = LostRoots::All;
        }
    }

    /// Before a fence of a kernel that is not trusted yet: looks whether it is needed, and makes one of everything of it. For
    /// one that names no address, comparing tells.
    #[cold]
    pub(super) fn judge(&mut self, ram: &GuestRam, address: Option<GuestVirtAddr>, asid: Option<u16>) {
        if address.is_some_and(|address| !self.is_in_window(address) && self.is_needed(ram, address, asid)) {
            self.trust.note_needed();
        }
        if address.is_some() || asid.is_some() {
            self.mark_unnamed();
        }
    }

    /// Whether the guest has changed what a fence of an address names.
    fn is_needed(&self, ram: &GuestRam, address: GuestVirtAddr, asid: Option<u16>) -> bool {
        let live = self.live & asid.map_or(u64::MAX, |asid| self.with_asid(asid));
        let own = members(live).filter_map(|number| self.context(number));
        let roots = own.map(|context| (context.root, context.key.satp));
        let shared = self.current_context().filter(|(_, context)| context.shares && asid.is_none());
        let shared = self.shared_root().zip(shared.map(|(_, context)| context.key.satp));
        roots.chain(shared).any(|(root, satp)| self.has_changed(ram, root, satp, address))
    }

    /// Whether the guest has changed what is cached of an address.
    fn has_changed(&self, ram: &GuestRam, root: TableId, satp: Satp, address: GuestVirtAddr) -> bool {
        let mut table = root;
        for level in (0..=self.top()).rev() {
            let slot = paging::index(address.0, level);
            let entry = self.pool.entry(table, slot);
            let source = match self.pool.source(table) {
                Source::None => None,
                Source::Table(address) => Some(address),
                Source::AnyRoot => Some(GuestPhysAddr(satp.ppn << 12)),
            };
            let place = source.map(|source| source.wrapping_add(slot as u64 * 8));
            if entry.0 != 0
                && let Some(place) = place
                && is_less(self.pool.seen(table, slot), ram.read_word(place).unwrap_or(0))
            {
                return true;
            }
            let Some(next) = self.pool.below(entry) else { return false };
            table = next;
        }
        false
    }
}

/// Whether the guest's entry `now` allows less than `seen` did, or something else.
pub(super) const fn is_less(seen: u64, now: u64) -> bool {
    const PERMISSIONS: u64 = Pte::R | Pte::W | Pte::X | Pte::A | Pte::D;
    if Pte(seen).is_leaf() { (now ^ seen) & !PERMISSIONS != 0 || now & seen != seen } else { now != seen }
}

#[cfg(test)]
impl ShadowMmu {
    /// As if the kernel had shown that it fences what it changes.
    pub(crate) fn trust_kernel(&mut self) {
        self.trust = Trust { needed: ENOUGH, switches: ENOUGH_SWITCHES, entire: true, ..Trust::default() };
    }

    /// As if the kernel had shown nothing.
    pub(crate) fn distrust_kernel(&mut self) {
        (self.trust.needed, self.trust.switches, self.trust.entire) = (0, 0, false);
    }
}
