//! All that a hart may have cached of the shadows of the vCPUs that share it: a TLB tagged by ASID, which forgets nothing
//! unless told to. It keeps leaves, and the pointers on the way to them; an entry is used under each root that has its ASID,
//! or under all if it is global. Priv. spec, "Supervisor Memory-Management Fence Instruction".

use core::fmt;
use std::format;
use std::string::String;
use std::vec::Vec;

use super::hardware::{self, Leaf, Pointer};
use super::*;

/// A root that the hart runs under, with the ASID in satp, and whose it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Under {
    /// The guest, from 0 on.
    pub guest: usize,
    pub root: Root,
    asid: u16,
}

impl Under {
    /// What satp says under a root.
    pub fn new(guest: usize, shadow: &ShadowMmu, root: Root) -> Self {
        let satp = Satp::from_bits(shadow.satp(root).bits()).expect("a value for satp");
        assert_eq!(satp.ppn << 12, root.table.0);
        Self { guest, root, asid: satp.asid }
    }
}

impl fmt::Display for Under {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "guest {} root {}", self.guest + 1, self.root.number)
    }
}

/// Something cached, and under which root that was.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Cached<T> {
    under: Under,
    what: T,
}

/// What a hart has cached.
#[derive(Clone, Default, Debug)]
pub struct Tlb {
    leaves: Vec<Cached<Leaf>>,
    pointers: Vec<Cached<Pointer>>,
}

impl Cached<Leaf> {
    fn serves(&self, asid: u16) -> bool {
        self.under.asid == asid || self.what.flags & Pte::G != 0
    }
}

impl Tlb {
    /// Makes an access under a root; says whether it succeeds. As the hardware may, it looks only at what it has cached of
    /// the address, where there is something, and keeps that when it walks.
    pub fn access(&mut self, shadow: &ShadowMmu, under: Under, address: u64, access: Access) -> bool {
        let here = |cached: &&Cached<Leaf>| cached.serves(under.asid) && cached.what.covers(address);
        if self.leaves.iter().any(|cached| here(&cached)) {
            return self.leaves.iter().filter(here).any(|cached| cached.what.permits(access));
        }
        let pointers = &mut self.pointers;
        let leaf = hardware::walk_by(shadow, under.root.table, address, |pointer| {
            let pointer = Cached { under, what: pointer };
            if !pointers.contains(&pointer) {
                pointers.push(pointer);
            }
        });
        self.leaves.extend(leaf.map(|what| Cached { under, what }));
        leaf.is_some_and(|leaf| leaf.permits(access))
    }

    /// Caches what another has.
    pub fn learn(&mut self, other: &Self) {
        let is_new = |leaf: &&Cached<Leaf>| !self.leaves.contains(leaf);
        let leaves: Vec<_> = other.leaves.iter().filter(is_new).copied().collect();
        self.leaves.extend(leaves);
        let is_new = |pointer: &&Cached<Pointer>| !self.pointers.contains(pointer);
        let pointers: Vec<_> = other.pointers.iter().filter(is_new).copied().collect();
        self.pointers.extend(pointers);
    }

    /// Forgets what a flush names and no more. SFENCE.VMA with an address reaches leaves only.
    pub fn flush(&mut self, flush: TlbFlush) {
        match flush {
            TlbFlush::Nothing => {}
            TlbFlush::Address(address) => self.leaves.retain(|cached| !cached.what.covers(address.0)),
            TlbFlush::All => *self = Self::default(),
        }
    }

    /// Whether the shadow, walked now from a root, has all that the hart may use under it, or more.
    ///
    /// # Errors
    /// What the hart may use and must not: as a rule the pair of roots that have the same ASID, or the one that has changed.
    pub fn check(&self, shadow: &ShadowMmu, under: Under) -> Result<(), String> {
        let refuse = |origin: Under, cached: &dyn fmt::Debug, now: &dyn fmt::Debug| {
            let same = (origin.guest, origin.root) == (under.guest, under.root);
            let which = match same {
                true => format!("{under} has changed"),
                false => format!("{origin} and {under} share ASID {}", under.asid),
            };
            Err(format!("{which}: the TLB has {cached:x?}, the shadow {now:x?}"))
        };
        for cached in self.leaves.iter().filter(|cached| cached.serves(under.asid)) {
            let now = hardware::walk(shadow, under.root.table, cached.what.start);
            if !now.is_some_and(|now| now.includes(&cached.what)) {
                return refuse(cached.under, &cached.what, &now);
            }
        }
        for cached in self.pointers.iter().filter(|cached| cached.under.asid == under.asid) {
            let mut now = None;
            hardware::walk_by(shadow, under.root.table, cached.what.1, |pointer| {
                if pointer.0 == cached.what.0 {
                    now = Some(pointer);
                }
            });
            if now != Some(cached.what) {
                return refuse(cached.under, &cached.what, &now);
            }
        }
        Ok(())
    }

    /// Asserts that under whichever root of a guest the hart goes on, it uses nothing that is not there. That is more than
    /// has to hold where a change of the root flushes.
    #[track_caller]
    pub fn assert_consistent(&self, guest: usize, shadow: &ShadowMmu) {
        for number in 0..ROOTS {
            let root = Root { table: shadow.pool.address_of(number), number };
            if let Err(why) = self.check(shadow, Under::new(guest, shadow, root)) {
                panic!("{why}");
            }
        }
    }
}
