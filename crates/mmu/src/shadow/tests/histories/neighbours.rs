//! Faults that let one guest use what the hart has cached for another. Each was there once, or could be made by one line; the
//! TLB of these histories has to find it, and to name the two roots.

use super::hart::Hart;
use super::machine::{History, Step};
use super::*;
use crate::asids::AsidBlock;
use crate::testing::USER_MODE;

/// Two guests that have the same addresses in the upper half, the first for its kernel, the second for its users; and in which
/// context each runs.
fn neighbours(hart: &mut Hart, asids: [Option<AsidBlock>; 2]) -> [(History, ContextKey); 2] {
    let mut number = 0;
    [(SUPERVISOR, KERNEL | Pte::G), (USER_MODE, KERNEL | Pte::U)].map(|(rights, flags)| {
        let mut history = History::with_asids(Mode::Sv57, number, asids[number]);
        history.rig.guest.reset();
        let space = history.rig.guest.space(Mode::Sv39, 0);
        history.rig.guest.map(space, HIGHER, 0, Pte::new(RAM_BASE, flags));
        let key = ContextKey::new(space, rights);
        history.step(hart, &[key], Step::Reset);
        number += 1;
        (history, key)
    })
}

fn touch(hart: &mut Hart, (history, key): &mut (History, ContextKey)) {
    history.step(hart, &[*key], Step::Access(0, GuestVirtAddr(HIGHER), Access::Load));
}

fn dealt(hart: &mut Hart) -> [Option<AsidBlock>; 2] {
    [hart.asids.deal(), hart.asids.deal()]
}

#[test]
#[should_panic(expected = "guest 1 root 64 and guest 2 root 0 share ASID 65")]
fn blocks_with_one_asid_too_few_are_found() {
    let mut hart = Hart::new(16, 2);
    let [mut first, mut second] =
        neighbours(&mut hart, [1, 65].map(|first| Some(AsidBlock::starting_at(first))));
    touch(&mut hart, &mut first);
    touch(&mut hart, &mut second);
}

#[test]
#[should_panic(expected = "guest 1 root 64 and guest 2 root 64 share ASID 65")]
fn a_flush_before_the_write_of_satp_is_found() {
    let mut hart = Hart::new(7, 2);
    let asids = dealt(&mut hart);
    let [mut first, (mut second, key)] = neighbours(&mut hart, asids);
    touch(&mut hart, &mut first);
    let root = second.rig.activate(ContextKey::new(key.satp, SUPERVISOR));
    hart.fence(TlbFlush::All);
    hart.write_satp(1, &second.rig.shadow, root);
    hart.check(1, &second.rig.shadow, root);
}

#[test]
#[should_panic(expected = "guest 1 root 64 and guest 1 root 0 share ASID 0")]
fn a_change_of_the_root_without_a_flush_is_found_where_there_are_no_asids() {
    let mut hart = Hart::new(0, 2);
    let asids = dealt(&mut hart);
    let [(mut first, key), _] = neighbours(&mut hart, asids);
    first.step(&mut hart, &[key], Step::Access(0, GuestVirtAddr(HIGHER), Access::Load));
    let user = first.rig.activate(ContextKey::new(key.satp, USER_MODE));
    hart.check(0, &first.rig.shadow, user);
}

#[test]
fn neighbours_see_nothing_of_each_other_whatever_the_hart_has() {
    for bits in [0, 7, 8, 16] {
        let mut hart = Hart::new(bits, 2);
        let asids = dealt(&mut hart);
        let mut guests = neighbours(&mut hart, asids);
        for number in [0, 1, 0, 0, 1] {
            touch(&mut hart, &mut guests[number]);
        }
    }
}
