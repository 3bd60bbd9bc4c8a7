//! What one vCPU does to the copy of a page while another one executes or writes that page, in all interleavings:
//! *closed-before-copied*, *free-copy*, *acked-before-store*. `cargo xtask test` runs these with `--cfg loom`.
//!
//! The first vCPU is in the hypervisor and owns the code pages. The second one is in the guest: it goes by a leaf that it was
//! given before, until it looks at its letters.

use alloc::vec;
use alloc::vec::Vec;

use loom::sync::Arc;
use loom::sync::atomic::AtomicBool;
use loom::thread;
use memory::{BLOCK_SIZE, GuestPhysAddr, InitialData};

use super::*;
use crate::copies::{BREAKPOINT, Cover};
use sync::atomic::Ordering;

const BASE: GuestPhysAddr = GuestPhysAddr(0x4000_0000);
const COPY: HostPhysAddr = HostPhysAddr(0x9000_0000);
/// SRET, which firmware complains of, and two instructions that do nothing.
const SRET: u64 = 0x1020_0073;
const NOP: u64 = 0x0000_0013;
const OTHER_NOP: u64 = 0x0000_0093;
/// What RAM has at `BASE`.
const CODE: u64 = NOP << 32 | SRET;
/// What a page has that gets the copy later.
const OTHER_CODE: u64 = u64::MAX;

const FIRST: usize = 0;
const SECOND: usize = 1;

/// What both share.
struct Guest {
    ram: GuestRam,
    /// The copies' memory: one word of one copy.
    copy: &'static [AtomicU64],
    rounds: alloc::sync::Arc<Rounds>,
}

impl Guest {
    fn fetch(&self) -> u64 {
        self.copy[0].load(Ordering::Relaxed)
    }

    /// The parcel at an offset, as it is fetched.
    fn parcel(&self, offset: u32) -> u16 {
        (self.fetch() >> (8 * offset)) as u16
    }

    fn store(&self, value: u64) {
        self.ram.write_beneath(BASE, &value.to_le_bytes()).unwrap();
    }

    fn stored(&self) -> u64 {
        self.ram.read_word(BASE).unwrap()
    }

    fn is_writable(&self) -> bool {
        self.ram.overlay().rule(BASE).writable
    }

    fn is_copied(&self) -> bool {
        self.ram.overlay().copy_of(BASE).is_some()
    }

    /// The second vCPU looks at its letters: it drops the leaves that it has.
    fn take_letters(&self, drop_leaves: impl FnOnce()) {
        let round = self.rounds.last();
        drop_leaves();
        self.rounds.answer(SECOND, round);
    }
}

/// Explores what the first vCPU does and the second one does at one time, after `before`, and looks at it `after` that. Each is
/// explored as the thread and as the model's own: see `memory`.
fn race(
    before: impl Fn(&mut CodePages, &Guest) + Copy + Send + Sync + 'static,
    first: impl Fn(&mut CodePages, &Guest) + Copy + Send + Sync + 'static,
    second: impl Fn(&Guest) + Copy + Send + Sync + 'static,
    after: impl Fn(&mut CodePages, &Guest) + Copy + Send + Sync + 'static,
) {
    let zeros = (0..BLOCK_SIZE / 8).map(|_| core::sync::atomic::AtomicU64::new(0));
    let words: &[_] = zeros.collect::<Vec<_>>().leak();
    let code: &[_] = vec![CODE].leak();
    for first_is_thread in [true, false] {
        loom::model(move || {
            let initial = vec![InitialData { address: BASE, words: code }];
            let ram = GuestRam::new(words, BASE, HostPhysAddr(0x4000_0000), initial);
            ram.overlay().require_scan();
            // Who fills it in is of no interest here.
            ram.host_address(BASE).unwrap();
            let copy: &[_] = vec![AtomicU64::new(0)].leak();
            let mut pages = CodePages::new(copy, COPY);
            pages.set_vcpus(2);
            let guest = Arc::new(Guest { ram, copy, rounds: pages.rounds().clone() });
            before(&mut pages, &guest);
            let shared = Arc::clone(&guest);
            if first_is_thread {
                let thread = thread::spawn(move || {
                    first(&mut pages, &shared);
                    pages
                });
                second(&guest);
                pages = thread.join().unwrap();
            } else {
                let thread = thread::spawn(move || second(&shared));
                first(&mut pages, &guest);
                thread.join().unwrap();
            }
            after(&mut pages, &guest);
        });
    }
}

fn cover(pages: &mut CodePages, guest: &Guest) -> Cover {
    pages.copies.cover(&guest.ram, BASE, &guest.rounds, FIRST)
}

/// Gives the page a copy, while nobody has a leaf for it.
fn covered(pages: &mut CodePages, guest: &Guest) {
    let Cover::Closing(round) = cover(pages, guest) else { panic!("the other one has not answered") };
    assert!(pages.acknowledge(&guest.ram, FIRST, round));
    guest.take_letters(|| {});
    assert!(cover(pages, guest) == Cover::Copied(COPY, None) && guest.is_copied());
}

/// Gives the page a copy with a breakpoint for its SRET, which stays through stores.
fn kept(pages: &mut CodePages, guest: &Guest) {
    let trapped = Trapped { site: BASE, bits: SRET as u32, is_user: false };
    let mut trap = || pages.trapped(&guest.ram, FIRST, trapped, || false);
    assert!(matches!(trap(), Change::Guard(Some(_))));
    guest.take_letters(|| {});
    assert!(trap() == Change::Remap(None) && guest.parcel(0) == BREAKPOINT);
}

/// Lets the page be stored to, and does what there is to do for it.
fn make_way(pages: &mut CodePages, guest: &Guest) {
    let Change::Drop(COPY, round) = pages.make_way(&guest.ram, BASE, || false) else {
        panic!("it has a copy")
    };
    assert!(pages.acknowledge(&guest.ram, FIRST, round));
}

#[test]
fn a_page_is_copied_after_the_last_store_that_nobody_notices() {
    race(
        |_, _| {},
        |pages, guest| {
            cover(pages, guest);
            cover(pages, guest);
        },
        |guest| {
            let leaf = AtomicBool::new(true);
            // By the leaf that it has, and by one that it may get now.
            for nth in 1..=2 {
                if leaf.load(Ordering::Relaxed) {
                    guest.store(CODE + nth);
                }
                guest.take_letters(|| leaf.store(guest.is_writable(), Ordering::Relaxed));
            }
        },
        |pages, guest| {
            assert!(!guest.is_copied() || guest.fetch() == guest.stored());
            // It comes to an end.
            guest.take_letters(|| {});
            cover(pages, guest);
            assert!(guest.is_copied() && guest.fetch() == guest.stored() && !guest.is_writable());
        },
    );
}

#[test]
fn whoever_finds_a_copy_finds_its_code_written_and_does_a_fence_i() {
    /// How often code was written before the copy is made: not a part of the model.
    static WRITES: core::sync::atomic::AtomicU64 = core::sync::atomic::AtomicU64::new(0);
    race(
        |pages, guest| {
            let Cover::Closing(round) = cover(pages, guest) else { panic!("nobody has answered") };
            assert!(pages.acknowledge(&guest.ram, FIRST, round));
            guest.take_letters(|| {});
            WRITES.store(guest.ram.writes(), Ordering::Relaxed);
        },
        |pages, guest| assert!(cover(pages, guest) == Cover::Copied(COPY, None)),
        |guest| {
            if guest.is_copied() {
                assert_eq!(guest.fetch(), CODE);
                assert!(guest.ram.writes() > WRITES.load(Ordering::Relaxed));
            }
        },
        |_, guest| assert!(guest.is_copied()),
    );
}

#[test]
fn a_copy_is_free_after_the_last_fetch_from_it() {
    race(
        covered,
        |pages, guest| {
            make_way(pages, guest);
            if pages.copies.free() > 0 {
                // It is another page's.
                guest.copy[0].store(OTHER_CODE, Ordering::Relaxed);
            }
        },
        |guest| {
            assert_eq!(guest.fetch(), CODE);
            guest.take_letters(|| {});
            if guest.is_copied() {
                assert_eq!(guest.fetch(), CODE);
            }
        },
        |pages, guest| {
            guest.take_letters(|| {});
            pages.copies.reclaim(&guest.ram, &guest.rounds);
            assert!(pages.copies.free() == 1 && guest.is_writable());
        },
    );
}

#[test]
fn a_store_that_ends_a_copy_goes_through_after_the_last_fetch_from_it() {
    race(
        covered,
        |pages, guest| {
            make_way(pages, guest);
            if guest.is_writable() {
                guest.store(OTHER_CODE);
                // What tells the other vCPU that it is done.
                guest.copy[0].store(OTHER_CODE, Ordering::Release);
            }
        },
        |guest| {
            // It goes by the leaf of the copy, and has not been told.
            assert_eq!((guest.copy[0].load(Ordering::Acquire), guest.stored()), (CODE, CODE));
            guest.take_letters(|| {});
        },
        |_, _| {},
    );
}

#[test]
fn a_store_beside_a_breakpoint_leaves_it_there_all_the_time() {
    race(
        kept,
        |pages, guest| {
            for value in [OTHER_NOP, SRET] {
                let bytes = (value as u32).to_le_bytes();
                let change = pages.store(&guest.ram, BASE.wrapping_add(4), &bytes);
                assert_eq!(change, Ok(Change::ForgetSites));
            }
        },
        |guest| {
            for _ in 0..3 {
                // Neither the instruction that was replaced, nor one that came.
                let word = guest.fetch();
                assert!(word as u16 == BREAKPOINT && (word >> 32) as u16 != SRET as u16, "{word:#x}");
            }
        },
        |_, guest| assert_eq!([0, 4].map(|offset| guest.parcel(offset)), [BREAKPOINT; 2]),
    );
}
