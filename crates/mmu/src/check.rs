//! The invariant scanner: walks every shadow table and says whether a guest could reach what is not its own.
//!
//! Invariants, by name:
//! - **owned-leaf**: each leaf maps only memory of the guest's own RAM, or a copy of a page of it, execute-only; a page
//!   that has a copy is writable nowhere.
//! - **user-leaf**: each leaf has U=1 and G=0, and A=D=1, so the hardware never writes a table, and no reserved
//!   encoding.
//! - **pool-table**: each pointer leads to a table of the pool, one level down, with no flag but V and ours.
//! - **shared-half**: the upper half of each root that shares it is that of the shared half's root.
//! - **whole-window**: each root carries the hypervisor's window unchanged, also one that is no context's now.
//! - **free-root**: a root that is no context's has nothing else, and that of the shared half nothing in its lower half.

use core::fmt;

use isa::paging::{self, Pte};
use memory::{GuestRam, HostPhysAddr};

use crate::pool::TableId;
use crate::shadow::{ShadowMmu, UPPER};

#[cfg(test)]
mod tests;

/// A broken invariant.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Violation {
    /// Its name, as in the module's documentation.
    pub invariant: &'static str,
    /// The level of the entry that breaks it.
    pub level: usize,
    /// The entry's slot in its table.
    pub slot: usize,
    /// The entry.
    pub entry: Pte,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { invariant, level, slot, entry } = self;
        write!(f, "invariant {invariant} broken by {:#x} in slot {slot} at level {level}", entry.0)
    }
}

/// Walks all shadow tables of a vCPU of the guest that has `ram`.
///
/// # Errors
/// The first violation found; otherwise how many leaves there are.
pub fn check(shadow: &ShadowMmu, ram: &GuestRam) -> Result<usize, Violation> {
    let top = shadow.host().mode.levels().saturating_sub(1);
    let mut leaves = 0;
    if let Some(root) = shadow.shared_root() {
        leaves += check_table(shadow, ram, root, top, Kind::SharedHalf)?;
    }
    for (root, shares) in shadow.roots() {
        leaves += check_table(shadow, ram, root, top, if shares { Kind::SharingRoot } else { Kind::Root })?;
    }
    for root in shadow.free_roots() {
        check_table(shadow, ram, root, top, Kind::FreeRoot)?;
    }
    Ok(leaves)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// A root that is no context's.
    FreeRoot,
    /// The root of a context.
    Root,
    /// The root of a context that shares its upper half.
    SharingRoot,
    /// The root of the shared upper half.
    SharedHalf,
    /// A table below.
    Below,
}

fn check_table(
    shadow: &ShadowMmu,
    ram: &GuestRam,
    table: TableId,
    level: usize,
    kind: Kind,
) -> Result<usize, Violation> {
    const LEAF_FLAGS: u64 = Pte::V | Pte::U | Pte::A | Pte::D;
    let window = &shadow.host().window;
    let mut leaves = 0;
    for (slot, entry) in shadow.pool().entries(table).enumerate() {
        let broken = |invariant| Violation { invariant, level, slot, entry };
        if kind == Kind::SharingRoot && slot >= UPPER && !window.covers(slot) {
            let shared = shadow.shared_root().map(|root| shadow.pool().entry(root, slot));
            if shared != Some(entry) {
                return Err(broken("shared-half"));
            }
        } else if kind != Kind::Below && window.covers(slot) {
            let own = slot.checked_sub(window.first_slot).and_then(|nth| window.entries.get(nth));
            if own != Some(&entry) {
                return Err(broken("whole-window"));
            }
        } else if (kind == Kind::FreeRoot || kind == Kind::SharedHalf && slot < UPPER) && entry.0 != 0 {
            return Err(broken("free-root"));
        } else if entry.is_leaf() {
            let write_only = entry.has(Pte::W) && !entry.has(Pte::R);
            if !entry.has(LEAF_FLAGS) || entry.has(Pte::G) || write_only || entry.0 & Pte::RESERVED != 0 {
                return Err(broken("user-leaf"));
            }
            let size = paging::leaf_size(level);
            let address = HostPhysAddr(entry.address());
            let copy = || level == 0 && entry.0 & (Pte::R | Pte::W) == 0 && ram.overlay().holds_copy(address);
            let own = || ram.owns_host(address, size) && !(entry.has(Pte::W) && ram.overlaid(address, size));
            if !address.is_aligned(size) || !(own() || copy()) {
                return Err(broken("owned-leaf"));
            }
            leaves += 1;
        } else if entry.has(Pte::V) {
            let flags = entry.0 & (Pte::U | Pte::G | Pte::A | Pte::D | Pte::RESERVED);
            let next = shadow.pool().at(HostPhysAddr(entry.address()));
            match (next, level.checked_sub(1)) {
                (Some(next), Some(below)) if entry.is_table() && flags == 0 => {
                    leaves += check_table(shadow, ram, next, below, Kind::Below)?;
                }
                _ => return Err(broken("pool-table")),
            }
        }
    }
    Ok(leaves)
}
