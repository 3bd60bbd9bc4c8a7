use super::*;
use crate::copies::{BREAKPOINT, PATIENCE, WORDS};
use crate::heat::FIRST_LIMIT;
use crate::site::instruction;
use alloc::vec;
use alloc::vec::Vec;
use memory::{BLOCK_SIZE, GuestPhysAddr, InitialData, NotRam, PAGE_SIZE};

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

/// What is to be done, but for the round that has begun with it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Done {
    Nothing,
    Remap,
    Guard,
    ForgetSites,
    Drop(HostPhysAddr),
    DropAll,
}

/// A guest's only vCPU: it does at once what it is told.
pub(crate) trait Vcpu {
    fn does(&mut self, ram: &GuestRam, change: Change) -> Done;
    fn trap(&mut self, ram: &GuestRam, site: GuestPhysAddr, bits: u32, is_user: bool) -> Done;
    fn fetch(
        &mut self,
        ram: &GuestRam,
        address: GuestPhysAddr,
        is_entry: bool,
        before: Option<GuestPhysAddr>,
    ) -> Done;
    fn end(&mut self, ram: &GuestRam, address: GuestPhysAddr) -> Done;
    fn put(&mut self, ram: &GuestRam, address: GuestPhysAddr, bytes: &[u8]) -> Result<Done, NotRam>;
    fn keeps(&self, ram: &GuestRam, address: GuestPhysAddr) -> bool;
}

impl Vcpu for CodePages {
    fn does(&mut self, ram: &GuestRam, change: Change) -> Done {
        let (done, round) = match change {
            Change::None => (Done::Nothing, None),
            Change::Remap(round) => (Done::Remap, round),
            Change::Guard(round) => (Done::Guard, round),
            Change::ForgetSites => (Done::ForgetSites, None),
            Change::Drop(host, round) => (Done::Drop(host), Some(round)),
            Change::DropAll(round) => (Done::DropAll, Some(round)),
        };
        assert!(round.is_none_or(|round| self.acknowledge(ram, 0, round)), "nothing is left over");
        done
    }

    fn trap(&mut self, ram: &GuestRam, site: GuestPhysAddr, bits: u32, is_user: bool) -> Done {
        let change = self.trapped(ram, 0, Trapped { site, bits, is_user }, || false);
        self.does(ram, change)
    }

    fn fetch(
        &mut self,
        ram: &GuestRam,
        address: GuestPhysAddr,
        is_entry: bool,
        before: Option<GuestPhysAddr>,
    ) -> Done {
        let change = self.scan(ram, 0, address, is_entry, || before);
        self.does(ram, change)
    }

    fn end(&mut self, ram: &GuestRam, address: GuestPhysAddr) -> Done {
        let change = self.make_way(ram, address, || false);
        self.does(ram, change)
    }

    fn put(&mut self, ram: &GuestRam, address: GuestPhysAddr, bytes: &[u8]) -> Result<Done, NotRam> {
        let change = self.store(ram, address, bytes)?;
        Ok(self.does(ram, change))
    }

    fn keeps(&self, ram: &GuestRam, address: GuestPhysAddr) -> bool {
        self.carries_out(ram, address, || false)
    }
}

pub(crate) fn heat(pages: &mut CodePages, ram: &GuestRam, site: GuestPhysAddr) -> u32 {
    (1..).find(|_| pages.trap(ram, site, SITE, false) == Done::Remap).unwrap()
}

fn is_guarded(ram: &GuestRam) -> bool {
    !ram.overlay().rule(BASE).writable
}

fn parcel_of_copy(pages: &CodePages, copy: HostPhysAddr, at: GuestPhysAddr) -> u16 {
    pages.copies.parcel(copy, at).unwrap()
}

#[test]
fn a_page_is_copied_when_it_is_hot_and_its_site_becomes_a_breakpoint() {
    let ram = ram(vec![u64::from(SITE) << 32 | 0x1234, 0x5678]);
    let mut pages = pages(2);
    let site = BASE.wrapping_add(4);
    assert_eq!(heat(&mut pages, &ram, site), FIRST_LIMIT);
    let copy = ram.overlay().copy_of(site).unwrap();
    let parcels = [0, 2, 4, 6].map(|at| parcel_of_copy(&pages, copy, BASE.wrapping_add(at)));
    // A jump to the middle finds the original.
    assert_eq!(parcels, [0x1234, 0, BREAKPOINT, (SITE >> 16) as u16]);
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
    assert_eq!(parcel_of_copy(&pages, copy, site), BREAKPOINT);
    pages.restore(&ram, site);
    assert_eq!((parcel_of_copy(&pages, copy, site), pages.replaced(&ram, site)), (SITE as u16, None));
}

#[test]
fn an_overlapped_site_stays_and_is_asked_about_only_when_its_page_is_hot() {
    let ram = ram(vec![u64::from(SITE)]);
    let mut pages = pages(2);
    let trapped = |site, bits| Trapped { site, bits, is_user: false };
    for trap in 1..=2 * FIRST_LIMIT {
        let mut asked = false;
        let overlapped = || {
            asked = true;
            true
        };
        assert_eq!(pages.trapped(&ram, 0, trapped(BASE, SITE), overlapped), Change::None);
        assert_eq!((trap, asked), (trap, trap >= FIRST_LIMIT));
    }
    assert_eq!(ram.overlay().copy_of(BASE), None);
    // Another one in the page is replaced, and this one stays in the copy.
    assert_eq!(pages.trap(&ram, BASE.wrapping_add(8), SITE, false), Done::Remap);
    assert_eq!(pages.trapped(&ram, 0, trapped(BASE, SITE), || true), Change::None);
    assert_eq!(pages.replaced(&ram, BASE), None);
    // But for what the firmware complains of.
    ram.overlay().require_scan();
    assert_eq!(pages.trapped(&ram, 0, trapped(BASE, SRET), || true), Change::None);
    assert_eq!(pages.replaced(&ram, BASE), Some(SITE));
}

#[test]
fn what_the_firmware_complains_of_is_replaced_the_first_time_that_it_traps() {
    let ram = ram(vec![u64::from(SRET)]);
    let mut pages = pages(2);
    assert_eq!(pages.trap(&ram, BASE, SRET, false), Done::Nothing, "no firmware complains");
    ram.overlay().require_scan();
    // Where nothing is known of the place, it may be half of another instruction.
    assert_eq!(pages.fetch(&ram, BASE, false, None), Done::Guard);
    assert_eq!(pages.trap(&ram, BASE, SITE, false), Done::Nothing);
    assert_eq!(pages.trap(&ram, BASE, SRET, false), Done::Remap);
    assert!(pages.keeps(&ram, BASE) && pages.replaced(&ram, BASE) == Some(SRET));
}

#[test]
fn programs_get_copies_for_what_the_firmware_complains_of_while_kernels_have_as_many() {
    const MRET: u32 = 0x3020_0073;
    let ram = ram(vec![u64::from(MRET); 4096]);
    let mut pages = pages(4);
    let at = |page: u64| BASE.wrapping_add(page * PAGE_SIZE);
    for _ in 0..2 * FIRST_LIMIT {
        assert_eq!(pages.trap(&ram, at(0), MRET, true), Done::Nothing, "no firmware complains");
    }
    ram.overlay().require_scan();
    assert_eq!(pages.trap(&ram, at(0), SITE, true), Done::Nothing, "it does not complain of CSR accesses");
    for (page, change) in [(0, Done::Remap), (1, Done::Remap), (2, Done::Nothing)] {
        assert_eq!(pages.trap(&ram, at(page), MRET, true), change, "{page}");
        assert_eq!(pages.replaced(&ram, at(page)).is_some(), change == Done::Remap, "{page}");
    }
    for (page, change) in [(2, Done::Remap), (3, Done::Remap), (4, Done::Nothing)] {
        assert_eq!(pages.trap(&ram, at(page), SRET, false), change, "{page}");
    }
    // One that is not of the three kinds does not keep its copy for long.
    (0..PATIENCE).for_each(|_| _ = pages.put(&ram, at(0).wrapping_add(64), &[0; 8]).unwrap());
    assert!(!pages.keeps(&ram, at(0)) && pages.keeps(&ram, at(2)));
}

#[test]
fn what_is_executed_first_in_a_page_is_known_to_be_an_instruction() {
    let ram = ram(vec![u64::from(SRET)]);
    let mut pages = pages(2);
    ram.overlay().require_scan();
    assert_eq!(pages.fetch(&ram, BASE, true, None), Done::Remap);
    assert_eq!(pages.replaced(&ram, BASE), Some(SRET));
}

#[test]
fn each_store_to_a_copied_page_doubles_the_patience() {
    let ram = ram(vec![u64::from(SITE)]);
    let mut pages = pages(1);
    for round in 0..4 {
        assert_eq!(heat(&mut pages, &ram, BASE), FIRST_LIMIT << round);
        assert_eq!(pages.end(&ram, BASE.wrapping_add(0x800)), Done::Drop(COPIES));
        assert_eq!(pages.end(&ram, BASE), Done::Nothing);
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
        assert_eq!(pages.trap(&ram, BASE.wrapping_add(0x1000), SITE, false), Done::Nothing);
    }
    pages.reset(&ram);
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
    assert_eq!(pages.fetch(&ram, BASE, false, None), Done::Remap);
    (ram, pages)
}

/// Asserts that the copy is RAM with breakpoints at these offsets.
fn assert_in_step(ram: &GuestRam, pages: &CodePages, sites: &[u64]) {
    let copy = ram.overlay().copy_of(BASE).unwrap();
    for at in (0..64).step_by(2) {
        let at = BASE.wrapping_add(at);
        let has = parcel_of_copy(pages, copy, at);
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
        pages.put(&ram, BASE.wrapping_add(at), bytes).unwrap();
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
    assert_eq!(pages.end(&ram, BASE), Done::Drop(COPIES));
    assert!(!pages.keeps(&ram, BASE));
}

#[test]
fn a_loud_instruction_that_is_stored_in_pieces_is_replaced() {
    let (ram, mut pages) = scanned(&[NOP, SRET, NOP, NOP]);
    for (at, half) in [(12, SRET as u16), (14, (SRET >> 16) as u16)] {
        assert_eq!(pages.put(&ram, BASE.wrapping_add(at), &half.to_le_bytes()), Ok(Done::ForgetSites));
    }
    assert_in_step(&ram, &pages, &[4, 12]);
    // Its last byte, and both it and the one in front by one store.
    assert_eq!(pages.put(&ram, BASE.wrapping_add(15), &[0]), Ok(Done::ForgetSites));
    assert_in_step(&ram, &pages, &[4]);
    assert_eq!(pages.put(&ram, BASE.wrapping_add(15), &[0x10]), Ok(Done::ForgetSites));
    assert_in_step(&ram, &pages, &[4, 12]);
    assert_eq!(
        pages.put(&ram, BASE.wrapping_add(8), &[SRET.to_le_bytes(); 2].concat()),
        Ok(Done::ForgetSites)
    );
    assert_in_step(&ram, &pages, &[4, 8, 12]);
}

#[test]
fn what_may_be_loud_at_a_pages_start_lets_it_be_scanned_again() {
    let (ram, mut pages) = scanned(&[NOP, SRET, NOP, NOP]);
    for _ in 0..3 * PATIENCE {
        assert_eq!(pages.put(&ram, BASE, &SRET.to_le_bytes()), Ok(Done::Drop(COPIES)));
        assert!(ram.overlay().copy_of(BASE).is_none() && !ram.overlay().may_run(BASE));
        assert_eq!(pages.fetch(&ram, BASE, true, None), Done::Remap);
        assert_in_step(&ram, &pages, &[0, 4]);
        assert_eq!(pages.put(&ram, BASE, &NOP.to_le_bytes()), Ok(Done::ForgetSites));
        assert_in_step(&ram, &pages, &[4]);
    }
}

/// A page without loud instructions that was scanned.
fn guarded() -> (GuestRam, CodePages) {
    let (ram, mut pages) = (ram(vec![u64::from(NOP) << 32 | u64::from(NOP); 512]), pages(2));
    ram.overlay().require_scan();
    assert_eq!(pages.fetch(&ram, BASE, true, None), Done::Guard);
    assert!(is_guarded(&ram));
    (ram, pages)
}

#[test]
fn a_page_that_is_stored_to_is_scanned_again() {
    let (ram, mut pages) = guarded();
    for _ in 0..3 * PATIENCE {
        assert_eq!(pages.end(&ram, BASE.wrapping_add(8)), Done::Drop(ram.host_address(BASE).unwrap()));
        assert!(!is_guarded(&ram) && !ram.overlay().may_run(BASE));
        assert_eq!(pages.end(&ram, BASE), Done::Nothing);
        ram.write(BASE.wrapping_add(8), &SRET.to_le_bytes()).unwrap();
        assert_eq!(pages.fetch(&ram, BASE, false, None), Done::Remap);
        assert_eq!(pages.end(&ram, BASE), Done::Drop(COPIES));
        ram.write(BASE.wrapping_add(8), &NOP.to_le_bytes()).unwrap();
        assert_eq!(pages.fetch(&ram, BASE, false, None), Done::Guard);
    }
}

#[test]
fn a_page_of_code_and_data_is_exempt_from_scanning_after_a_while() {
    let (ram, mut pages) = guarded();
    for _ in 0..PATIENCE {
        assert!(pages.end(&ram, BASE) != Done::Nothing);
        assert_eq!(pages.fetch(&ram, BASE, true, None), Done::Guard);
    }
    assert_eq!(pages.end(&ram, BASE), Done::Nothing);
    assert!(ram.overlay().may_run(BASE) && !is_guarded(&ram));
    // Stored to by its own code.
    let (ram, mut pages) = guarded();
    for _ in 0..=PATIENCE {
        assert!(is_guarded(&ram));
        assert_eq!(pages.put(&ram, BASE.wrapping_add(64), &[1; 8]), Ok(Done::ForgetSites));
    }
    assert!(ram.overlay().may_run(BASE) && !is_guarded(&ram));
}

#[test]
fn a_loud_instruction_that_a_pages_own_code_stores_is_found() {
    let (ram, mut pages) = guarded();
    assert_eq!(pages.put(&ram, BASE.wrapping_add(64), &(SRET as u16).to_le_bytes()), Ok(Done::ForgetSites));
    let high = ((SRET >> 16) as u16).to_le_bytes();
    assert_eq!(
        pages.put(&ram, BASE.wrapping_add(66), &high),
        Ok(Done::Drop(ram.host_address(BASE).unwrap()))
    );
    assert_eq!(pages.fetch(&ram, BASE.wrapping_add(8), true, None), Done::Remap);
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
        let change = pages.fetch(&ram, next.wrapping_add(64), true, Some(BASE));
        assert_eq!(change == Done::Remap, is_found, "{last:#x}");
        assert_eq!(pages.replaced(&ram, next).is_some(), is_found, "{last:#x}");
    }
}

#[test]
fn a_page_that_has_become_data_is_not_kept_for_long() {
    let (ram, mut pages) = scanned(&[NOP, SRET, NOP, SRET]);
    let mut put = |at: u64, bits: u32| {
        assert!(pages.keeps(&ram, BASE));
        pages.put(&ram, BASE.wrapping_add(at), &bits.to_le_bytes()).unwrap();
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
            let ended = pages.put(&ram, BASE.wrapping_add(at), &value.to_le_bytes()[..len]).unwrap();
            bytes[at as usize..][..len].copy_from_slice(&value.to_le_bytes()[..len]);
            if ended != Done::ForgetSites {
                proptest::prop_assert!(ended == Done::Drop(COPIES) && !ram.overlay().may_run(BASE));
                if pages.fetch(&ram, BASE, true, None) != Done::Remap {
                    return Ok(());
                }
            }
        }
        let Some(copy) = ram.overlay().copy_of(BASE) else { unreachable!("it was kept or made again") };
        for at in (0..62).step_by(2) {
            let place = BASE.wrapping_add(at as u64);
            let bits = u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
            proptest::prop_assert_eq!(instruction(&ram, place), Some(bits));
            let has = parcel_of_copy(&pages, copy, place);
            match pages.replaced(&ram, place) {
                Some(replaced) => proptest::prop_assert!(replaced == bits && crate::scan::is_loud(bits)),
                None => proptest::prop_assert_eq!(has, bits as u16),
            }
        }
    }
}

/// A guest of two vCPUs, with a page of sites; the second one does nothing by itself.
fn of_two() -> (GuestRam, CodePages) {
    let mut pages = pages(2);
    pages.set_vcpus(2);
    (ram(vec![u64::from(SITE); 512]), pages)
}

/// The second vCPU looks at its letters.
fn answer(pages: &CodePages) {
    pages.rounds().answer(1, pages.rounds().last());
}

#[test]
fn a_page_gets_its_copy_when_all_vcpus_have_dropped_what_writes_to_it() {
    let (ram, mut pages) = of_two();
    assert!((1..FIRST_LIMIT).all(|_| pages.trap(&ram, BASE, SITE, false) == Done::Nothing));
    for _ in 0..3 {
        assert_eq!(pages.trap(&ram, BASE, SITE, false), Done::Guard);
        assert!(is_guarded(&ram) && ram.overlay().copy_of(BASE).is_none());
    }
    answer(&pages);
    assert_eq!(pages.trap(&ram, BASE, SITE, false), Done::Remap);
    assert_eq!((pages.replaced(&ram, BASE), pages.counts().copies), (Some(SITE), 1));
}

#[test]
fn a_store_to_a_page_that_is_closing_opens_it() {
    let (ram, mut pages) = of_two();
    while pages.trap(&ram, BASE, SITE, false) != Done::Guard {}
    assert_eq!((pages.copies.free(), pages.end(&ram, BASE)), (1, Done::Nothing));
    assert!(!is_guarded(&ram) && pages.copies.free() == 2);
    // So does one of the hypervisor's own.
    assert_eq!(pages.trap(&ram, BASE, SITE, false), Done::Guard);
    ram.write(BASE, &[1]).unwrap();
    assert!(ram.overlay().take_disturbed());
    let change = pages.end_all(&ram);
    assert_eq!(pages.does(&ram, change), Done::DropAll);
    assert!(!is_guarded(&ram) && pages.copies.free() == 2 && pages.counts() == Counts::default());
}

#[test]
fn a_copy_is_free_and_its_page_stored_to_when_all_vcpus_have_dropped_what_leads_to_it() {
    for by_us in [false, true] {
        let (ram, mut pages) = of_two();
        while pages.trap(&ram, BASE, SITE, false) != Done::Guard {}
        answer(&pages);
        assert_eq!(pages.trap(&ram, BASE, SITE, false), Done::Remap);
        if by_us {
            let change = pages.end_all(&ram);
            assert_eq!(pages.does(&ram, change), Done::DropAll);
        } else {
            assert_eq!(pages.end(&ram, BASE), Done::Drop(COPIES));
        }
        // The store is tried again.
        assert_eq!(pages.end(&ram, BASE), Done::Nothing);
        assert!(is_guarded(&ram) && ram.overlay().copy_of(BASE).is_none() && pages.copies.free() == 1);
        // Nor does it get another copy meanwhile.
        assert_eq!(pages.trap(&ram, BASE, SITE, false), Done::Nothing);
        answer(&pages);
        assert_eq!(pages.end(&ram, BASE), Done::Nothing);
        assert!(!is_guarded(&ram) && pages.copies.free() == 2);
    }
}

#[test]
fn a_vcpu_that_has_letters_left_drops_everything() {
    let (ram, mut pages) = of_two();
    while pages.trap(&ram, BASE, SITE, false) != Done::Guard {}
    let Change::Guard(Some(round)) = (0..)
        .map(|_| {
            pages.trapped(
                &ram,
                1,
                Trapped { site: BASE.wrapping_add(PAGE_SIZE), bits: SITE, is_user: false },
                || false,
            )
        })
        .find(|change| *change != Change::None)
        .unwrap()
    else {
        panic!("the first one has not answered")
    };
    assert!(!pages.acknowledge(&ram, 1, round), "it has not answered the first round");
    answer(&pages);
    assert!(pages.acknowledge(&ram, 1, round) && pages.acknowledge(&ram, 0, round));
    // A reset leaves nothing to be answered.
    pages.end(&ram, BASE);
    pages.reset(&ram);
    assert!(pages.rounds().is_over(pages.rounds().last(), None));
}
