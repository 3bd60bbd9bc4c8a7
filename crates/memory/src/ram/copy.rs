//! Copying between guest RAM and the hypervisor's buffers, word by word on both sides: a buffer is hardly ever aligned as
//! the guest's is, and a loop over bytes takes three times as long.

use core::sync::atomic::{AtomicU64, Ordering};

use zerocopy::{FromBytes, IntoBytes};

use super::{GuestRam, NotRam, WORD};
use crate::GuestPhysAddr;

impl GuestRam {
    /// Copies from RAM. Each aligned word is read in one access.
    ///
    /// # Errors
    /// Where not all of it is RAM; nothing is copied then.
    pub fn read(&self, address: GuestPhysAddr, into: &mut [u8]) -> Result<(), NotRam> {
        let start = self.fill_in(address, into.len() as u64)?;
        let (head, rest) = into.split_at_mut(into.len().min(into.as_ptr().align_offset(WORD as usize)));
        let (aligned, tail) = rest.split_at_mut(rest.len() & !(WORD as usize - 1));
        let (middle, end) = (start + head.len() as u64, start + (head.len() + aligned.len()) as u64);
        self.read_bytes(start, head);
        if let Ok(buffer) = <[u64]>::mut_from_bytes(aligned) {
            self.read_words_at(middle, buffer);
        } else {
            self.read_bytes(middle, aligned);
        }
        self.read_bytes(end, tail);
        Ok(())
    }

    /// Copies the words at offset `start`, which need not be a multiple of a word.
    fn read_words_at(&self, start: u64, into: &mut [u64]) {
        let words = self.words.get((start / WORD) as usize..).unwrap_or(&[]);
        let shift = start % WORD * 8;
        if shift == 0 {
            load_all(words, into);
            return;
        }
        let Some((first, words)) = words.split_first() else { return };
        let mut low = first.load(Ordering::Relaxed);
        for (to, word) in into.iter_mut().zip(words) {
            let high = word.load(Ordering::Relaxed);
            *to = low >> shift | high << (64 - shift);
            low = high;
        }
    }

    fn read_bytes(&self, start: u64, into: &mut [u8]) {
        for (offset, byte) in (start..).zip(into) {
            let word =
                self.words.get((offset / WORD) as usize).map_or(0, |word| word.load(Ordering::Relaxed));
            *byte = (word >> (offset % WORD * 8)) as u8;
        }
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
        self.note_write(address, from.len() as u64);
        self.write_beneath(address, from)
    }

    /// Copies to RAM beneath copies of code, which the caller keeps in step.
    ///
    /// # Errors
    /// As `write`.
    pub fn write_beneath(&self, address: GuestPhysAddr, from: &[u8]) -> Result<(), NotRam> {
        let start = self.fill_in(address, from.len() as u64)?;
        let mut words = self.words.get((start / WORD) as usize..).unwrap_or(&[]).iter();
        let (head, body) = from.split_at(from.len().min(head_len(start)));
        if !head.is_empty() {
            merge(words.next().ok_or(NotRam)?, start % WORD, head);
        }
        // The bytes in front of the buffer's first aligned word go before its own, and so on.
        let (carried, rest) = body.split_at(body.len().min(body.as_ptr().align_offset(WORD as usize)));
        let (aligned, _) = rest.split_at(rest.len() & !(WORD as usize - 1));
        let buffer = <[u64]>::ref_from_bytes(aligned).unwrap_or(&[]);
        let (mut low, shift) = (little_endian(carried), carried.len() as u32 * 8);
        if shift == 0 {
            let (places, behind) = words.as_slice().split_at(buffer.len().min(words.len()));
            store_all(places, buffer);
            words = behind.iter();
        } else {
            for (value, word) in buffer.iter().zip(&mut words) {
                word.store(low | value << shift, Ordering::Relaxed);
                low = value >> (64 - shift);
            }
        }
        let (whole, tail) = body.get(buffer.as_bytes().len()..).unwrap_or(&[]).as_chunks::<8>();
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
        self.note_write(address, 2);
        merge(word, address.0 % WORD, &value.to_le_bytes());
        Ok(())
    }
}

/// Loads as many words as both have, eight at a time: most of the rest would be counting.
fn load_all(words: &[AtomicU64], into: &mut [u64]) {
    let (eights, rest) = into.as_chunks_mut::<8>();
    let done = eights.len() * 8;
    for (values, places) in eights.iter_mut().zip(words.as_chunks::<8>().0) {
        for (to, word) in values.iter_mut().zip(places) {
            *to = word.load(Ordering::Relaxed);
        }
    }
    for (to, word) in rest.iter_mut().zip(words.get(done..).unwrap_or(&[])) {
        *to = word.load(Ordering::Relaxed);
    }
}

/// Stores as many words as both have, as `load_all` loads them.
fn store_all(words: &[AtomicU64], from: &[u64]) {
    let (eights, rest) = from.as_chunks::<8>();
    for (values, places) in eights.iter().zip(words.as_chunks::<8>().0) {
        for (value, word) in values.iter().zip(places) {
            word.store(*value, Ordering::Relaxed);
        }
    }
    for (value, word) in rest.iter().zip(words.get(eights.len() * 8..).unwrap_or(&[])) {
        word.store(*value, Ordering::Relaxed);
    }
}

/// Bytes from offset `start` to the next word.
const fn head_len(start: u64) -> usize {
    (start.next_multiple_of(WORD) - start) as usize
}

/// The number that fewer than eight bytes are.
fn little_endian(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte))
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

    /// Every way in which the guest's range and the buffer may be aligned, and every short length.
    #[test]
    fn bytes_arrive_whatever_the_alignments_are() {
        let ram = ram();
        let pattern: Vec<u8> = (0..64).map(|n| n * 3 + 1).collect();
        for (at, skip, len) in
            (0..8u64).flat_map(|at| (0..8).flat_map(move |skip| (0..40).map(move |len| (at, skip, len))))
        {
            let address = BASE.wrapping_add(64 + at);
            ram.write(BASE.wrapping_add(56), &[0xee; 64]).unwrap();
            ram.device_write(address, &pattern[skip..skip + len]).unwrap();
            let mut back = [0; 48];
            let copy = &mut back[skip..skip + len];
            ram.read(address, copy).unwrap();
            assert_eq!(copy, &pattern[skip..skip + len], "at {at}, from {skip}, {len} bytes");
            let around = [address.0 - 1, address.0 + len as u64].map(|around| {
                let mut byte = [0];
                ram.read(GuestPhysAddr(around), &mut byte).unwrap();
                byte[0]
            });
            assert_eq!(around, [0xee; 2], "at {at}, from {skip}, {len} bytes");
        }
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
