//! Guest RAM as the memory that a device of the host reads and writes by itself, without a copy.

use super::{GuestRam, NotRam};
use crate::{GuestPhysAddr, HostPhysAddr};

impl GuestRam {
    /// Where the `len` bytes from `address` lie in host memory, in one piece, for a device to read: filled in.
    ///
    /// # Errors
    /// Where not all of it is RAM.
    pub fn dma_source(&self, address: GuestPhysAddr, len: u64) -> Result<HostPhysAddr, NotRam> {
        let offset = self.fill_in(address, len)?;
        Ok(self.host_base.wrapping_add(offset))
    }

    /// As [`Self::dma_source`], for a device to write. Copies of code that lies there end before the guest runs again.
    /// Once the data has arrived, [`Self::dma_arrived`] has to be told; until then the guest must not be reset.
    ///
    /// # Errors
    /// Where not all of it is RAM.
    pub fn dma_target(&self, address: GuestPhysAddr, len: u64) -> Result<HostPhysAddr, NotRam> {
        let target = self.dma_source(address, len)?;
        self.note_write(address, len);
        Ok(target)
    }

    /// A device has written to a range that it was given. The guest may have executed code there in the meantime, and
    /// copies of that are old.
    pub fn dma_arrived(&self, address: GuestPhysAddr, len: u64) {
        self.note_write(address, len);
    }
}

#[cfg(test)]
mod tests {
    use core::sync::atomic::{AtomicU64, Ordering};

    use alloc::vec::Vec;

    use super::*;
    use crate::BLOCK_SIZE;

    const BASE: GuestPhysAddr = GuestPhysAddr(0x8000_0000);
    const HOST: HostPhysAddr = HostPhysAddr(0x4000_0000);

    fn ram() -> GuestRam {
        let words: Vec<_> = (0..3 * BLOCK_SIZE / 8).map(|_| AtomicU64::new(!0)).collect();
        GuestRam::new(words.leak(), BASE, HOST, Vec::new())
    }

    #[test]
    fn what_a_device_is_given_is_filled_in_to_its_last_byte() {
        let ram = ram();
        let at = BASE.wrapping_add(BLOCK_SIZE - 1);
        assert_eq!(ram.dma_target(at, 2), Ok(HOST.wrapping_add(BLOCK_SIZE - 1)));
        let words =
            [0, 1, 2].map(|block| ram.words[(block * BLOCK_SIZE / 8) as usize].load(Ordering::Relaxed));
        assert_eq!(words, [0, 0, !0], "the third block was not asked for");
    }

    #[test]
    fn a_range_that_wraps_or_leaves_ram_is_no_ones() {
        let ram = ram();
        let end = BASE.wrapping_add(3 * BLOCK_SIZE);
        for (address, len) in [
            (GuestPhysAddr(end.0 - 1), 2),
            (end, 1),
            (GuestPhysAddr(BASE.0 - 1), 2),
            (BASE, u64::MAX),
            (GuestPhysAddr(u64::MAX), 2),
        ] {
            assert_eq!(ram.dma_source(address, len), Err(NotRam));
            assert_eq!(ram.dma_target(address, len), Err(NotRam));
        }
        assert_eq!(ram.dma_source(BASE, 3 * BLOCK_SIZE), Ok(HOST));
    }

    #[test]
    fn copies_of_code_end_when_data_is_asked_for_and_when_it_has_arrived() {
        let ram = ram();
        let page = BASE.wrapping_add(BLOCK_SIZE + 0x5000);
        assert!(ram.close_page(page, HostPhysAddr(0x1000)) && ram.publish_copy(page));
        ram.dma_source(BASE, 3 * BLOCK_SIZE).unwrap();
        assert!(!ram.overlay().take_disturbed(), "reading disturbs nothing");
        ram.dma_target(BASE, BLOCK_SIZE + 0x5000).unwrap();
        assert!(!ram.overlay().take_disturbed(), "ends before the page");
        ram.dma_target(BASE, 3 * BLOCK_SIZE).unwrap();
        assert!(ram.overlay().take_disturbed());
        ram.dma_arrived(page.wrapping_add(0xfff), 1);
        assert!(ram.overlay().take_disturbed());
    }
}
