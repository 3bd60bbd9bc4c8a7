//! Address spaces whose shadow roots the assembly may switch to: a direct-mapped cache by the guest's satp.

use isa::paging::Satp;

use crate::tables::RootSatp;

/// Values for the real satp, one for each view of an address space; `None`, which the assembly reads as 0, where there is
/// none at hand and Rust must see to it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(C)]
pub struct Roots {
    /// Virtual user mode.
    pub user: Option<RootSatp>,
    /// Virtual supervisor mode, SUM clear.
    pub supervisor: Option<RootSatp>,
    /// Virtual supervisor mode, SUM set.
    pub supervisor_sum: Option<RootSatp>,
    /// What tells this space's sites from those of others at the same address: a number in bits 48 to 62, not 0.
    pub tag: u64,
}

impl Roots {
    /// Nothing at hand.
    pub const NONE: Self = Self { user: None, supervisor: None, supervisor_sum: None, tag: 0 };
}

/// An address space.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(C, align(64))]
pub struct Space {
    /// The guest's satp.
    pub satp: u64,
    /// Its roots. All three are there, or the space is not in the table.
    pub roots: Roots,
}

/// Places of the table.
pub const SPACES: usize = 8;

/// Address spaces by satp.
#[derive(Clone, Debug)]
#[repr(C)]
pub struct SpaceTable([Space; SPACES]);

impl SpaceTable {
    /// An empty table. A write of satp that asks for Bare goes through Rust, so satp = 0 is nobody's.
    pub const fn new() -> Self {
        Self([Space { satp: 0, roots: Roots::NONE }; SPACES])
    }

    /// Forgets all.
    pub fn clear(&mut self) {
        *self = Self::new();
    }

    /// Forgets those with this ASID.
    pub fn forget_asid(&mut self, asid: u16) {
        for place in self.0.iter_mut().filter(|place| (place.satp >> Satp::ASID_SHIFT) as u16 == asid) {
            *place = Space { satp: 0, roots: Roots::NONE };
        }
    }

    /// Puts one in, in the place of another.
    pub fn insert(&mut self, space: Space) {
        if let Some(place) = self.place(space.satp) {
            *place = space;
        }
    }

    /// One that is there.
    pub fn get(&self, satp: u64) -> Option<&Space> {
        self.0.get(Self::index(satp)).filter(|place| place.satp == satp && satp != 0)
    }

    /// Those that are there.
    pub fn iter(&self) -> impl Iterator<Item = &Space> {
        self.0.iter().filter(|place| place.satp != 0)
    }

    fn place(&mut self, satp: u64) -> Option<&mut Space> {
        self.0.get_mut(Self::index(satp))
    }

    /// The assembly computes the same: both the ASID and the root tell spaces apart.
    const fn index(satp: u64) -> usize {
        (satp ^ satp >> Satp::ASID_SHIFT) as usize % SPACES
    }
}

impl Default for SpaceTable {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use core::num::NonZeroU64;

    use memory::HartAuthority;

    use super::*;

    const fn root(number: u64) -> Option<RootSatp> {
        match NonZeroU64::new(number) {
            Some(bits) => Some(RootSatp::new(bits, HartAuthority::simulated())),
            None => None,
        }
    }

    const ROOTS: Roots = Roots { user: root(1), supervisor: root(2), supervisor_sum: root(3), tag: 1 << 48 };

    #[test]
    fn a_space_is_found_until_another_takes_its_place() {
        let mut table = SpaceTable::new();
        let (one, other) = (8 << 60 | 1 << 44 | 0x80200, 8 << 60 | 1 << 44 | 0x80208);
        table.insert(Space { satp: one, roots: ROOTS });
        assert_eq!(table.get(one).map(|space| space.roots), Some(ROOTS));
        assert_eq!(table.get(other), None);
        table.insert(Space { satp: other, roots: ROOTS });
        assert_eq!(table.get(one), None);
        table.forget_asid(2);
        assert!(table.get(other).is_some());
        table.forget_asid(1);
        assert_eq!(table.get(other), None);
    }
}
