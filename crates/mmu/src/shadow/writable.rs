//! Which pages of guest RAM a shadow may map writable, so that one that is to be protected is searched for only where it
//! has to be.

use alloc::vec::Vec;

use memory::{BLOCK_SIZE, GuestPhysAddr, PAGE_SIZE};

/// Which of the guest's pages a writable leaf may map: a bit for each page, and one for each block mapped whole. What is
/// noted stays until all leaves of the page are dropped.
#[derive(Debug, Default)]
pub(super) struct Writable {
    pages: Vec<u64>,
    blocks: Vec<u64>,
}

impl Writable {
    pub(super) fn note(&mut self, address: GuestPhysAddr, level: usize) {
        let (bits, number) = if level == 0 {
            (&mut self.pages, address.0 / PAGE_SIZE)
        } else {
            (&mut self.blocks, address.0 / BLOCK_SIZE)
        };
        let word = (number / 64) as usize;
        // Only addresses of RAM come here, so this is bounded by where RAM ends.
        if bits.len() <= word {
            bits.resize(word + 1, 0);
        }
        if let Some(word) = bits.get_mut(word) {
            *word |= 1 << (number % 64);
        }
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
