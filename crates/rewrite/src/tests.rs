use super::*;
use alloc::vec;
use memory::{BLOCK_SIZE, InitialData};

const BASE: GuestPhysAddr = GuestPhysAddr(0x8000_0000);
const COPIES: HostPhysAddr = HostPhysAddr(0x9000_0000);
/// csrrci a0, sstatus, 2
const SITE: u32 = 0x1001_7573;

fn ram(words: Vec<u64>) -> GuestRam {
    let host: Vec<_> = (0..BLOCK_SIZE / 8).map(|_| AtomicU64::new(0)).collect();
    let initial = vec![InitialData { address: BASE, words: words.leak() }];
    GuestRam::new(host.leak(), BASE, HostPhysAddr(0x4000_0000), initial)
}

fn pages(count: usize) -> CodePages {
    let words: Vec<_> = (0..count * WORDS).map(|_| AtomicU64::new(u64::MAX)).collect();
    CodePages::new(words.leak(), COPIES)
}

fn heat(pages: &mut CodePages, ram: &GuestRam, site: GuestPhysAddr) -> u32 {
    (1..).find(|_| pages.trapped(ram, site) == Change::Remap).unwrap()
}

#[test]
fn a_page_is_copied_when_it_is_hot_and_its_site_becomes_a_breakpoint() {
    let ram = ram(vec![u64::from(SITE) << 32 | 0x1234, 0x5678]);
    let mut pages = pages(2);
    let site = BASE.wrapping_add(4);
    assert_eq!(heat(&mut pages, &ram, site), FIRST_LIMIT);
    let copy = ram.overlay().copy_of(site).unwrap();
    assert!(pages.owns_host(copy));
    let word = pages.word(copy, site).unwrap().load(Ordering::Relaxed);
    assert_eq!(word >> 32 & 0xffff, u64::from(BREAKPOINT));
    assert_eq!(word >> 48, u64::from(SITE >> 16), "a jump to the middle finds the original");
    assert_eq!(word as u32, 0x1234);
    assert_eq!(pages.replaced(&ram, site), Some(SITE));
    assert_eq!(ram.read_word(BASE), Some(u64::from(SITE) << 32 | 0x1234), "RAM is as it was");
}

#[test]
fn a_guests_own_breakpoint_is_its_own() {
    let ram = ram(vec![u64::from(SITE) << 32 | u64::from(BREAKPOINT) << 16 | u64::from(BREAKPOINT)]);
    let mut pages = pages(1);
    heat(&mut pages, &ram, BASE.wrapping_add(4));
    assert_eq!(pages.replaced(&ram, BASE), None);
    assert_eq!(pages.replaced(&ram, BASE.wrapping_add(2)), None);
    assert_eq!(pages.replaced(&ram, BASE.wrapping_add(0x1000)), None);
}

#[test]
fn a_site_that_crosses_a_page_is_left_alone() {
    let ram = ram(vec![]);
    let mut pages = pages(1);
    for _ in 0..2 * FIRST_LIMIT {
        assert_eq!(pages.trapped(&ram, BASE.wrapping_add(0xffe)), Change::None);
    }
}

#[test]
fn each_store_to_a_copied_page_doubles_the_patience() {
    let ram = ram(vec![u64::from(SITE)]);
    let mut pages = pages(1);
    for round in 0..4 {
        assert_eq!(heat(&mut pages, &ram, BASE), FIRST_LIMIT << round);
        assert!(pages.end(&ram, BASE.wrapping_add(0x800)).is_some());
        assert_eq!(pages.end(&ram, BASE), None);
        assert_eq!(ram.overlay().copy_of(BASE), None);
    }
    assert_eq!(pages.counts(), Counts { copies: 4, sites: 4, ended: 4 });
}

#[test]
fn without_room_nothing_is_rewritten() {
    let ram = ram(vec![u64::from(SITE); 1024]);
    let mut pages = pages(1);
    heat(&mut pages, &ram, BASE);
    for _ in 0..2 * FIRST_LIMIT {
        assert_eq!(pages.trapped(&ram, BASE.wrapping_add(0x1000)), Change::None);
    }
    pages.clear(&ram);
    assert_eq!(heat(&mut pages, &ram, BASE.wrapping_add(0x1000)), 1);
}
