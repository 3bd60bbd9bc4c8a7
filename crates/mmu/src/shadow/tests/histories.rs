//! Random histories of accesses, edits of the guest's tables, fences, writes of satp, copied code pages, lost caches and resets, with
//! right and wrong tables, on a pool so small that contexts are evicted. After each step the shadow, and a TLB that forgets
//! nothing unless told to, hold only what the guest's hardware could hold. Here is what is made up; `machine` is what it
//! happens to, `truth` judges.

mod assembly;
mod hart;
mod machine;
mod neighbours;
mod truth;

use core::cell::RefCell;

use proptest::prelude::*;
use proptest::sample::select;

use super::*;
use crate::testing::random::{self, SLOTS, TABLES};
use crate::testing::{KERNEL, RAM_BASE, RAM_SIZE, SUPERVISOR, SUPERVISOR_SUM, USER_MODE, for_all};
use hart::Hart;
use machine::{History, Step};

/// Random histories of each kind; more were tried.
const CASES: u32 = 200;
/// Where the changes are made: in the half that each space has for itself, and in the other.
const LOWER: u64 = 0x10_0000_0000;
const HIGHER: u64 = LOWER.wrapping_neg();

/// Steps, each of one of so many guests.
fn steps(mode: Mode, guests: usize) -> impl Strategy<Value = Vec<(usize, Step)>> {
    prop::collection::vec(random::address(mode), 6).prop_flat_map(move |addresses| {
        // The same few addresses again, their neighbours, and others in the same superpages.
        const NEAR: [u64; 5] = [0, 0xfff, 0x7fff, BLOCK_SIZE - 1, (1 << 30) - 1];
        let address =
            (select(addresses), select(&NEAR[..]), any::<u64>()).prop_map(|(address, mask, other)| {
                GuestVirtAddr(address.0 & !mask | other & mask & (RAM_SIZE - 1))
            });
        let address = address.boxed();
        let optional = prop::option::weighted(0.7, address.clone());
        let up = prop_oneof![4 => Just(0usize), 1 => Just(1)];
        let rewrite = (0..8usize, address.clone(), up, random::entry()).boxed();
        let access = (0..8usize, address.clone(), random::access()).boxed();
        let strides = select(&[PAGE_SIZE, 8 * PAGE_SIZE, BLOCK_SIZE][..]);
        let grow = (0..8usize, address.clone(), strides);
        let fence = (0..8usize, optional, prop::option::of(0..3u16));
        let step = prop_oneof![
            20 => access.clone().prop_map(|(c, a, kind)| Step::Access(c, a, kind)),
            4 => access.prop_map(|(c, a, kind)| Step::Enter(c, a, kind)),
            3 => (0..TABLES, select(&SLOTS[..]), random::entry()).prop_map(|(t, s, e)| Step::Edit(t, s, e)),
            5 => rewrite.clone().prop_map(|(c, a, up, e)| Step::Rewrite(c, a, up, e)),
            2 => rewrite.prop_map(|(c, a, up, e)| Step::Settle(c, a, up, e)),
            4 => fence.prop_map(|(c, a, asid)| Step::Fence(c, a, asid)),
            2 => (0..8usize, address).prop_map(|(c, a)| Step::Copy(c, a)),
            2 => (0..8usize).prop_map(Step::Switch),
            1 => (0..8usize).prop_map(Step::ChangeRights),
            1 => Just(Step::Distrust),
            3 => (0..8usize).prop_map(Step::FenceFast),
            1 => grow.prop_map(|(c, a, stride)| Step::Grow(c, a, stride)),
            1 => (0..TABLES).prop_map(Step::Device),
            1 => any::<bool>().prop_map(Step::Lose),
            1 => Just(Step::Reset),
        ];
        prop::collection::vec((0..guests, step), 1..80)
    })
}

/// What guests do on a hart with so many bits of ASIDs, their steps interleaved at random.
fn histories(mode: Mode, bits: u32, guests: usize, cases: u32) {
    let widest = host(mode).widest_guest_mode();
    let modes = prop_oneof![1 => Just(Mode::Bare), 4 => Just(Mode::Sv39), 4 => Just(widest)];
    let space = modes.prop_flat_map(random::satp);
    let context = (space, random::rights()).prop_map(|(satp, rights)| ContextKey::new(satp, rights));
    histories_in(mode, bits, guests, cases, context.boxed(), random::tables().boxed());
}

/// The same, in contexts and with tables such as these.
fn histories_in(
    mode: Mode,
    bits: u32,
    guests: usize,
    cases: u32,
    context: BoxedStrategy<ContextKey>,
    tables: BoxedStrategy<Vec<Pte>>,
) {
    let mut hart = Hart::new(bits, guests);
    let histories: Vec<_> = (0..guests).map(|number| History::new(mode, number, &mut hart)).collect();
    let state = RefCell::new((hart, histories));
    let widest = host(mode).widest_guest_mode();
    let cases_of = (tables, prop::collection::vec(context, 1..8), steps(widest, guests));
    for_all(cases, &cases_of, |(entries, contexts, steps)| {
        let (hart, histories) = &mut *state.borrow_mut();
        for history in &mut *histories {
            random::load(&mut history.rig.guest, &entries);
            history.step(hart, &contexts, Step::Reset);
        }
        for (number, step) in steps {
            histories[number].step(hart, &contexts, step);
        }
        histories.iter_mut().for_each(History::assert_explained);
    });
}

#[test]
fn whatever_happens_shadow_and_tlb_hold_only_what_a_tlb_may_hold() {
    HOSTS.into_iter().for_each(|mode| histories(mode, 16, 1, CASES));
}

/// *own-root*, here and in the two that follow.
#[test]
fn guests_that_share_a_hart_see_nothing_of_each_other_where_each_root_has_an_asid() {
    HOSTS.into_iter().for_each(|mode| histories(mode, 16, 3, CASES / 4));
}

#[test]
fn guests_that_share_asids_see_nothing_of_each_other() {
    HOSTS.into_iter().for_each(|mode| histories(mode, 7, 2, CASES / 4));
}

#[test]
fn guests_on_a_hart_without_asids_see_nothing_of_each_other() {
    HOSTS.into_iter().for_each(|mode| histories(mode, 0, 2, CASES / 4));
}

#[test]
fn kernels_without_asids_that_share_what_is_global_see_nothing_of_each_other() {
    for mode in HOSTS {
        let space = random::satp(Mode::Sv39).prop_map(|satp| Satp { asid: 0, ..satp });
        let rights = select(&[SUPERVISOR, SUPERVISOR, SUPERVISOR_SUM, USER_MODE][..]);
        let context = (space, rights).prop_map(|(satp, rights)| ContextKey::new(satp, rights));
        let global = |entry: Pte| Pte(entry.0 & !Pte::U | Pte::G);
        let tables = random::tables().prop_map(move |entries| entries.into_iter().map(global).collect());
        histories_in(mode, 16, 1, CASES, context.boxed(), tables.boxed());
    }
}

/// A page of a guest at some level, touched in places, then given another entry, touched again and fenced.
#[derive(Clone, Debug)]
struct Change {
    level: usize,
    old: u64,
    new: Pte,
    before: Vec<(usize, u64, Access)>,
    between: Vec<(usize, u64, Access)>,
    fenced: Option<u64>,
    asid: Option<u16>,
    looked_at: Vec<u64>,
}

fn change() -> impl Strategy<Value = Change> {
    let flags =
        select(&[KERNEL, KERNEL & !Pte::D, KERNEL & !Pte::W, KERNEL | Pte::G, KERNEL | Pte::U | Pte::G][..]);
    let offsets = || prop::collection::vec(0..RAM_SIZE, 1..8);
    // Few places, so that some are touched before and after.
    let offset = prop_oneof![Just(0), Just(BLOCK_SIZE), 0..RAM_SIZE];
    let touch = (0..4usize, offset, random::access());
    let touches = prop::collection::vec(touch, 1..12).boxed();
    (
        0..3usize,
        flags,
        prop_oneof![1 => Just(Pte(0)), 4 => random::leaf()],
        touches.clone(),
        touches,
        prop::option::weighted(0.9, 0..1u64 << 30),
        prop::option::of(1..3u16),
        offsets(),
    )
        .prop_map(|(level, old, new, before, between, fenced, asid, looked_at)| Change {
            level,
            old,
            new,
            before,
            between,
            fenced,
            asid,
            looked_at,
        })
}

#[test]
fn after_an_edit_and_any_fence_that_names_its_page_the_old_entry_is_forgotten() {
    for (mode, start) in HOSTS.into_iter().flat_map(|mode| [(mode, LOWER), (mode, HIGHER)]) {
        let mut hart = Hart::new(16, 1);
        let history = History::new(mode, 0, &mut hart);
        let state = RefCell::new((hart, history));
        for_all(CASES, &change(), |change| {
            let (hart, history) = &mut *state.borrow_mut();
            history.rig.guest.reset();
            let root = history.rig.guest.space(Mode::Sv39, 0);
            let contexts = [(1, SUPERVISOR), (1, SUPERVISOR_SUM), (2, SUPERVISOR), (2, SUPERVISOR_SUM)]
                .map(|(asid, rights)| ContextKey::new(Satp { asid, ..root }, rights));
            history.step(hart, &contexts, Step::Reset);
            history.rig.guest.map(root, start, change.level, Pte::new(RAM_BASE, change.old));
            let size = paging::leaf_size(change.level);
            let touch = |hart: &mut Hart, history: &mut History, touches: &[(usize, u64, Access)]| {
                for (context, offset, access) in touches {
                    let address = GuestVirtAddr(start + offset % size);
                    history.step(hart, &contexts, Step::Access(*context, address, *access));
                }
            };
            touch(hart, history, &change.before);
            history.rig.guest.map(root, start, change.level, change.new);
            touch(hart, history, &change.between);
            let fenced = change.fenced.map(|offset| GuestVirtAddr(start + offset % size));
            history.step(hart, &contexts, Step::Fence(0, fenced, change.asid));
            for key in contexts.into_iter().filter(|key| change.asid.is_none_or(|asid| asid == key.satp.asid))
            {
                for offset in change.looked_at.iter().chain(change.before.iter().map(|(_, offset, _)| offset))
                {
                    let address = start + offset % size;
                    // A fence of one space does not name what all have.
                    let seen = history.rig.seen(key, address);
                    let named = change.asid.is_none() || start == LOWER || history.shares(key) != Some(true);
                    if let Some(leaf) = seen.filter(|_| named) {
                        history.assert_true_of_the_guest(key, leaf, address);
                    }
                }
            }
        });
    }
}
