//! The real ASIDs by which a hart tells the roots of its vCPUs apart: dealt out in blocks, one for each vCPU. What a hart
//! that has too few of them does instead is said here, too; `crates/hart` and the assembly do it.
//!
//! ASID 0 is in no block. The hypervisor's own root has it, under which only its window is mapped, by global entries; and
//! all roots have it where not even one block fits, so that a change of the root flushes everything.

use crate::shadow::roots::ROOTS;

/// The ASIDs of one vCPU's roots: one for each, in a row, none of them 0. Only an [`AsidSpace`] makes one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AsidBlock {
    first: u16,
}

/// How a hart keeps what it has cached for one root from being used for another.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TlbPolicy {
    /// Each root of each vCPU has an ASID of its own.
    OwnAsids,
    /// The roots of a vCPU have ASIDs of their own, but other vCPUs use the same: all is forgotten when another vCPU comes.
    FlushOnEntry,
    /// All roots have ASID 0: all is forgotten when the root changes.
    FlushOnSwitch,
}

/// The ASIDs of one hart.
#[derive(Clone, Copy, Debug)]
pub struct AsidSpace {
    /// The greatest ASID. Priv. spec, "Supervisor Address Translation and Protection Register": ASIDMAX.
    last: u16,
    /// vCPUs among which they are dealt.
    vcpus: usize,
    /// vCPUs that have been dealt to.
    dealt: usize,
}

const _: () = assert!(ROOTS <= u16::MAX as usize, "a vCPU's roots can be told apart by ASIDs");

impl AsidBlock {
    /// ASIDs in a block.
    pub const LEN: u16 = ROOTS as u16;

    /// The ASID of a root of the vCPU that has the block, by the root's number.
    #[inline]
    pub(crate) const fn of(self, root: usize) -> u16 {
        self.first.wrapping_add(root as u16)
    }

    /// Whether some ASID is in both blocks.
    pub const fn overlaps(self, other: Self) -> bool {
        self.first.abs_diff(other.first) < Self::LEN
    }

    /// A block that no space has dealt out.
    #[cfg(test)]
    pub(crate) const fn starting_at(first: u16) -> Self {
        Self { first }
    }
}

impl AsidSpace {
    /// The ASIDs of a hart whose satp holds `bits` bits of them, 16 at most, for so many vCPUs.
    pub const fn new(bits: u32, vcpus: usize) -> Self {
        let last = if bits >= 16 { u16::MAX } else { (1 << bits) - 1 };
        Self { last, vcpus, dealt: 0 }
    }

    /// What the hart has to do to keep the vCPUs' roots apart.
    pub const fn policy(&self) -> TlbPolicy {
        match self.blocks() {
            0 => TlbPolicy::FlushOnSwitch,
            blocks if self.vcpus > blocks => TlbPolicy::FlushOnEntry,
            _ => TlbPolicy::OwnAsids,
        }
    }

    /// The block of the next vCPU: one of its own with `OwnAsids`, one that others have, too, with `FlushOnEntry`, and none
    /// with `FlushOnSwitch`.
    pub fn deal(&mut self) -> Option<AsidBlock> {
        let number = self.dealt.checked_rem(self.blocks())?;
        self.dealt = self.dealt.wrapping_add(1);
        // At most `last`: it is one of the blocks that fit.
        Some(AsidBlock { first: (number as u16).wrapping_mul(AsidBlock::LEN).wrapping_add(1) })
    }

    /// Whether the blocks that vCPUs have are as the policy wants them: within the hart's ASIDs, without 0, and, with
    /// `OwnAsids`, no ASID in two of them. The isolation of guests rests on that, so it is asked at the start.
    pub fn holds(&self, blocks: &[Option<AsidBlock>]) -> bool {
        let policy = self.policy();
        let fits = |block: &Option<AsidBlock>| match block {
            None => policy == TlbPolicy::FlushOnSwitch,
            Some(block) => {
                policy != TlbPolicy::FlushOnSwitch
                    && block.first != 0
                    && block.first.checked_add(AsidBlock::LEN - 1).is_some_and(|last| last <= self.last)
            }
        };
        let mut rest = blocks.iter().flatten();
        let mut overlap = false;
        while let Some(block) = rest.next() {
            overlap |= rest.clone().any(|other| block.overlaps(*other));
        }
        blocks.iter().all(fits) && !(policy == TlbPolicy::OwnAsids && overlap)
    }

    /// Blocks that fit beside ASID 0.
    const fn blocks(&self) -> usize {
        (self.last / AsidBlock::LEN) as usize
    }
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use super::*;

    fn dealt(bits: u32, vcpus: usize) -> (AsidSpace, Vec<Option<AsidBlock>>) {
        let mut space = AsidSpace::new(bits, vcpus);
        let blocks = (0..vcpus).map(|_| space.deal()).collect();
        (space, blocks)
    }

    #[test]
    fn a_block_has_an_asid_for_each_root_of_a_vcpu() {
        assert_eq!(usize::from(AsidBlock::LEN), ROOTS);
        let (_, blocks) = dealt(16, 2);
        let [Some(one), Some(other)] = blocks[..] else { panic!("{blocks:?}") };
        assert_eq!((one.of(0), one.of(ROOTS - 1)), (1, 65));
        assert_eq!((other.of(0), other.of(ROOTS - 1)), (66, 130));
    }

    #[test]
    fn whatever_the_hart_has_and_how_many_vcpus_there_are_the_blocks_are_as_the_policy_wants_them() {
        for bits in 0..=17 {
            for vcpus in [0, 1, 2, 3, 7, 15, 16, 63, 64, 1008, 1009] {
                let (space, blocks) = dealt(bits, vcpus);
                assert!(space.holds(&blocks), "{bits} bits, {vcpus} vCPUs: {blocks:?}");
            }
        }
    }

    #[test]
    fn a_hart_flushes_where_it_has_too_few_asids() {
        for (bits, vcpus, policy) in [
            (0, 1, TlbPolicy::FlushOnSwitch),
            (6, 1, TlbPolicy::FlushOnSwitch),
            (7, 1, TlbPolicy::OwnAsids),
            (7, 2, TlbPolicy::FlushOnEntry),
            (8, 3, TlbPolicy::OwnAsids),
            (8, 4, TlbPolicy::FlushOnEntry),
            (9, 7, TlbPolicy::OwnAsids),
            (9, 8, TlbPolicy::FlushOnEntry),
            (16, 1008, TlbPolicy::OwnAsids),
            (16, 1009, TlbPolicy::FlushOnEntry),
        ] {
            assert_eq!(AsidSpace::new(bits, vcpus).policy(), policy, "{bits} bits, {vcpus} vCPUs");
        }
    }

    #[test]
    fn blocks_that_overlap_or_do_not_fit_are_found() {
        let block = |first| Some(AsidBlock::starting_at(first));
        let space = AsidSpace::new(16, 2);
        assert!(space.holds(&[block(1), block(66)]));
        // One too few between them: the last root of one has the ASID of the other's first.
        assert!(!space.holds(&[block(1), block(65)]) && !space.holds(&[block(65), block(1)]));
        assert!(!space.holds(&[block(0), block(66)]), "0 is the hypervisor's");
        assert!(!space.holds(&[block(1), block(u16::MAX - 63)]), "65 ASIDs from there on are too many");
        assert!(!space.holds(&[block(1), None]), "without ASIDs the root's change would have to flush");
        assert!(!AsidSpace::new(7, 1).holds(&[block(64)]), "ASID 128 has 8 bits");
        assert!(AsidSpace::new(7, 2).holds(&[block(1), block(1)]), "flushed when the other comes");
        assert!(!AsidSpace::new(6, 1).holds(&[block(1)]));
    }
}
