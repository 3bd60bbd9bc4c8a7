//! Free host memory against a model: one flag for each page of a small address space.

use memory::extents::TooManyRanges;
use memory::{Extent, Extents, HostPhysAddr, PAGE_SIZE};
use proptest::prelude::*;

const PAGES: usize = 64;
const BASE: u64 = 0x8000_0000;

#[derive(Clone, Debug)]
enum Step {
    Add(usize, usize),
    Remove(usize, usize),
    Allocate(usize, u32),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0..PAGES, 0..PAGES / 4).prop_map(|(first, count)| Step::Add(first, count)),
        (0..PAGES, 0..PAGES / 4).prop_map(|(first, count)| Step::Remove(first, count)),
        (0..8usize, 0..5u32).prop_map(|(count, log)| Step::Allocate(count, log)),
    ]
}

fn extent(first: usize, count: usize) -> Extent {
    Extent::new(address(first), count.min(PAGES - first) as u64 * PAGE_SIZE)
}

fn address(page: usize) -> HostPhysAddr {
    HostPhysAddr(BASE + page as u64 * PAGE_SIZE)
}

/// The first page that an allocation may begin with: as high as it can be in the highest range that has room.
fn place(free: &[bool; PAGES], count: usize, align: usize) -> Option<usize> {
    let fits = |first: usize| first + count <= PAGES && free[first..first + count].iter().all(|free| *free);
    (0..PAGES).rev().find(|first| count > 0 && first.is_multiple_of(align) && fits(*first))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..Default::default() })]

    #[test]
    fn ranges_are_the_pages_that_were_added_and_not_taken(
        steps in prop::collection::vec(step(), 1..40),
    ) {
        let mut extents = Extents::new();
        let mut free = [false; PAGES];
        for step in steps {
            match step {
                Step::Add(first, count) => {
                    extents.add(extent(first, count)).unwrap();
                    free.iter_mut().skip(first).take(count).for_each(|page| *page = true);
                }
                Step::Remove(first, count) => {
                    extents.remove(extent(first, count)).unwrap();
                    free.iter_mut().skip(first).take(count).for_each(|page| *page = false);
                }
                Step::Allocate(count, log) => {
                    let size = count as u64 * PAGE_SIZE;
                    let first = place(&free, count, 1 << log);
                    prop_assert_eq!(extents.allocate(size, PAGE_SIZE << log), first.map(address));
                    if let Some(first) = first {
                        free[first..first + count].fill(false);
                    }
                }
            }
            let ranges: Vec<_> = extents.iter().collect();
            let pages = free.iter().filter(|free| **free).count();
            prop_assert_eq!(extents.total(), pages as u64 * PAGE_SIZE);
            prop_assert!(ranges.iter().all(|range| range.size > 0));
            // With the total, this makes the ranges exactly the free pages.
            prop_assert!(ranges.windows(2).all(|pair| pair[0].end() < pair[1].start), "{:?}", ranges);
            for range in ranges {
                let first = (range.start.0 - BASE) / PAGE_SIZE;
                let count = range.size / PAGE_SIZE;
                prop_assert!((first..first + count).all(|page| free[page as usize]));
            }
        }
    }
}

#[test]
fn a_range_is_cut_off_at_the_end_of_the_address_space() {
    let range = Extent::new(HostPhysAddr(u64::MAX - 10), 100);
    assert_eq!((range.size, range.end()), (10, HostPhysAddr(u64::MAX)));
    assert_eq!(Extent::new(HostPhysAddr(u64::MAX), 1).size, 0);
}

#[test]
fn one_range_too_many_is_refused_and_the_others_stay() {
    let mut extents = Extents::new();
    let mut count = 0;
    let refused = loop {
        match extents.add(Extent::new(HostPhysAddr(count * 2 * PAGE_SIZE), PAGE_SIZE)) {
            Ok(()) => count += 1,
            Err(error) => break error,
        }
    };
    assert_eq!(refused, TooManyRanges);
    assert_eq!(extents.total(), count * PAGE_SIZE);
    // What touches a range needs no place of its own.
    assert_eq!(extents.add(Extent::new(HostPhysAddr(PAGE_SIZE), PAGE_SIZE)), Ok(()));
    assert_eq!(extents.total(), (count + 1) * PAGE_SIZE);
}
