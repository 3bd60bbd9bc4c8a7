//! Which host memory is free: a short sorted list of ranges, without a heap.

use arrayvec::ArrayVec;

use crate::HostPhysAddr;

/// A range of host-physical memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Extent {
    /// Its first byte.
    pub start: HostPhysAddr,
    /// Bytes.
    pub size: u64,
}

impl Extent {
    /// The range of `size` bytes at `start`, cut off at the end of the address space.
    pub const fn new(start: HostPhysAddr, size: u64) -> Self {
        let room = u64::MAX - start.0;
        Self { start, size: if size < room { size } else { room } }
    }

    /// The first address after it.
    pub const fn end(self) -> HostPhysAddr {
        HostPhysAddr(self.start.0 + self.size)
    }
}

/// Whether all of `extent` lies in one of these ranges, and it is not empty. They are sorted and do not overlap.
pub fn covers(ranges: &[Extent], extent: Extent) -> bool {
    let after = ranges.partition_point(|range| range.start <= extent.start);
    let range = after.checked_sub(1).and_then(|last| ranges.get(last));
    extent.size > 0 && range.is_some_and(|range| extent.end() <= range.end())
}

/// Free host memory, in at most `LIMIT` ranges.
#[derive(Clone, Debug, Default)]
pub struct Extents {
    free: ArrayVec<Extent, LIMIT>,
}

const LIMIT: usize = 64;

/// The list of ranges is full.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TooManyRanges;

impl Extents {
    /// Nothing free.
    pub const fn new() -> Self {
        Self { free: ArrayVec::new_const() }
    }

    /// The free ranges, sorted, neither empty nor touching.
    pub fn iter(&self) -> impl Iterator<Item = Extent> + '_ {
        self.free.iter().copied()
    }

    /// Makes a range free. What of it was free already stays so.
    pub fn add(&mut self, extent: Extent) -> Result<(), TooManyRanges> {
        let (mut start, mut end) = (extent.start, extent.end());
        if start == end {
            return Ok(());
        }
        self.free.retain(|other| {
            let apart = other.end() < start || end < other.start;
            if !apart {
                start = start.min(other.start);
                end = end.max(other.end());
            }
            apart
        });
        let at = self.free.partition_point(|other| other.start < start);
        self.free.try_insert(at, Extent { start, size: end.0 - start.0 }).map_err(|_| TooManyRanges)
    }

    /// Takes a range out, free or not.
    pub fn remove(&mut self, extent: Extent) -> Result<(), TooManyRanges> {
        let (start, end) = (extent.start, extent.end());
        let mut tail = None;
        for free in &mut self.free {
            let (first, last) = (free.start, free.end());
            if last <= start || end <= first || start == end {
                continue;
            }
            if first < start {
                free.size = start.0 - first.0;
                if end < last {
                    tail = Some(Extent { start: end, size: last.0 - end.0 });
                }
            } else {
                let kept = end.min(last);
                *free = Extent { start: kept, size: last.0 - kept.0 };
            }
        }
        self.free.retain(|free| free.size > 0);
        tail.map_or(Ok(()), |tail| self.add(tail))
    }

    /// Takes `size` bytes at a multiple of `align`, a power of two, from the highest range that has them: low memory
    /// is what firmware and devices want. `None` where no range has room.
    pub fn allocate(&mut self, size: u64, align: u64) -> Option<HostPhysAddr> {
        let start = self.free.iter().rev().find_map(|free| {
            let start = HostPhysAddr(free.end().0.checked_sub(size)?).align_down(align);
            (start >= free.start && size > 0).then_some(start)
        })?;
        self.remove(Extent { start, size }).ok()?;
        Some(start)
    }

    /// Free bytes.
    pub fn total(&self) -> u64 {
        self.free.iter().fold(0, |sum, free| sum + free.size)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    fn extent(start: u64, end: u64) -> Extent {
        Extent::new(HostPhysAddr(start), end - start)
    }

    fn ranges(extents: &Extents) -> Vec<(u64, u64)> {
        extents.iter().map(|e| (e.start.0, e.end().0)).collect()
    }

    /// *shared-dma*
    #[test]
    fn only_what_lies_in_one_range_is_covered() {
        let ranges = [extent(0x1000, 0x3000), extent(0x3000, 0x4000), extent(0x8000, 0x9000)];
        for (start, end) in [(0x1000, 0x3000), (0x2fff, 0x3000), (0x3000, 0x3001), (0x8000, 0x9000)] {
            assert!(covers(&ranges, extent(start, end)), "{start:x} to {end:x}");
        }
        for (start, end) in
            [(0xfff, 0x1001), (0x2fff, 0x3001), (0x1000, 0x1000), (0x4000, 0x4001), (0x8fff, 0x9001), (0, 1)]
        {
            assert!(!covers(&ranges, extent(start, end)), "{start:x} to {end:x}");
        }
        assert!(!covers(&ranges, Extent::new(HostPhysAddr(0x8000), u64::MAX)));
        assert!(!covers(&[], extent(0x1000, 0x2000)));
    }

    #[test]
    fn touching_ranges_become_one() {
        let mut free = Extents::new();
        free.add(extent(0x1000, 0x2000)).unwrap();
        free.add(extent(0x4000, 0x5000)).unwrap();
        free.add(extent(0x2000, 0x4000)).unwrap();
        assert_eq!(ranges(&free), [(0x1000, 0x5000)]);
    }

    #[test]
    fn a_hole_splits_a_range() {
        let mut free = Extents::new();
        free.add(extent(0x1000, 0x9000)).unwrap();
        free.remove(extent(0x3000, 0x4000)).unwrap();
        assert_eq!(ranges(&free), [(0x1000, 0x3000), (0x4000, 0x9000)]);
        free.remove(extent(0, 0x8000)).unwrap();
        assert_eq!(ranges(&free), [(0x8000, 0x9000)]);
    }

    #[test]
    fn allocation_is_aligned_and_from_the_top() {
        let mut free = Extents::new();
        free.add(extent(0x1000, 0x9800)).unwrap();
        assert_eq!(free.allocate(0x1000, 0x4000), Some(HostPhysAddr(0x8000)));
        assert_eq!(free.allocate(0x1000, 0x4000), Some(HostPhysAddr(0x4000)));
        assert_eq!(free.allocate(0x1000, 0x4000), None);
        assert_eq!(free.total(), 0x9800 - 0x1000 - 0x2000);
    }

    #[test]
    fn more_than_there_is_cannot_be_had() {
        let mut free = Extents::new();
        free.add(extent(0x1000, 0x2000)).unwrap();
        assert_eq!(free.allocate(u64::MAX, 1), None);
        assert_eq!(free.allocate(0, 1), None);
    }
}
