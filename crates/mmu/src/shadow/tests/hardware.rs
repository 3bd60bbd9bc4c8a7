//! The real hart in user mode: its walk of the shadow tables. Priv. spec, "Virtual Address Translation Process", with A and D
//! never written.

use std::vec::Vec;

use super::*;

/// A leaf of a shadow table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Leaf {
    /// The first address that it maps.
    pub start: u64,
    /// Bytes.
    pub size: u64,
    /// Where `start` is in host memory.
    pub host: HostPhysAddr,
    /// Its flag bits.
    pub flags: u64,
}

impl Leaf {
    /// Whether a program in user mode may do this here.
    pub fn permits(&self, access: Access) -> bool {
        let needed = match access {
            Access::Fetch => Pte::X,
            Access::Load => Pte::R,
            Access::Store => Pte::W | Pte::D,
        };
        self.flags & (needed | Pte::U | Pte::A) == needed | Pte::U | Pte::A
    }

    /// Where an address in it is in host memory.
    pub fn host_of(&self, address: u64) -> HostPhysAddr {
        HostPhysAddr(self.host.0 + (address - self.start))
    }

    /// Whether it maps `address`.
    pub fn covers(&self, address: u64) -> bool {
        address.wrapping_sub(self.start) < self.size
    }

    /// Whether it is as `other` or allows more.
    pub fn includes(&self, other: &Self) -> bool {
        (self.start, self.size, self.host) == (other.start, other.size, other.host)
            && self.flags & other.flags == other.flags
    }
}

/// What an entry at `level` is to the hardware.
enum Entry {
    Invalid,
    Pointer(HostPhysAddr),
    Leaf(HostPhysAddr, u64),
}

fn read(shadow: &ShadowMmu, table: TableId, slot: usize, level: usize) -> Entry {
    decode(shadow.pool.entry(table, slot).0, level)
}

fn decode(entry: u64, level: usize) -> Entry {
    let address = (entry >> 10 & 0xfff_ffff_ffff) * 4096;
    let reserved = entry >> 54 != 0;
    match entry & 0xf {
        // V, and R or X, and no W without R.
        0b0011 | 0b0111 | 0b1001 | 0b1011 | 0b1111
            if !reserved && address.is_multiple_of(4096 << (9 * level)) =>
        {
            Entry::Leaf(HostPhysAddr(address), entry & 0xff)
        }
        0b0001 if !reserved && level > 0 && entry & (Pte::A | Pte::D | Pte::U) == 0 => {
            Entry::Pointer(HostPhysAddr(address))
        }
        _ => Entry::Invalid,
    }
}

/// A pointer on the way of a walk: the level of its entry, the first address that goes its way, and where to.
pub type Pointer = (usize, u64, HostPhysAddr);

/// Looks an address up from `root`, reporting the pointers on the way. The hypervisor's window is nothing here: the
/// guest may not use it.
pub fn walk_by(
    shadow: &ShadowMmu,
    root: HostPhysAddr,
    address: u64,
    mut passed: impl FnMut(Pointer),
) -> Option<Leaf> {
    let levels = shadow.host.mode.levels();
    let unused = 64 - (12 + 9 * levels);
    if ((address << unused) as i64 >> unused) as u64 != address {
        return None;
    }
    let mut table = shadow.pool.at(root).expect("a root is in the pool");
    for level in (0..levels).rev() {
        let slot = (address >> (12 + 9 * level) & 511) as usize;
        if level + 1 == levels && shadow.host.window.covers(slot) {
            return None;
        }
        let size = 4096 << (9 * level);
        let start = address & !(size - 1);
        match read(shadow, table, slot, level) {
            Entry::Invalid => return None,
            Entry::Leaf(host, flags) => return Some(Leaf { start, size, host, flags }),
            Entry::Pointer(next) => {
                passed((level, start, next));
                table = shadow.pool.at(next).expect("a table is in the pool");
            }
        }
    }
    None
}

/// Looks an address up from `root`.
pub fn walk(shadow: &ShadowMmu, root: HostPhysAddr, address: u64) -> Option<Leaf> {
    walk_by(shadow, root, address, |_| ())
}

/// All leaves that can be reached from `root`.
pub fn leaves(shadow: &ShadowMmu, root: HostPhysAddr) -> (Vec<Leaf>, Vec<HostPhysAddr>) {
    let (mut found, mut tables) = (Vec::new(), Vec::new());
    let table = shadow.pool.at(root).expect("a root is in the pool");
    collect(shadow, table, shadow.host.mode.levels() - 1, 0, &mut found, &mut tables);
    (found, tables)
}

/// Adds the tables that can be reached from `root`, which is not one of them, and are not in `tables` yet.
pub fn tables(shadow: &ShadowMmu, root: HostPhysAddr, tables: &mut Vec<HostPhysAddr>) {
    tables.extend(leaves(shadow, root).1);
    tables.sort();
    tables.dedup();
}

fn collect(
    shadow: &ShadowMmu,
    table: TableId,
    level: usize,
    above: u64,
    found: &mut Vec<Leaf>,
    tables: &mut Vec<HostPhysAddr>,
) {
    let top = level + 1 == shadow.host.mode.levels();
    let unused = 64 - (12 + 9 * shadow.host.mode.levels());
    for (slot, entry) in shadow.pool.entries(table).enumerate().filter(|(_, entry)| entry.0 != 0) {
        if top && shadow.host.window.covers(slot) {
            continue;
        }
        let size = 4096u64 << (9 * level);
        let start = above + slot as u64 * size;
        match decode(entry.0, level) {
            Entry::Invalid => panic!("an entry in use is invalid: {entry:x?}"),
            Entry::Leaf(host, flags) => {
                let start = ((start << unused) as i64 >> unused) as u64;
                found.push(Leaf { start, size, host, flags });
            }
            Entry::Pointer(next) => {
                tables.push(next);
                let next = shadow.pool.at(next).expect("a table is in the pool");
                collect(shadow, next, level - 1, start, found, tables);
            }
        }
    }
}
