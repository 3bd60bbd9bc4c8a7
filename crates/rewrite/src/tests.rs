use super::*;
use crate::site::instruction;
use crate::store::PATIENCE;
use alloc::vec;
use memory::{BLOCK_SIZE, InitialData};

pub(crate) const BASE: GuestPhysAddr = GuestPhysAddr(0x8000_0000);
const COPIES: HostPhysAddr = HostPhysAddr(0x9000_0000);
/// csrrci a0, sstatus, 2
pub(crate) const SITE: u32 = 0x1001_7573;

pub(crate) fn ram(words: Vec<u64>) -> GuestRam {
    let host: Vec<_> = (0..BLOCK_SIZE / 8).map(|_| AtomicU64::new(0)).collect();
    let initial = vec![InitialData { address: BASE, words: words.leak() }];
    GuestRam::new(host.leak(), BASE, HostPhysAddr(0x4000_0000), initial)
}

pub(crate) fn pages(count: usize) -> CodePages {
    let words: Vec<_> = (0..count * WORDS).map(|_| AtomicU64::new(u64::MAX)).collect();
    CodePages::new(words.leak(), COPIES)
}

pub(crate) fn heat(pages: &mut CodePages, ram: &GuestRam, site: GuestPhysAddr) -> u32 {
    (1..).find(|_| pages.trapped(ram, site, SITE, false, || false) == Change::Remap).unwrap()
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
fn of_a_site_that_a_pages_end_tears_the_first_half_is_replaced() {
    let mut words = vec![0; 513];
    words[511] = u64::from(SITE as u16) << 48;
    words[512] = 0xffff_ffff_0000_0000 | u64::from(SITE >> 16);
    let ram = ram(words);
    let mut pages = pages(1);
    let site = BASE.wrapping_add(0xffe);
    assert_eq!(heat(&mut pages, &ram, site), FIRST_LIMIT);
    assert_eq!(pages.replaced(&ram, site), Some(SITE & 0xffff));
    assert_eq!(pages.replaced(&ram, BASE.wrapping_add(0x1000)), None);
    let copy = ram.overlay().copy_of(site).unwrap();
    let last = |pages: &CodePages| pages.word(copy, site).unwrap().load(Ordering::Relaxed) >> 48;
    assert_eq!(last(&pages), u64::from(BREAKPOINT));
    pages.restore(&ram, site);
    assert_eq!((last(&pages), pages.replaced(&ram, site)), (u64::from(SITE as u16), None));
}

#[test]
fn an_overlapped_site_stays_and_is_asked_about_only_when_its_page_is_hot() {
    let ram = ram(vec![u64::from(SITE)]);
    let mut pages = pages(2);
    for trap in 1..=2 * FIRST_LIMIT {
        let mut asked = false;
        let overlapped = || {
            asked = true;
            true
        };
        assert_eq!(pages.trapped(&ram, BASE, SITE, false, overlapped), Change::None);
        assert_eq!((trap, asked), (trap, trap >= FIRST_LIMIT));
    }
    assert_eq!(ram.overlay().copy_of(BASE), None);
    // Another one in the page is replaced, and this one stays in the copy.
    let other = BASE.wrapping_add(8);
    assert_eq!(pages.trapped(&ram, other, SITE, false, || false), Change::Remap);
    assert_eq!(pages.trapped(&ram, BASE, SITE, false, || true), Change::None);
    assert_eq!(pages.replaced(&ram, BASE), None);
    // But for what the firmware complains of.
    ram.overlay().require_scan();
    assert_eq!(pages.trapped(&ram, BASE, SRET, false, || true), Change::None);
    assert_eq!(pages.replaced(&ram, BASE), Some(SITE));
}

#[test]
fn what_the_firmware_complains_of_is_replaced_the_first_time_that_it_traps() {
    let ram = ram(vec![u64::from(SRET)]);
    let mut pages = pages(2);
    assert_eq!(pages.trapped(&ram, BASE, SRET, false, || false), Change::None, "no firmware complains");
    ram.overlay().require_scan();
    // Where nothing is known of the place, it may be half of another instruction.
    assert_eq!(pages.scan(&ram, BASE, false, || None), Change::Guard);
    assert_eq!(pages.trapped(&ram, BASE, SITE, false, || false), Change::None);
    assert_eq!(pages.trapped(&ram, BASE, SRET, false, || false), Change::Remap);
    assert!(pages.keeps(&ram, BASE) && pages.replaced(&ram, BASE) == Some(SRET));
}

#[test]
fn programs_get_copies_for_what_the_firmware_complains_of_while_kernels_have_as_many() {
    const MRET: u32 = 0x3020_0073;
    let ram = ram(vec![u64::from(MRET); 4096]);
    let mut pages = pages(4);
    let at = |page: u64| BASE.wrapping_add(page * PAGE_SIZE);
    for _ in 0..2 * FIRST_LIMIT {
        assert_eq!(pages.trapped(&ram, at(0), MRET, true, || false), Change::None, "no firmware complains");
    }
    ram.overlay().require_scan();
    assert_eq!(
        pages.trapped(&ram, at(0), SITE, true, || false),
        Change::None,
        "it does not complain of CSR accesses"
    );
    for (page, change) in [(0, Change::Remap), (1, Change::Remap), (2, Change::None)] {
        assert_eq!(pages.trapped(&ram, at(page), MRET, true, || false), change, "{page}");
        assert_eq!(pages.replaced(&ram, at(page)).is_some(), change == Change::Remap, "{page}");
    }
    for (page, change) in [(2, Change::Remap), (3, Change::Remap), (4, Change::None)] {
        assert_eq!(pages.trapped(&ram, at(page), SRET, false, || false), change, "{page}");
    }
    // One that is not of the three kinds does not keep its copy for long.
    (0..PATIENCE).for_each(|_| _ = pages.store(&ram, at(0).wrapping_add(64), &[0; 8]).unwrap());
    assert!(!pages.keeps(&ram, at(0)) && pages.keeps(&ram, at(2)));
}

#[test]
fn what_is_executed_first_in_a_page_is_known_to_be_an_instruction() {
    let ram = ram(vec![u64::from(SRET)]);
    let mut pages = pages(2);
    ram.overlay().require_scan();
    assert_eq!(pages.scan(&ram, BASE, true, || None), Change::Remap);
    assert_eq!(pages.replaced(&ram, BASE), Some(SRET));
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
        assert_eq!(pages.trapped(&ram, BASE.wrapping_add(0x1000), SITE, false, || false), Change::None);
    }
    pages.clear(&ram);
    assert_eq!(heat(&mut pages, &ram, BASE.wrapping_add(0x1000)), 1);
}

/// SRET, which some firmware complains of.
const SRET: u32 = 0x1020_0073;
const NOP: u32 = 0x0000_0013;

/// A page of instructions that was scanned, and what it is made of.
pub(crate) fn scanned(instructions: &[u32]) -> (GuestRam, CodePages) {
    let words = instructions.chunks(2).map(|pair| u64::from(pair[1]) << 32 | u64::from(pair[0])).collect();
    let (ram, mut pages) = (ram(words), pages(2));
    ram.overlay().require_scan();
    assert_eq!(pages.scan(&ram, BASE, false, || None), Change::Remap);
    (ram, pages)
}

/// Asserts that the copy is RAM with breakpoints at these offsets.
fn assert_in_step(ram: &GuestRam, pages: &CodePages, sites: &[u64]) {
    let copy = ram.overlay().copy_of(BASE).unwrap();
    for at in (0..64).step_by(2) {
        let at = BASE.wrapping_add(at);
        let has = parcel(pages.word(copy, at).unwrap().load(Ordering::Relaxed), at);
        let is_site = sites.contains(&at.0.wrapping_sub(BASE.0));
        let wants = if is_site { BREAKPOINT } else { instruction(ram, at).unwrap() as u16 };
        assert_eq!(has, wants, "{at:?}");
        assert_eq!(pages.replaced(ram, at).is_some(), is_site, "{at:?}");
    }
}

#[test]
fn a_store_to_a_page_with_loud_sites_keeps_the_copy_in_step() {
    let (ram, mut pages) = scanned(&[NOP, SRET, NOP, SRET, NOP, SRET, NOP, NOP]);
    assert!(pages.keeps(&ram, BASE.wrapping_add(0x800)) && !pages.keeps(&ram, BASE.wrapping_add(0x1000)));
    assert_in_step(&ram, &pages, &[4, 12, 20]);
    let put = |pages: &mut CodePages, at: u64, bytes: &[u8]| {
        pages.store(&ram, BASE.wrapping_add(at), bytes).unwrap();
        let len = bytes.len() as u64;
        let word = ram.read_word(BASE.wrapping_add(at & !7)).unwrap() >> (8 * (at & 7));
        assert_eq!(
            word & (1u128 << (8 * len)).wrapping_sub(1) as u64,
            bytes.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte))
        );
    };
    // Beside a site, over one, over the second half of one, over the same again, a byte of one, a new one.
    put(&mut pages, 8, &SITE.to_le_bytes());
    assert_in_step(&ram, &pages, &[4, 12, 20]);
    put(&mut pages, 12, &NOP.to_le_bytes());
    assert_in_step(&ram, &pages, &[4, 20]);
    put(&mut pages, 20, &SRET.to_le_bytes());
    assert_in_step(&ram, &pages, &[4, 20]);
    put(&mut pages, 22, &[0x50, 0x10]);
    assert_in_step(&ram, &pages, &[4, 20]);
    put(&mut pages, 22, &[0x00, 0x00]);
    assert_in_step(&ram, &pages, &[4]);
    put(&mut pages, 5, &[0]);
    assert_in_step(&ram, &pages, &[4]);
    put(&mut pages, 4, &[0x13]);
    assert_in_step(&ram, &pages, &[]);
    put(&mut pages, 16, &SRET.to_le_bytes());
    assert_in_step(&ram, &pages, &[16]);
    put(&mut pages, 16, &[0; 8]);
    assert_in_step(&ram, &pages, &[]);
    assert!(!ram.overlay().take_disturbed() && pages.counts().ended == 0);
    assert_eq!(pages.end(&ram, BASE), Some(COPIES));
    assert!(!pages.keeps(&ram, BASE));
}

#[test]
fn a_loud_instruction_that_is_stored_in_pieces_is_replaced() {
    let (ram, mut pages) = scanned(&[NOP, SRET, NOP, NOP]);
    for (at, half) in [(12, SRET as u16), (14, (SRET >> 16) as u16)] {
        assert_eq!(pages.store(&ram, BASE.wrapping_add(at), &half.to_le_bytes()), Ok(None));
    }
    assert_in_step(&ram, &pages, &[4, 12]);
    // Its last byte, and both it and the one in front by one store.
    assert_eq!(pages.store(&ram, BASE.wrapping_add(15), &[0]), Ok(None));
    assert_in_step(&ram, &pages, &[4]);
    assert_eq!(pages.store(&ram, BASE.wrapping_add(15), &[0x10]), Ok(None));
    assert_in_step(&ram, &pages, &[4, 12]);
    assert_eq!(pages.store(&ram, BASE.wrapping_add(8), &[SRET.to_le_bytes(); 2].concat()), Ok(None));
    assert_in_step(&ram, &pages, &[4, 8, 12]);
}

#[test]
fn what_may_be_loud_at_a_pages_start_lets_it_be_scanned_again() {
    let (ram, mut pages) = scanned(&[NOP, SRET, NOP, NOP]);
    for _ in 0..3 * PATIENCE {
        assert_eq!(pages.store(&ram, BASE, &SRET.to_le_bytes()), Ok(Some(COPIES)));
        assert!(ram.overlay().copy_of(BASE).is_none() && !ram.overlay().may_run(BASE));
        assert_eq!(pages.scan(&ram, BASE, true, || None), Change::Remap);
        assert_in_step(&ram, &pages, &[0, 4]);
        assert_eq!(pages.store(&ram, BASE, &NOP.to_le_bytes()), Ok(None));
        assert_in_step(&ram, &pages, &[4]);
    }
}

/// A page without loud instructions that was scanned.
fn guarded() -> (GuestRam, CodePages) {
    let (ram, mut pages) = (ram(vec![u64::from(NOP) << 32 | u64::from(NOP); 512]), pages(2));
    ram.overlay().require_scan();
    assert_eq!(pages.scan(&ram, BASE, true, || None), Change::Guard);
    assert!(ram.overlay().is_guarded(BASE));
    (ram, pages)
}

#[test]
fn a_page_that_is_stored_to_is_scanned_again() {
    let (ram, mut pages) = guarded();
    for _ in 0..3 * PATIENCE {
        assert_eq!(pages.open(&ram, BASE.wrapping_add(8)), ram.host_address(BASE));
        assert!(!ram.overlay().is_guarded(BASE) && !ram.overlay().may_run(BASE));
        assert_eq!(pages.open(&ram, BASE), None);
        ram.write(BASE.wrapping_add(8), &SRET.to_le_bytes()).unwrap();
        assert_eq!(pages.scan(&ram, BASE, false, || None), Change::Remap);
        assert_eq!(pages.end(&ram, BASE), Some(COPIES));
        ram.write(BASE.wrapping_add(8), &NOP.to_le_bytes()).unwrap();
        assert_eq!(pages.scan(&ram, BASE, false, || None), Change::Guard);
    }
}

#[test]
fn a_page_of_code_and_data_is_exempt_from_scanning_after_a_while() {
    let (ram, mut pages) = guarded();
    for _ in 0..PATIENCE {
        assert!(pages.open(&ram, BASE).is_some());
        assert_eq!(pages.scan(&ram, BASE, true, || None), Change::Guard);
    }
    assert_eq!(pages.open(&ram, BASE), None);
    assert!(ram.overlay().may_run(BASE) && !ram.overlay().is_guarded(BASE));
    // Stored to by its own code.
    let (ram, mut pages) = guarded();
    for _ in 0..=PATIENCE {
        assert!(ram.overlay().is_guarded(BASE));
        assert_eq!(pages.store(&ram, BASE.wrapping_add(64), &[1; 8]), Ok(None));
    }
    assert!(ram.overlay().may_run(BASE) && !ram.overlay().is_guarded(BASE));
}

#[test]
fn a_loud_instruction_that_a_pages_own_code_stores_is_found() {
    let (ram, mut pages) = guarded();
    assert_eq!(pages.store(&ram, BASE.wrapping_add(64), &(SRET as u16).to_le_bytes()), Ok(None));
    let high = ((SRET >> 16) as u16).to_le_bytes();
    assert_eq!(pages.store(&ram, BASE.wrapping_add(66), &high), Ok(ram.host_address(BASE)));
    assert_eq!(pages.scan(&ram, BASE.wrapping_add(8), true, || None), Change::Remap);
    assert_in_step(&ram, &pages, &[64]);
}

#[test]
fn a_loud_instruction_at_a_pages_start_is_found_where_the_page_before_ends_whole() {
    let next = BASE.wrapping_add(PAGE_SIZE);
    for (last, is_found) in [(0x0001_0001, true), (0x0013_0001, false), (NOP, true)] {
        let mut words = vec![u64::from(NOP) << 32 | u64::from(NOP); 1024];
        words[511] = u64::from(last) << 32 | u64::from(NOP);
        words[512] = u64::from(SRET);
        let (ram, mut pages) = (ram(words), pages(2));
        ram.overlay().require_scan();
        // Nothing is known of a page that was never filled in.
        ram.write(BASE, &NOP.to_le_bytes()).unwrap();
        let change = pages.scan(&ram, next.wrapping_add(64), true, || Some(BASE));
        assert_eq!(change == Change::Remap, is_found, "{last:#x}");
        assert_eq!(pages.replaced(&ram, next).is_some(), is_found, "{last:#x}");
    }
}

#[test]
fn a_page_that_has_become_data_is_not_kept_for_long() {
    let (ram, mut pages) = scanned(&[NOP, SRET, NOP, SRET]);
    let mut put = |at: u64, bits: u32| {
        assert!(pages.keeps(&ram, BASE));
        pages.store(&ram, BASE.wrapping_add(at), &bits.to_le_bytes()).unwrap();
    };
    // One is left.
    (0..100).for_each(|_| put(4, NOP));
    // A guest that puts it back.
    for _ in 0..100 {
        put(12, NOP);
        put(12, SRET);
    }
    put(12, NOP);
    (0..PATIENCE).for_each(|n| put(16 + 4 * u64::from(n), NOP));
    assert!(!pages.keeps(&ram, BASE));
}

#[test]
fn a_hot_page_without_loud_sites_is_not_kept() {
    let ram = ram(vec![u64::from(SITE)]);
    let mut pages = pages(1);
    heat(&mut pages, &ram, BASE);
    assert!(!pages.keeps(&ram, BASE));
}

proptest::proptest! {
    #[test]
    fn whatever_is_stored_the_copy_stays_in_step(
        stores in proptest::collection::vec((0..56u64, 0..4u32, proptest::sample::select(&[0u64, 0x1020_0073, u64::MAX, 0x1050_0073_1020_0073, 0x0000_9002_9002_0013][..])), 1..40)
    ) {
        let (ram, mut pages) = scanned(&[SRET; 16]);
        let mut bytes: Vec<u8> = [SRET; 16].iter().flat_map(|word| word.to_le_bytes()).collect();
        for (at, size, value) in stores {
            let len = 1usize << size;
            let ended = pages.store(&ram, BASE.wrapping_add(at), &value.to_le_bytes()[..len]).unwrap();
            bytes[at as usize..][..len].copy_from_slice(&value.to_le_bytes()[..len]);
            if let Some(ended) = ended {
                proptest::prop_assert!(ended == COPIES && !ram.overlay().may_run(BASE));
                if pages.scan(&ram, BASE, true, || None) != Change::Remap {
                    return Ok(());
                }
            }
        }
        let Some(copy) = ram.overlay().copy_of(BASE) else { unreachable!("it was kept or made again") };
        for at in (0..62).step_by(2) {
            let place = BASE.wrapping_add(at as u64);
            let bits = u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
            proptest::prop_assert_eq!(instruction(&ram, place), Some(bits));
            let has = parcel(pages.word(copy, place).unwrap().load(Ordering::Relaxed), place);
            match pages.replaced(&ram, place) {
                Some(replaced) => proptest::prop_assert!(replaced == bits && crate::scan::is_loud(bits)),
                None => proptest::prop_assert_eq!(has, bits as u16),
            }
        }
    }
}
