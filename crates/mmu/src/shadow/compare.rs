//! Compares what a fence has marked with the guest's tables: each entry with what it was made of, before a context is
//! used again. What the guest has not changed stays. Guests that fence everything at each entry of their kernel would
//! else fault on each page again.

use core::sync::atomic::{AtomicU64, Ordering};

use isa::paging::{Pte, Satp};
use memory::{GuestPhysAddr, GuestRam};

use super::mapping::is_code;
use super::{ShadowMmu, TlbFlush};
use crate::pool::{Source, TableId};

impl ShadowMmu {
    /// Compares a marked context, and the shared half, with the guest's tables.
    #[cold]
    pub(super) fn freshen(&mut self, ram: &GuestRam, number: usize) {
        let Some(context) = self.context_mut(number) else { return };
        let (satp, root, shares) = (context.key.satp, context.root, context.shares);
        if core::mem::take(&mut context.stale) {
            let tables = context.tables.first();
            let is_settled = self.compare(ram, satp, root, tables);
            self.set_restless(number, false, !is_settled);
            self.trust.judge_found(number, false);
        }
        if shares
            && let Some(shared) = &mut self.shared
            && core::mem::take(&mut shared.stale)
        {
            self.compare_shared(ram, satp);
            self.trust.judge_found(number, true);
        }
        self.begin_watches(ram);
    }

    /// Compares the shared half with the guest's tables as they are in the space of `satp`.
    #[cold]
    pub(super) fn compare_shared(&mut self, ram: &GuestRam, satp: Satp) {
        let Some(shared) = &self.shared else { return };
        let (root, tables) = (shared.root, shared.tables.first());
        let is_settled = self.compare(ram, satp, root, tables);
        self.restless_shared = !is_settled;
    }

    /// Drops what the guest's tables, seen from the root of `satp`, no longer say as they did, in a root and in the list of
    /// tables below it. Says whether all those of the guest's tables are watched.
    fn compare(&mut self, ram: &GuestRam, satp: Satp, root: TableId, tables: Option<TableId>) -> bool {
        let mut all_watched = true;
        let mut next = Some(root);
        while let Some(table) = next {
            next = if table == root { tables } else { self.pool.next(table) };
            let follows = self.pool.source(table);
            let source = match follows {
                // It follows none of the guest's, or was just detached.
                Source::None => continue,
                Source::Table(address) => address,
                Source::AnyRoot => GuestPhysAddr(satp.ppn << 12),
            };
            // Where there is no RAM, there is nothing.
            let guest = ram.table(source).unwrap_or(&NOTHING);
            let is_quiet = match self.pool.level(table) {
                0 => self.compare_leaves(guest, table),
                _ => self.compare_pointers(guest, table),
            };
            let is_watched = self.is_watched(ram, source, is_quiet);
            if follows == Source::AnyRoot {
                self.note_root(satp, is_quiet, is_watched);
            }
            all_watched &= is_watched;
        }
        all_watched
    }

    /// For a table that may have pointers. Says whether nothing has changed.
    #[inline]
    fn compare_pointers(&mut self, guest: &[AtomicU64; 512], table: TableId) -> bool {
        let (mut is_quiet, mut first) = (true, 0);
        while let Some(slot) = self.pool.next_used(table, first) {
            first = slot + 1;
            let now = guest.get(slot).map_or(0, |now| now.load(Ordering::Relaxed));
            let seen = self.pool.seen(table, slot);
            if !still_holds(seen, now) {
                is_quiet = false;
                self.trust.note_found(seen, now);
                let entry = self.pool.entry(table, slot);
                match self.pool.below(entry) {
                    Some(next) => {
                        self.detach(next);
                        // Nothing is below any more, which is right for any entry.
                        self.pool.set_seen(table, slot, now);
                    }
                    None => {
                        self.dropped_code.all |= is_code(entry);
                        self.pool.drop_entry(table, slot);
                        // The hardware may have cached it after the fence, under another root that leads here.
                        self.flush = TlbFlush::All;
                    }
                }
            }
        }
        is_quiet
    }

    /// For a last table, where most entries are. Says whether nothing has changed.
    fn compare_leaves(&mut self, guest: &[AtomicU64; 512], table: TableId) -> bool {
        let mut is_quiet = true;
        let Self { pool, dropped_code, flush, trust, .. } = self;
        pool.retain(table, |slot, entry, seen| {
            let now = guest.get(slot).map_or(0, |now| now.load(Ordering::Relaxed));
            let holds = still_holds(seen, now);
            if !holds {
                is_quiet = false;
                trust.note_found(seen, now);
                dropped_code.all |= is_code(entry);
                // As in `compare_pointers`.
                *flush = TlbFlush::All;
            }
            holds
        });
        is_quiet
    }
}

/// A table in which nothing is valid.
static NOTHING: [AtomicU64; 512] = [const { AtomicU64::new(0) }; 512];

/// Whether what was made of the guest's entry `seen` is right for the entry `now`. A leaf may have got D: then there is a
/// store to tell the shadow of, as before.
pub(super) const fn still_holds(seen: u64, now: u64) -> bool {
    now == seen || Pte(seen).is_leaf() && now == seen | Pte::D
}
