//! Compares the loose tables of what a fence has marked with the guest's: each entry with what it was made of, before a
//! context is used again. What the guest has not changed stays. Guests that fence everything at each entry of their kernel would
//! else fault on each page again.

use core::sync::atomic::{AtomicU64, Ordering};

use isa::paging::{Pte, Satp};
use memory::{GuestPhysAddr, GuestRam};

use super::mapping::is_code;
use super::roots::KERNEL;
use super::{ShadowMmu, TlbFlush};
use crate::pool::{Source, TableId};

/// Entries of one context, or of the shared half, that are compared at once, and tables of them. What has more is forgotten:
/// filling is paid for page by page, in the guest's own time. An exit compares three of them at most, which takes less than
/// a slice.
const MOST: u32 = if cfg!(test) { 96 } else { 1 << 16 };

impl ShadowMmu {
    /// Compares what is loose in a marked context, and in the shared half, with the guest's tables.
    #[cold]
    pub(super) fn freshen(&mut self, ram: &GuestRam, number: usize) {
        let Some(context) = self.context_mut(number) else { return };
        let (satp, shares) = (context.key.satp, context.shares);
        if core::mem::take(&mut context.stale) {
            self.compare(ram, satp, number, false);
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
        if !self.knows_root(satp)
            && let Some(table) = self.shared.as_ref().and_then(|shared| shared.any_root)
        {
            self.loosen(KERNEL, true, table);
        }
        self.compare(ram, satp, KERNEL, true);
    }

    /// Drops what the guest's tables, seen from the root of `satp`, no longer say as they did, in the loose tables of a context
    /// or of the shared half. Those whose guest tables are watched are loose no longer.
    fn compare(&mut self, ram: &GuestRam, satp: Satp, number: usize, shares: bool) {
        let mut list = self.take_loose(number, shares);
        let (mut rest, mut left) = (None, MOST);
        while let Some(table) = self.pool.pop_loose(&mut list) {
            if left == 0 {
                return self.forget_half(number, shares);
            }
            let follows = self.pool.source(table);
            let source = match follows {
                // It follows none of the guest's, or was just detached.
                Source::None => continue,
                Source::Table(address) => address,
                Source::AnyRoot => GuestPhysAddr(satp.ppn << 12),
            };
            // A watch that begins now protects the table from the next time on.
            let was_watched = ram.overlay().is_watched(source) && !self.new_watches.contains(&source);
            // Where there is no RAM, there is nothing.
            let guest = ram.table(source).unwrap_or(&NOTHING);
            let (is_quiet, compared) = match self.pool.level(table) {
                0 => self.compare_leaves(guest, table),
                _ => self.compare_pointers(guest, table),
            };
            left = left.saturating_sub(1 + compared);
            if follows == Source::AnyRoot {
                self.note_root(satp, is_quiet, was_watched);
            }
            if !was_watched {
                self.note_compared(ram, table, source, is_quiet.then_some(compared));
                self.pool.push_loose(&mut rest, table);
            }
        }
        self.put_loose(number, shares, rest);
    }

    /// For a table that may have pointers. Says whether nothing has changed, and how many entries there were.
    #[inline]
    fn compare_pointers(&mut self, guest: &[AtomicU64; 512], table: TableId) -> (bool, u32) {
        let (mut is_quiet, mut compared, mut first) = (true, 0_u32, 0);
        while let Some(slot) = self.pool.next_used(table, first) {
            first = slot + 1;
            compared = compared.wrapping_add(1);
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
        (is_quiet, compared)
    }

    /// For a last table, where most entries are. Says the same.
    fn compare_leaves(&mut self, guest: &[AtomicU64; 512], table: TableId) -> (bool, u32) {
        let (mut is_quiet, mut compared) = (true, 0_u32);
        let Self { pool, dropped_code, flush, trust, .. } = self;
        pool.retain(table, |slot, entry, seen| {
            let now = guest.get(slot).map_or(0, |now| now.load(Ordering::Relaxed));
            let holds = still_holds(seen, now);
            compared = compared.wrapping_add(1);
            if !holds {
                is_quiet = false;
                trust.note_found(seen, now);
                dropped_code.all |= is_code(entry);
                // As in `compare_pointers`.
                *flush = TlbFlush::All;
            }
            holds
        });
        (is_quiet, compared)
    }
}

/// A table in which nothing is valid.
static NOTHING: [AtomicU64; 512] = [const { AtomicU64::new(0) }; 512];

/// Whether what was made of the guest's entry `seen` is right for the entry `now`. A leaf may have got D: then there is a
/// store to tell the shadow of, as before.
pub(super) const fn still_holds(seen: u64, now: u64) -> bool {
    now == seen || Pte(seen).is_leaf() && now == seen | Pte::D
}
