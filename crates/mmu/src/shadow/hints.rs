//! Hints: the last tables of ranges of 2 MiB in which faults are likely to come again. They are made when a page is
//! filled, the assembly fills in others by them (`crates/hart`), and so does this file, without walking. The table of hints
//! is `vhart`'s.

use core::sync::atomic::Ordering;

use isa::paging::{self, Pte, Satp};
use memory::{BLOCK_SIZE, GuestPhysAddr, GuestRam, GuestVirtAddr, PAGE_SIZE};
use vhart::{FillHint, Pointer, Ready};

use super::fill::{Spot, Walked};
use super::mapping::{can_be_shared, is_proper, mapping};
use super::{ShadowMmu, TlbFlush, Verdict};
use crate::context::{ContextKey, View};
use crate::pool::{Source, TablePool};
use crate::walk::{Access, Translation, last_table, needed};

impl ShadowMmu {
    /// The verdict on an access in the current context, the one for `key`, where the neighbourhood of `address` is known.
    #[inline]
    pub(super) fn resolve_by_hint(
        &mut self,
        ram: &GuestRam,
        key: ContextKey,
        address: GuestVirtAddr,
        access: Access,
    ) -> Option<Verdict> {
        let (number, context) = self.current_context()?;
        let shares = context.shares && (address.0 as i64) < 0;
        let hint = self.hints.find(address.0 / BLOCK_SIZE, self.hint_root(number, shares))?;
        if !leads_there(ram, key.satp, address, hint) {
            return None;
        }
        let (table, guest_table) = (TablePool::numbered(hint.table), GuestPhysAddr(hint.guest_table));
        let is_global = hint.global;
        let slot = paging::index(address.0, 0);
        let place = guest_table.wrapping_add(slot as u64 * 8);
        let entry = Pte(ram.read_word(place)?);
        let rights = key.view.rights();
        if !is_proper(entry) || !rights.allow(entry, access) {
            return Some(Verdict::Fault(access.page_fault()));
        }
        let leaf = Pte(entry.0 | needed(access));
        if leaf != entry && ram.compare_exchange(place, entry.0, leaf.0) != Some(true) {
            return None;
        }
        let found = GuestPhysAddr(leaf.address() | (address.0 % PAGE_SIZE));
        let translation =
            Translation { address: found, leaf, level: 0, global: is_global || leaf.has(Pte::G) };
        if shares && !can_be_shared(translation) {
            return None;
        }
        let mapping = mapping(ram, ram.host_address(found)?, access, translation, key.view)?;
        self.set_leaf(table, slot, 0, address, &mapping, leaf.0);
        let source = Source::Table(guest_table);
        // Where a program stores for the first time, what lies beside has seldom been used before.
        if access != Access::Store {
            let spot = Spot { table, address, view: key.view, shares };
            self.fill_around(ram, spot, source, translation);
        }
        Some(Verdict::Filled)
    }

    /// Carries out SFENCE.VMA for an address in the shared half in all address spaces, and fills in at once what the guest's
    /// table now says: kernels fence what they are about to use. Says whether it could: only where the neighbourhood is
    /// known, and the kernel is trusted.
    pub fn fence_shared(&mut self, ram: &GuestRam, address: GuestVirtAddr) -> bool {
        if !self.trust.fences() {
            return false;
        }
        self.fences = self.fences.wrapping_add(1);
        self.try_fence_shared(ram, address).is_some()
    }

    #[inline]
    fn try_fence_shared(&mut self, ram: &GuestRam, address: GuestVirtAddr) -> Option<()> {
        let shared = self.shared.as_ref()?;
        if self.own_uppers != 0 || shared.stale || (address.0 as i64) >= 0 {
            return None;
        }
        let hint = self.hints.find(address.0 / BLOCK_SIZE, 0)?;
        let satp = self.current_context().filter(|(_, context)| context.shares)?.1.key.satp;
        if !leads_there(ram, satp, address, hint) {
            return None;
        }
        let (table, guest_table) = (TablePool::numbered(hint.table), GuestPhysAddr(hint.guest_table));
        let is_global = hint.global;
        let slot = paging::index(address.0, 0);
        self.note_code(self.pool.entry(table, slot), address);
        self.pool.drop_entry(table, slot);
        self.flush = self.flush.and(TlbFlush::Address(address));
        let entry = Pte(ram.read_word(guest_table.wrapping_add(slot as u64 * 8))?);
        let global = is_global || entry.has(Pte::G);
        let found = Translation { address: GuestPhysAddr(entry.address()), leaf: entry, level: 0, global };
        let view = View::Supervisor { sum: false, mxr: false };
        if is_proper(entry)
            && entry.has(Pte::A | Pte::R)
            && can_be_shared(found)
            && let Some(host) = ram.present_address(found.address)
            && let Some(mapping) = mapping(ram, host, Access::Load, found, view)
        {
            self.set_leaf(table, slot, 0, address, &mapping, entry.0);
        }
        Some(())
    }

    /// Remembers the last tables of the range of `address`.
    pub(super) fn hint(
        &mut self,
        ram: &GuestRam,
        number: usize,
        spot: Spot,
        guest_table: GuestPhysAddr,
        walked: &Walked,
    ) {
        let Spot { table, address, view, shares } = spot;
        let Some(translation) = walked.translation else { return };
        let (Some(context), Some(guest)) = (self.context(number), ram.table(guest_table)) else { return };
        // The assembly takes user pages in user mode and with SUM, where the kernel may not execute them.
        let (user, execute) = match view {
            View::User { mxr: false } => (true, true),
            View::Supervisor { sum: true, mxr: false } if !shares => (true, false),
            View::Supervisor { mxr: false, .. } => (false, !ram.overlay().wants_scan()),
            _ => return,
        };
        let global = translation.global && !translation.leaf.has(Pte::G);
        let top = context.key.satp.mode.levels().saturating_sub(1);
        let mut pointers = [Pointer::NONE; 2];
        for level in 1..top {
            let (table, entry) = walked.at(level);
            let at = ram.table(table).and_then(|table| table.get(paging::index(address.0, level)));
            let (Some(at), Some(place)) = (at, pointers.get_mut(level.wrapping_sub(1))) else { return };
            *place = Pointer { at: Some(at), seen: entry.0 };
        }
        let hint = FillHint {
            range: address.0 / BLOCK_SIZE,
            root: self.hint_root(number, shares),
            table: TablePool::number(table),
            ready: Ready { user, global: shares && !global, execute },
            global,
            guest_table: guest_table.0,
            root_entry: walked.at(top).1.0,
            pointers,
        };
        let place = self.hints.insert(self.pool.fill_by_assembly(table), guest, hint);
        if let Some(context) = self.context_mut(number) {
            context.hinted |= place;
        }
    }

    /// By what root hints of a context, or of the shared half, are found.
    pub(super) fn hint_root(&self, number: usize, shares: bool) -> u64 {
        match self.context(number) {
            Some(_) if !shares => self.hint_root_of(number),
            _ => 0,
        }
    }

    /// The same for the context with this number.
    #[inline]
    pub(super) fn hint_root_of(&self, number: usize) -> u64 {
        self.satp_of(number).bits()
    }

    /// Forgets the hints whose ranges were fenced and which the guest's pointers no longer lead to. To be called before the
    /// guest runs, where `has_doubts` says so.
    #[cold]
    pub fn clear_doubts(&mut self, ram: &GuestRam) {
        for (number, address) in core::mem::take(&mut self.doubted) {
            let (number, range) = (usize::from(number), address.0 / BLOCK_SIZE);
            let root = self.hint_root(number, false);
            let Some(satp) = self.context(number).map(|context| context.key.satp) else { continue };
            let Some(hint) = self.hints.find(range, root) else { continue };
            let (guest_table, is_global) = (GuestPhysAddr(hint.guest_table), hint.global);
            if !last_table(ram, satp, address)
                .is_some_and(|(table, global)| table == guest_table && (global || !is_global))
            {
                self.hints.remove(range, root);
            }
        }
    }

    /// Whether there are hints in doubt.
    #[inline]
    pub fn has_doubts(&self) -> bool {
        !self.doubted.is_empty()
    }
}

/// Whether the guest's pointers still lead to what a hint says: they may have changed without a fence, and in the shared
/// half those of another space may be others. The assembly does not ask.
#[inline]
fn leads_there(ram: &GuestRam, satp: Satp, address: GuestVirtAddr, hint: &FillHint) -> bool {
    let root = ram.table(GuestPhysAddr(satp.ppn << 12));
    let first =
        root.and_then(|root| root.get(paging::index(address.0, satp.mode.levels().saturating_sub(1))));
    if first.is_some_and(|first| first.load(Ordering::Relaxed) == hint.root_entry)
        && hint.pointers.iter().all(Pointer::stands)
    {
        return true;
    }
    last_table(ram, satp, address)
        .is_some_and(|(table, global)| table.0 == hint.guest_table && (global || !hint.global))
}
