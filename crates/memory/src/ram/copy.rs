//! Copying between guest RAM and the hypervisor's buffers, word by word.

use core::sync::atomic::{AtomicU64, Ordering};

use super::{GuestRam, NotRam, WORD};
use crate::GuestPhysAddr;

impl GuestRam {
    /// Copies from RAM. Each aligned word is read in one access.
    ///
    /// # Errors
    /// Where not all of it is RAM; nothing is copied then.
    pub fn read(&self, address: GuestPhysAddr, into: &mut [u8]) -> Result<(), NotRam> {
        let start = self.fill_in(address, into.len() as u64)?;
        let mut words = self.words.get((start / WORD) as usize..).unwrap_or(&[]).iter();
        let (head, rest) = into.split_at_mut(into.len().min(head_len(start)));
        if !head.is_empty() {
            let bytes = words.next().ok_or(NotRam)?.load(Ordering::Relaxed) >> (start % WORD * 8);
            copy(head, &bytes.to_le_bytes());
        }
        let (whole, tail) = rest.as_chunks_mut::<8>();
        for (bytes, word) in whole.iter_mut().zip(&mut words) {
            *bytes = word.load(Ordering::Relaxed).to_le_bytes();
        }
        if !tail.is_empty() {
            copy(tail, &words.next().ok_or(NotRam)?.load(Ordering::Relaxed).to_le_bytes());
        }
        Ok(())
    }

    /// Copies to RAM. Bytes around the range keep what other harts write there.
    ///
    /// # Errors
    /// Where not all of it is RAM; nothing is copied then.
    pub fn write(&self, address: GuestPhysAddr, from: &[u8]) -> Result<(), NotRam> {
        self.device_write(address, from)?;
        self.note_code_write();
        Ok(())
    }

    /// Copies to RAM as a device does: the guest's harts need a FENCE.I of the guest's own before they execute what
    /// was written, as after DMA on a real machine. Copies of code that was there end all the same.
    ///
    /// # Errors
    /// As `write`.
    pub fn device_write(&self, address: GuestPhysAddr, from: &[u8]) -> Result<(), NotRam> {
        let start = self.fill_in(address, from.len() as u64)?;
        self.overlay.note_write(address, from.len() as u64);
        let mut words = self.words.get((start / WORD) as usize..).unwrap_or(&[]).iter();
        let (head, rest) = from.split_at(from.len().min(head_len(start)));
        if !head.is_empty() {
            merge(words.next().ok_or(NotRam)?, start % WORD, head);
        }
        let (whole, tail) = rest.as_chunks::<8>();
        for (bytes, word) in whole.iter().zip(&mut words) {
            word.store(u64::from_le_bytes(*bytes), Ordering::Relaxed);
        }
        if !tail.is_empty() {
            merge(words.next().ok_or(NotRam)?, 0, tail);
        }
        Ok(())
    }

    /// Reads the 16-bit number at `address`, before everything that is read after it (acquire); `None` where it is not
    /// RAM or not aligned.
    #[inline]
    pub fn load_u16(&self, address: GuestPhysAddr) -> Option<u16> {
        let word = self.word(address.align_down(WORD)).filter(|_| address.is_aligned(2))?;
        Some((word.load(Ordering::Acquire) >> (address.0 % WORD * 8)) as u16)
    }

    /// Writes the 16-bit number at `address`, after everything that was written before it (release). Nothing is done
    /// where it is not aligned.
    ///
    /// # Errors
    /// Where it is not RAM or not aligned.
    pub fn store_u16(&self, address: GuestPhysAddr, value: u16) -> Result<(), NotRam> {
        let word = self.word(address.align_down(WORD)).filter(|_| address.is_aligned(2)).ok_or(NotRam)?;
        self.overlay.note_write(address, 2);
        merge(word, address.0 % WORD, &value.to_le_bytes());
        Ok(())
    }
}

/// Bytes from offset `start` to the next word.
const fn head_len(start: u64) -> usize {
    (start.next_multiple_of(WORD) - start) as usize
}

/// Copies as many bytes as `into` has.
fn copy(into: &mut [u8], from: &[u8]) {
    into.iter_mut().zip(from).for_each(|(to, from)| *to = *from);
}

/// Replaces the bytes of `word` from number `first` on by `bytes`, which end in it.
fn merge(word: &AtomicU64, first: u64, bytes: &[u8]) {
    let place = |byte: &u8, n: u64| u64::from(*byte) << ((first + n) % WORD * 8);
    let (mut clear, mut set) = (0, 0);
    for (byte, n) in bytes.iter().zip(0..) {
        clear |= place(&0xff, n);
        set |= place(byte, n);
    }
    // Never fails: the closure always gives a value.
    let _ = word.fetch_update(Ordering::AcqRel, Ordering::Relaxed, |old| Some(old & !clear | set));
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use super::*;
    use crate::{BLOCK_SIZE, HostPhysAddr};

    const BASE: GuestPhysAddr = GuestPhysAddr(0x8000_0000);

    fn ram() -> GuestRam {
        let words: Vec<_> = (0..2 * BLOCK_SIZE / WORD).map(|_| AtomicU64::new(!0)).collect();
        GuestRam::new(words.leak(), BASE, HostPhysAddr(0x4000_0000), Vec::new())
    }

    #[test]
    fn sixteen_bits_are_stored_between_their_neighbours() {
        let ram = ram();
        for n in 0..8 {
            ram.store_u16(BASE.wrapping_add(2 * n), 0x0101 * n as u16).unwrap();
        }
        ram.store_u16(BASE.wrapping_add(6), 0xabcd).unwrap();
        assert_eq!(ram.read_word(BASE), Some(0xabcd_0202_0101_0000));
        assert_eq!(ram.load_u16(BASE.wrapping_add(6)), Some(0xabcd));
        assert_eq!(ram.load_u16(BASE.wrapping_add(10)), Some(0x0505));
    }

    #[test]
    fn sixteen_bits_that_are_misaligned_or_no_ram_are_refused() {
        let ram = ram();
        for address in [1, 7].map(|n| BASE.wrapping_add(n)).into_iter().chain([
            GuestPhysAddr(BASE.0 - 2),
            GuestPhysAddr(BASE.0 + 2 * BLOCK_SIZE),
            GuestPhysAddr(u64::MAX),
        ]) {
            assert_eq!(ram.load_u16(address), None);
            assert_eq!(ram.store_u16(address, 1), Err(NotRam));
        }
        assert_eq!(ram.read_word(BASE), Some(0));
    }

    #[test]
    fn a_device_writes_over_the_border_of_two_blocks_without_a_fence() {
        let ram = ram();
        ram.read_word(BASE);
        ram.read_word(BASE.wrapping_add(BLOCK_SIZE));
        let writes = ram.writes();
        let bytes: Vec<u8> = (1..=21).collect();
        let at = BASE.wrapping_add(BLOCK_SIZE - 11);
        ram.device_write(at, &bytes).unwrap();
        let mut back = [0; 23];
        ram.read(GuestPhysAddr(at.0 - 1), &mut back).unwrap();
        assert_eq!(back[0], 0);
        assert_eq!(back[1..22], bytes);
        assert_eq!(back[22], 0);
        assert_eq!(ram.writes(), writes);
    }
}
