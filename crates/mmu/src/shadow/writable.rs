//! Which pages of guest RAM a shadow may map writable, so that one that is to be protected is searched for only where it
//! has to be.

use alloc::vec::Vec;

use memory::{BLOCK_SIZE, GuestPhysAddr, PAGE_SIZE};

/// Words that have a block's pages.
const WORDS_OF_BLOCK: u64 = BLOCK_SIZE / PAGE_SIZE / 64;

/// Which of the guest's pages a writable leaf may map: a bit for each page, and one for each block mapped whole. What is
/// noted stays until all leaves of the page are dropped.
#[derive(Debug, Default)]
pub(super) struct Writable {
    pages: Vec<u64>,
    blocks: Vec<u64>,
    /// Blocks of which all writable leaves are noted: the assembly makes none there any more, and what it had made is gone.
    noted: Vec<u64>,
    /// `Overlay::released` as long as the assembly makes none there.
    released: u64,
}

impl Writable {
    pub(super) fn note(&mut self, address: GuestPhysAddr, level: usize) {
        if level == 0 {
            set(&mut self.pages, address.0 / PAGE_SIZE);
        } else {
            set(&mut self.blocks, address.0 / BLOCK_SIZE);
        }
    }

    /// Whether the page may be mapped, or the assembly may have mapped any page of its block, which is mapped page by page and
    /// not the assembly's now; if so, forgets the whole block. `released` is the overlay's.
    pub(super) fn take_block(&mut self, page: GuestPhysAddr, released: u64) -> bool {
        if core::mem::replace(&mut self.released, released) != released {
            self.noted.clear();
        }
        let is_noted = set(&mut self.noted, page.0 / BLOCK_SIZE);
        let was = self.take(page) || !is_noted;
        if was {
            let first = (page.0 / BLOCK_SIZE * WORDS_OF_BLOCK) as usize;
            self.pages.iter_mut().skip(first).take(WORDS_OF_BLOCK as usize).for_each(|word| *word = 0);
        }
        was
    }

    /// Whether the page may be mapped, and forgets it.
    pub(super) fn take(&mut self, page: GuestPhysAddr) -> bool {
        let take = |bits: &mut Vec<u64>, number: u64| {
            let Some(word) = bits.get_mut((number / 64) as usize) else { return false };
            let bit = 1 << (number % 64);
            let was = *word & bit != 0;
            *word &= !bit;
            was
        };
        let page_was = take(&mut self.pages, page.0 / PAGE_SIZE);
        take(&mut self.blocks, page.0 / BLOCK_SIZE) || page_was
    }
}

/// Sets a bit; says whether it was set. Only addresses of RAM come here, so the bits are bounded by where RAM ends.
fn set(bits: &mut Vec<u64>, number: u64) -> bool {
    let word = (number / 64) as usize;
    if bits.len() <= word {
        bits.resize(word + 1, 0);
    }
    let Some(word) = bits.get_mut(word) else { return false };
    let was = *word & 1 << (number % 64) != 0;
    *word |= 1 << (number % 64);
    was
}
