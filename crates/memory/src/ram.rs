//! Guest RAM: contiguous host memory that is filled in, block by block, when it is first looked at.
//!
//! A block starts as what the bundle says it holds, or zero, so nothing that was in the memory before can reach
//! the guest (*zeroed-ram*), starting a VM costs next to nothing, and a reset is `forget`. There is no other way to the memory
//! than by guest-physical address, in bounds: *checked-ram*. All accesses are atomic words: other
//! harts run the guest meanwhile. Copying is in `copy`, what devices do in `dma`.

mod copy;
mod dma;

use core::sync::atomic::{AtomicU64, Ordering};

use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::block::Block;
#[cfg(not(target_arch = "riscv64"))]
use crate::host::HartAuthority;
use crate::host::HostWords;
use crate::overlay::{Overlay, RamState};
use crate::{BLOCK_SIZE, GuestPhysAddr, HostPhysAddr, PAGE_SIZE};

#[cfg(test)]
mod tests;

/// Bytes in a word.
const WORD: u64 = 8;

/// A piece of what RAM holds at the start.
#[derive(Clone, Copy, Debug)]
pub struct InitialData {
    /// Where it lies; a multiple of 8.
    pub address: GuestPhysAddr,
    /// What lies there.
    pub words: &'static [u64],
}

/// An address range that is not wholly RAM.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NotRam;

/// A virtual machine's RAM.
#[derive(Debug)]
pub struct GuestRam {
    words: &'static [AtomicU64],
    size: u64,
    guest_base: GuestPhysAddr,
    host_base: HostPhysAddr,
    initial: Vec<InitialData>,
    /// Counts what the hypervisor wrote: see `writes`.
    writes: AtomicU64,
    overlay: Overlay,
}

impl GuestRam {
    /// RAM at `guest_base` made of `words`, of which is said that they lie at `host_base`: for a machine that no hart runs.
    ///
    /// # Panics
    /// As `of`.
    #[cfg(not(target_arch = "riscv64"))]
    pub fn new(
        words: &'static [AtomicU64],
        guest_base: GuestPhysAddr,
        host_base: HostPhysAddr,
        initial: Vec<InitialData>,
    ) -> Self {
        Self::of(HostWords::new(words, host_base, HartAuthority::simulated()), guest_base, initial)
    }

    /// RAM at `guest_base` made of `words`.
    ///
    /// # Panics
    /// Where a base or the size is not a multiple of `BLOCK_SIZE`: the caller allocates it so.
    pub fn of(words: HostWords, guest_base: GuestPhysAddr, mut initial: Vec<InitialData>) -> Self {
        let (words, host_base) = (words.words(), words.at());
        let size = words.len() as u64 * WORD;
        assert!(guest_base.is_aligned(BLOCK_SIZE) && host_base.is_aligned(BLOCK_SIZE), "unaligned guest RAM");
        assert!(size.is_multiple_of(BLOCK_SIZE), "guest RAM is not a whole number of blocks");
        initial.sort_by_key(|piece| piece.address);
        let overlay = Overlay::new(guest_base, size);
        Self { words, size, guest_base, host_base, initial, writes: AtomicU64::new(0), overlay }
    }

    /// Its first address.
    pub fn base(&self) -> GuestPhysAddr {
        self.guest_base
    }

    /// Bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The pages whose code is fetched from copies.
    pub fn overlay(&self) -> &Overlay {
        &self.overlay
    }

    /// Closes the page of `address`, of which `copy` is to be a copy; says whether it could: see `Overlay`.
    pub fn close_page(&self, address: GuestPhysAddr, copy: HostPhysAddr) -> bool {
        self.overlay.close(address, copy)
    }

    /// Lets the code of the page of `address`, which is closed, be fetched from its copy; says whether it is closed.
    pub fn publish_copy(&self, address: GuestPhysAddr) -> bool {
        self.overlay.publish(address)
    }

    /// Lets the code of the page of `address` be fetched from itself again; its copy's address, if it had one. The page stays
    /// closed.
    pub fn unpublish_copy(&self, address: GuestPhysAddr) -> Option<HostPhysAddr> {
        self.overlay.unpublish(address)
    }

    /// Opens the page of `address`, which is closed, and whose code is fetched from itself; says whether it was so.
    pub fn open_page(&self, address: GuestPhysAddr) -> bool {
        self.overlay.open(address)
    }

    /// Opens all pages, watches none, and forgets what was scanned. No hart may run the guest meanwhile.
    pub fn open_all_pages(&self) {
        self.overlay.clear();
    }

    /// Watches the page of `address`: no shadow may map it writable from now on. Says whether it was not watched before.
    pub fn watch_page(&self, address: GuestPhysAddr) -> bool {
        self.overlay.watch(address)
    }

    /// Watches the page of `address` no longer, since it is about to be written; says whether it was watched.
    pub fn unwatch_page(&self, address: GuestPhysAddr) -> bool {
        self.overlay.unwatch(address)
    }

    /// Notes that the page of `address` is about to be scanned: it may be executed, and no shadow that is filled from now on
    /// maps it writable.
    pub fn note_scanned(&self, address: GuestPhysAddr) {
        self.overlay.note_scanned(address);
    }

    /// Lets the page of `address` be stored to, and scanned again before it is executed.
    pub fn forget_scanned(&self, address: GuestPhysAddr) {
        self.overlay.forget_scanned(address);
    }

    /// Lets the page of `address` be executed and stored to without being scanned again, until a copy of it ends.
    pub fn exempt_from_scan(&self, address: GuestPhysAddr) {
        self.overlay.exempt(address);
    }

    /// Its blocks, `BLOCK_SIZE` each.
    pub fn blocks(&self) -> &[Block] {
        self.overlay.blocks()
    }

    /// What the assembly asks of it.
    pub const fn state(&self) -> &Arc<RamState> {
        self.overlay.state()
    }

    /// Where the RAM begins in host memory.
    pub fn host_base(&self) -> HostPhysAddr {
        self.host_base
    }

    /// The page table at `address`, a multiple of the page size, if it is RAM that was looked at before.
    pub fn table(&self, address: GuestPhysAddr) -> Option<&'static [AtomicU64; 512]> {
        let first = address.is_aligned(PAGE_SIZE).then(|| self.present_address(address))??;
        let offset = first.offset_from(self.host_base)?;
        self.words.get((offset / WORD) as usize..)?.first_chunk::<512>()
    }

    /// Whether all `len` bytes from `address` are RAM. An empty range is where its address is, or at the end.
    pub fn contains(&self, address: GuestPhysAddr, len: u64) -> bool {
        self.offset(address, len).is_some()
    }

    /// Where the byte at `address` is in host memory, once its block is filled in.
    pub fn host_address(&self, address: GuestPhysAddr) -> Option<HostPhysAddr> {
        let offset = self.offset(address, 1)?;
        self.populate(offset);
        Some(self.host_base.wrapping_add(offset))
    }

    /// Where the byte at `address` is in host memory, if its block is filled in already.
    pub fn present_address(&self, address: GuestPhysAddr) -> Option<HostPhysAddr> {
        let offset = self.offset(address, 1)?;
        let block = self.blocks().get((offset / BLOCK_SIZE) as usize)?;
        block.is_filled().then(|| self.host_base.wrapping_add(offset))
    }

    /// Whether `address` is in host memory that belongs to this RAM.
    pub fn owns_host(&self, address: HostPhysAddr, len: u64) -> bool {
        address
            .offset_from(self.host_base)
            .and_then(|offset| offset.checked_add(len))
            .is_some_and(|end| end <= self.size())
    }

    /// Whether any page in the `len` bytes at `address` in host memory is watched or has its code fetched from a copy. Slow:
    /// for checks.
    pub fn overlaid(&self, address: HostPhysAddr, len: u64) -> bool {
        let Some(offset) = address.offset_from(self.host_base) else { return false };
        (0..len.div_ceil(PAGE_SIZE))
            .map(|page| self.guest_base.wrapping_add(offset).wrapping_add(page * PAGE_SIZE))
            .any(|page| self.overlay.copy_of(page).is_some() || self.overlay.is_watched(page))
    }

    /// Reads the aligned 64-bit word at `address` in one access; `None` where it is not RAM or not aligned.
    #[inline]
    pub fn read_word(&self, address: GuestPhysAddr) -> Option<u64> {
        Some(self.word(address)?.load(Ordering::Relaxed))
    }

    /// Reads the four bytes at `address`, as an instruction is fetched: `address` is even, and all of them lie in one page.
    /// `None` where that is not so, or it is not RAM.
    #[inline]
    pub fn read_parcels(&self, address: GuestPhysAddr) -> Option<u32> {
        let offset = address.0.wrapping_sub(self.guest_base.0);
        if !offset.is_multiple_of(2) || offset % PAGE_SIZE > PAGE_SIZE - 4 || offset >= self.size {
            return None;
        }
        self.populate(offset);
        let (first, shift) = ((offset / WORD) as usize, offset % WORD * 8);
        let low = self.words.get(first)?.load(Ordering::Relaxed) >> shift;
        if shift <= 32 {
            return Some(low as u32);
        }
        let high = self.words.get(first.wrapping_add(1))?.load(Ordering::Relaxed);
        Some((low | high << (64 - shift)) as u32)
    }

    /// Reads the eight words at `address`, a multiple of 64, each in one access; `None` as for `read_word`.
    pub fn read_words(&self, address: GuestPhysAddr) -> Option<[u64; 8]> {
        if !address.is_aligned(8 * WORD) {
            return None;
        }
        let offset = self.offset(address, 8 * WORD)?;
        self.populate(offset);
        let first = (offset / WORD) as usize;
        let words = self.words.get(first..)?.first_chunk::<8>()?;
        Some(words.each_ref().map(|word| word.load(Ordering::Relaxed)))
    }

    /// Replaces the aligned word at `address` by `new` if it still is `current`; says whether it did. A watched page stays
    /// so: this is how A and D are set in page tables.
    pub fn compare_exchange(&self, address: GuestPhysAddr, current: u64, new: u64) -> Option<bool> {
        let word = self.word(address)?;
        self.overlay.touched_pages(address, WORD).for_each(|page| self.overlay.disturb(page));
        Some(word.compare_exchange(current, new, Ordering::AcqRel, Ordering::Relaxed).is_ok())
    }

    /// Writes the aligned 64-bit word at `address` in one access. For data: harts need no FENCE.I.
    ///
    /// # Errors
    /// Where it is not RAM or not aligned.
    pub fn write_word(&self, address: GuestPhysAddr, value: u64) -> Result<(), NotRam> {
        let word = self.word(address).ok_or(NotRam)?;
        self.note_write(address, WORD);
        word.store(value, Ordering::Release);
        Ok(())
    }

    /// Makes every block its initial self again, lazily. No hart may run the guest meanwhile.
    pub fn forget(&self) {
        self.blocks().iter().for_each(Block::forget);
    }

    /// Notes a write of ours, or a device's, to `len` bytes at `address`.
    #[inline]
    fn note_write(&self, address: GuestPhysAddr, len: u64) {
        if !self.overlay.passes_by(address, len) {
            self.note_touched(address, len);
        }
    }

    #[inline(never)]
    fn note_touched(&self, address: GuestPhysAddr, len: u64) {
        for page in self.overlay.touched_pages(address, len) {
            self.overlay.disturb(page);
            // A page that ran and is written by a device is code and data at once.
            if self.overlay.is_scanned(page) {
                self.exempt_from_scan(page);
            }
            self.unwatch_page(page);
        }
    }

    /// How often the hypervisor wrote here. A hart that sees it change needs a FENCE.I before it runs the guest,
    /// for what was written may be code.
    pub fn writes(&self) -> u64 {
        self.writes.load(Ordering::Acquire)
    }

    /// Makes every hart do a FENCE.I before it runs the guest again, as after a write of ours.
    pub fn note_code_write(&self) {
        self.writes.fetch_add(1, Ordering::Release);
    }

    #[inline]
    fn offset(&self, address: GuestPhysAddr, len: u64) -> Option<u64> {
        let offset = address.offset_from(self.guest_base)?;
        (offset.checked_add(len)? <= self.size).then_some(offset)
    }

    #[inline]
    fn word(&self, address: GuestPhysAddr) -> Option<&AtomicU64> {
        // Below the base it wraps, and is beyond the end, too. The size is a multiple of a word.
        let offset = address.0.wrapping_sub(self.guest_base.0);
        if !address.is_aligned(WORD) || offset >= self.size {
            return None;
        }
        self.word_at(offset)
    }

    #[inline]
    fn word_at(&self, offset: u64) -> Option<&AtomicU64> {
        self.populate(offset);
        self.words.get((offset / WORD) as usize)
    }

    /// The offset of `address`, once all `len` bytes from there are RAM that is filled in.
    fn fill_in(&self, address: GuestPhysAddr, len: u64) -> Result<u64, NotRam> {
        let start = self.offset(address, len).ok_or(NotRam)?;
        let mut at = start;
        while at < start + len {
            self.populate(at);
            at = (at / BLOCK_SIZE + 1) * BLOCK_SIZE;
        }
        Ok(start)
    }

    #[inline(always)]
    fn populate(&self, offset: u64) {
        let Some(block) = self.blocks().get((offset / BLOCK_SIZE) as usize) else { return };
        if !block.is_filled() {
            self.populate_slowly(offset / BLOCK_SIZE, block);
        }
    }

    #[cold]
    fn populate_slowly(&self, number: u64, block: &Block) {
        if !block.begin_filling() {
            // Another hart is at it; it needs no lock of ours to finish.
            while !block.is_filled() {
                core::hint::spin_loop();
            }
            return;
        }
        let start = number * BLOCK_SIZE;
        let end = start + BLOCK_SIZE;
        let mut at = start;
        for piece in &self.initial {
            let Some(first) = piece.address.offset_from(self.guest_base) else { continue };
            let last = first.saturating_add(piece.words.len() as u64 * WORD).min(end);
            let from = first.max(at);
            if from >= last {
                continue;
            }
            self.fill(at, from, &[]);
            let skip = ((from - first) / WORD) as usize;
            self.fill(from, last, piece.words.get(skip..).unwrap_or(&[]));
            at = last;
        }
        self.fill(at, end, &[]);
        self.note_code_write();
        block.end_filling();
    }

    /// Writes `data`, then zeros, to the words at offsets `start..end`.
    fn fill(&self, start: u64, end: u64, data: &[u64]) {
        let words = self.words.get((start / WORD) as usize..(end / WORD) as usize).unwrap_or(&[]);
        let (copied, zeroed) = words.split_at(data.len().min(words.len()));
        // Sixteen at a time: the compiler unrolls no loop of atomic stores, and this one is most of a VM's start.
        let (to, to_rest) = copied.as_chunks::<16>();
        let (from, from_rest) = data.get(..copied.len()).unwrap_or(&[]).as_chunks::<16>();
        for (to, from) in to.iter().zip(from) {
            for (word, value) in to.iter().zip(from) {
                word.store(*value, Ordering::Relaxed);
            }
        }
        for (word, value) in to_rest.iter().zip(from_rest) {
            word.store(*value, Ordering::Relaxed);
        }
        let (chunks, rest) = zeroed.as_chunks::<16>();
        for chunk in chunks {
            for word in chunk {
                word.store(0, Ordering::Relaxed);
            }
        }
        for word in rest {
            word.store(0, Ordering::Relaxed);
        }
    }
}
