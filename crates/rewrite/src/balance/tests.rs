use super::*;
use crate::FIRST_LIMIT;
use crate::tests::{BASE, SITE, heat, pages, ram, scanned};
use alloc::vec;

/// What a guest does to a page: loads and executions of a site, as often in a round.
struct Load {
    loads: u64,
    sites: u64,
}

const MUCH: Load = Load { loads: 8, sites: 1 };
const LITTLE: Load = Load { loads: 1, sites: 64 };

/// What rounds have cost, in hundreds of instructions, and how many copies have ended.
struct Played {
    cost: u64,
    ended: u64,
}

/// Plays rounds on a page with a site at `BASE`. As in `vmm`, a site is known to the assembly unless the page is being weighed.
fn play(pages: &mut CodePages, ram: &GuestRam, round: &Load, rounds: u64) -> Played {
    let before = pages.counts().ended;
    let mut is_known = false;
    let mut cost = 0;
    for _ in 0..rounds {
        for _ in 0..round.sites {
            if ram.overlay().copy_of(BASE).is_none() {
                cost += u64::from(SITE_SAVES);
                pages.trapped(ram, BASE, SITE, false, || false);
                is_known = false;
            } else if !is_known {
                is_known = pages.executed(ram, BASE) == Weighed::No;
            }
        }
        for _ in 0..round.loads {
            if ram.overlay().copy_of(BASE).is_some() {
                cost += u64::from(LOAD_COSTS);
                is_known &= pages.loaded(ram, BASE) == Weighed::No;
            }
        }
    }
    Played { cost, ended: pages.counts().ended - before }
}

fn page() -> (GuestRam, CodePages) {
    let ram = ram(vec![u64::from(SITE)]);
    let mut pages = pages(2);
    heat(&mut pages, &ram, BASE);
    (ram, pages)
}

/// What a round costs in the better state.
const fn best(round: &Load) -> u64 {
    let (copied, original) = (round.loads * LOAD_COSTS as u64, round.sites * SITE_SAVES as u64);
    if copied < original { copied } else { original }
}

#[test]
fn a_page_that_is_read_much_goes_back_to_the_original() {
    let (ram, mut pages) = page();
    let played = play(&mut pages, &ram, &MUCH, 10_000);
    // 64, 128, and so on to 4,096 traps, and what is left.
    assert_eq!(played.ended, 8);
    assert!(played.cost * 10 < best(&MUCH) * 10_000 * 12, "{}", played.cost);
    assert_eq!(ram.overlay().copy_of(BASE), None);
}

#[test]
fn a_page_that_is_read_little_keeps_its_copy() {
    let (ram, mut pages) = page();
    let played = play(&mut pages, &ram, &LITTLE, 10_000);
    assert_eq!((played.ended, played.cost), (0, best(&LITTLE) * 10_000));
}

#[test]
fn a_page_is_copied_again_when_it_is_read_no_longer_and_given_up_when_it_is_again() {
    let (ram, mut pages) = page();
    for (round, is_copied) in [(&MUCH, false), (&LITTLE, true), (&MUCH, false), (&LITTLE, true)] {
        play(&mut pages, &ram, round, 2_000);
        assert_eq!(ram.overlay().copy_of(BASE).is_some(), is_copied);
        // It has found its balance.
        let played = play(&mut pages, &ram, round, 2_000);
        assert!(played.cost * 10 < best(round) * 2_000 * 12, "{}", played.cost);
    }
}

/// However loads and sites follow each other, it is not much worse than staying in the better state.
#[test]
fn no_rhythm_costs_more_than_three_times_the_better_state() {
    for loads in [1, 3, 8, 63, 64, 65, 130, 1000] {
        for sites in [1, 3, 8, 63, 64, 65, 130, 1000] {
            let (ram, mut pages) = page();
            let round = Load { loads, sites };
            let rounds = 50_000 / (loads + sites);
            let played = play(&mut pages, &ram, &round, rounds);
            let best = best(&round) * rounds;
            assert!(played.cost < 3 * best, "{loads} loads, {sites} sites: {} for {best}", played.cost);
        }
    }
}

#[test]
fn patience_stops_doubling() {
    let (ram, mut pages) = page();
    play(&mut pages, &ram, &MUCH, 4 * u64::from(LAST_PATIENCE));
    assert!(play(&mut pages, &ram, &MUCH, 4 * u64::from(LAST_PATIENCE)).ended >= 3);
    play(&mut pages, &ram, &LITTLE, 4 * u64::from(LAST_PATIENCE));
    assert!(ram.overlay().copy_of(BASE).is_some());
    play(&mut pages, &ram, &MUCH, u64::from(LAST_PATIENCE));
    assert_eq!(ram.overlay().copy_of(BASE), None);
}

#[test]
fn what_ends_a_copy_otherwise_is_not_forgotten() {
    let (ram, mut pages) = page();
    pages.end(&ram, BASE);
    pages.end(&ram, BASE);
    // A store has doubled the limit; loads then add theirs, and the larger one counts.
    assert_eq!(heat(&mut pages, &ram, BASE), 2 * FIRST_LIMIT);
    play(&mut pages, &ram, &MUCH, 20);
    assert_eq!(ram.overlay().copy_of(BASE), None);
    let traps = heat(&mut pages, &ram, BASE);
    assert!(traps <= FIRST_PATIENCE && traps > FIRST_PATIENCE / 2, "{traps}");
    pages.end(&ram, BASE);
    assert_eq!(heat(&mut pages, &ram, BASE), 4 * FIRST_LIMIT);
}

#[test]
fn a_copy_that_the_firmware_needs_stays_whatever_is_read() {
    let (ram, mut pages) = scanned(&[0x13, 0x1020_0073]);
    (0..10_000).for_each(|_| assert_eq!(pages.loaded(&ram, BASE), Weighed::No));
    assert!(ram.overlay().copy_of(BASE).is_some());
}

#[test]
fn a_page_without_a_copy_is_not_weighed() {
    let ram = ram(vec![u64::from(SITE)]);
    let mut pages = pages(1);
    assert_eq!((pages.loaded(&ram, BASE), pages.executed(&ram, BASE)), (Weighed::No, Weighed::No));
    assert_eq!(pages.loaded(&ram, GuestPhysAddr(0)), Weighed::No);
}
