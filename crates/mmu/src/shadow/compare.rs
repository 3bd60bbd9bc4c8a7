//! Compares what a fence has marked with the guest's tables: each entry with what it was made of, before a context is
//! used again. What the guest has not changed stays. Guests that fence everything at each entry of their kernel would
//! else fault on each page again.

use core::sync::atomic::{AtomicU64, Ordering};

use isa::paging::{Pte, Satp};
use memory::{GuestPhysAddr, GuestRam, GuestVirtAddr};

use super::fill::PIECES;
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
            let is_settled = self.compare(ram, satp, root, 0);
            self.set_restless(number, false, !is_settled);
        }
        if shares
            && let Some(shared) = &mut self.shared
            && core::mem::take(&mut shared.stale)
        {
            let root = shared.root;
            let is_settled = self.compare(ram, satp, root, 0);
            self.set_restless(number, true, !is_settled);
        }
        self.begin_watches(ram);
    }

    /// Drops what the guest's tables, seen from the root of `satp`, no longer say as they did. `start` is the first
    /// address that goes by way of `table`. Says whether all those of the guest's tables are watched.
    fn compare(&mut self, ram: &GuestRam, satp: Satp, table: TableId, start: u64) -> bool {
        let level = self.pool.level(table);
        let source = match self.pool.source(table) {
            Source::None => None,
            Source::Table(address) => Some(address),
            Source::AnyRoot => Some(GuestPhysAddr(satp.ppn << 12)),
        };
        let guest = source.and_then(|source| ram.table(source));
        if level == 0
            && let Some(guest) = guest
        {
            let is_quiet = self.compare_leaves(guest, table, start);
            return self.is_watched(ram, source, is_quiet);
        }
        let (mut is_quiet, mut all_watched) = (true, true);
        self.pool.used(table).for_each(|slot| {
            let entry = self.pool.entry(table, slot);
            let below = self.pool.below(entry);
            let start = start | (slot as u64) << (12 + 9 * level);
            if source.is_some() {
                let now =
                    guest.and_then(|guest| guest.get(slot)).map_or(0, |now| now.load(Ordering::Relaxed));
                if !still_holds(self.pool.seen(table, slot), now) {
                    is_quiet = false;
                    return match below {
                        Some(next) => self.detach(next),
                        None => {
                            self.note_code(entry, self.canonical(start));
                            self.pool.drop_entry(table, slot);
                            // The hardware may have cached it after the fence, under another root that leads here.
                            self.flush = TlbFlush::All;
                        }
                    };
                }
            }
            if let Some(next) = below
                && !entry.has(PIECES)
            {
                all_watched &= self.compare(ram, satp, next, start);
            }
        });
        self.is_watched(ram, source, is_quiet) && all_watched
    }

    /// `compare` for a last table, where most entries are. Says whether nothing has changed.
    fn compare_leaves(&mut self, guest: &[AtomicU64; 512], table: TableId, start: u64) -> bool {
        let mut is_quiet = true;
        let Self { pool, dropped_code, flush, .. } = self;
        let unused = 64 - self.host.mode.address_bits();
        pool.retain(table, |slot, entry, seen| {
            let now = guest.get(slot).map_or(0, |now| now.load(Ordering::Relaxed));
            let holds = still_holds(seen, now);
            if !holds {
                is_quiet = false;
                if is_code(entry) {
                    dropped_code.note(canonical(start | (slot as u64) << 12, unused));
                }
                // As in `compare`.
                *flush = TlbFlush::All;
            }
            holds
        });
        is_quiet
    }

    /// The address with these lower bits, as the host's mode has it.
    fn canonical(&self, address: u64) -> GuestVirtAddr {
        canonical(address, 64 - self.host.mode.address_bits())
    }
}

/// The address without its upper bits, extended again.
const fn canonical(address: u64, unused: u32) -> GuestVirtAddr {
    GuestVirtAddr(((address << unused) as i64 >> unused) as u64)
}

/// Whether what was made of the guest's entry `seen` is right for the entry `now`. A leaf may have got D: then there is a
/// store to tell the shadow of, as before.
pub(super) const fn still_holds(seen: u64, now: u64) -> bool {
    now == seen || Pte(seen).is_leaf() && now == seen | Pte::D
}
