//! The frame allocator: hands out physical pages, one at a time.
//!
//! Frames never used are a range with a moving start, so that boot need not touch all of memory; frames given
//! back form a list, each holding the address of the next. What a frame is used for is its owner's business.

use super::PAGE;
use crate::machine::Reserved;
use core::ops::Range;

/// A physical page, owned: whoever holds it may use its bytes. Physical and kernel-virtual addresses are the
/// same (see `table`), so its address is also a pointer.
#[derive(Debug)]
pub struct Frame(u64);

impl Frame {
    /// Its physical address.
    pub fn address(&self) -> u64 {
        self.0
    }

    /// Gives the frame up for its address, to be kept in a page-table entry.
    pub fn into_address(self) -> u64 {
        self.0
    }

    /// The frame that [`into_address`](Self::into_address) gave up.
    ///
    /// # Safety
    /// `address` came from there, and nobody uses that frame any more.
    pub unsafe fn from_address(address: u64) -> Self {
        Self(address)
    }

    /// Its bytes.
    pub fn bytes_mut(&mut self) -> &mut [u8; PAGE as usize] {
        // SAFETY: it is RAM, mapped one to one, and `self` is its only owner.
        unsafe { &mut *(self.0 as *mut [u8; PAGE as usize]) }
    }
}

/// All frames after the kernel's image.
pub struct Frames {
    /// Never used so far.
    fresh: Range<u64>,
    /// Ranges to be left out, sorted by their start.
    reserved: Reserved,
    /// The first of the frames given back, 0 for none; its first eight bytes hold the next.
    returned: u64,
    /// Frames in use.
    used: usize,
    /// Frames that can be in use.
    total: usize,
}

impl Frames {
    /// The frames in `memory` but for those that `reserved` touches.
    ///
    /// # Safety
    /// Nothing else uses that memory, and it is mapped one to one whenever a frame's bytes are used.
    pub unsafe fn new(memory: Range<u64>, mut reserved: Reserved) -> Self {
        reserved.sort_unstable_by_key(|range| range.start);
        let fresh = memory.start.next_multiple_of(PAGE)..memory.end & !(PAGE - 1);
        let mut frames = Self { fresh, reserved, returned: 0, used: 0, total: 0 };
        frames.total = frames.count_fresh();
        frames
    }

    /// Takes a frame, filled with zeros. `None` when there is none left.
    pub fn take(&mut self) -> Option<Frame> {
        let mut frame = Frame(self.pop_returned().or_else(|| self.pop_fresh())?);
        // What the last owner left must not be seen by the next.
        frame.bytes_mut().fill(0);
        self.used += 1;
        Some(frame)
    }

    /// Gives a frame back.
    pub fn give_back(&mut self, frame: Frame) {
        // SAFETY: the frame is RAM, mapped one to one, and from now on the allocator's own.
        unsafe { (frame.0 as *mut u64).write(self.returned) };
        self.returned = frame.into_address();
        self.used -= 1;
    }

    /// Frames in use.
    pub fn used(&self) -> usize {
        self.used
    }

    /// Frames in use or free.
    pub fn total(&self) -> usize {
        self.total
    }

    fn pop_returned(&mut self) -> Option<u64> {
        if self.returned == 0 {
            return None;
        }
        let address = self.returned;
        // SAFETY: `give_back` wrote the next one's address there, and nobody else touched the frame since.
        self.returned = unsafe { (address as *const u64).read() };
        Some(address)
    }

    fn pop_fresh(&mut self) -> Option<u64> {
        while self.fresh.start < self.fresh.end {
            let address = self.fresh.start;
            let page = address..address + PAGE;
            match self.reserved.iter().find(|range| overlap(range, &page)) {
                Some(range) => self.fresh.start = range.end.next_multiple_of(PAGE),
                None => {
                    self.fresh.start = page.end;
                    return Some(address);
                }
            }
        }
        None
    }

    /// How many frames `pop_fresh` will give.
    fn count_fresh(&self) -> usize {
        let (mut count, mut at) = (0, self.fresh.start);
        for range in self.reserved.iter().filter(|range| overlap(range, &self.fresh)) {
            count += (range.start & !(PAGE - 1)).saturating_sub(at) / PAGE;
            at = at.max(range.end.next_multiple_of(PAGE));
        }
        (count + self.fresh.end.saturating_sub(at) / PAGE) as usize
    }
}

fn overlap(a: &Range<u64>, b: &Range<u64>) -> bool {
    a.start < b.end && b.start < a.end
}
