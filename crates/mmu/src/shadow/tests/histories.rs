//! Random histories of accesses, edits of the guest's tables, fences and resets, with right and wrong tables, on a
//! pool so small that contexts are evicted. After each step the shadow, and a TLB that forgets nothing unless told
//! to, hold only what the guest's hardware could hold.

use core::cell::RefCell;

use proptest::prelude::*;
use proptest::sample::select;

use super::*;
use crate::check::check;
use crate::testing::random::{self, SLOTS, TABLES};
use crate::testing::{
    KERNEL, RAM_BASE, RAM_SIZE, SUPERVISOR, SUPERVISOR_SUM, for_all, host_of, table_address,
};

const ALL: [Access; 3] = [Access::Fetch, Access::Load, Access::Store];

/// What may happen.
#[derive(Clone, Debug)]
enum Step {
    /// The hart accesses an address in one of the contexts.
    Access(usize, GuestVirtAddr, Access),
    /// The guest writes an entry of one of its tables.
    Edit(u64, usize, Pte),
    /// The guest writes an entry that the walk for an address in one of the contexts looks at: its leaf, or a
    /// pointer as many levels up.
    Rewrite(usize, GuestVirtAddr, usize, Pte),
    /// The guest executes SFENCE.VMA.
    Fence(Option<GuestVirtAddr>, Option<u16>),
    /// The virtual machine is reset.
    Reset,
}

/// A page that was filled, and the guest's page that it is a piece of.
struct Fill {
    key: ContextKey,
    guest_start: u64,
    guest_size: u64,
    leaf: Leaf,
}

/// A machine with a past.
struct History {
    rig: Rig,
    tlb: hardware::Tlb,
    /// What may still be in the shadow: no fence and no newer fill has touched it.
    fills: Vec<Fill>,
}

impl History {
    fn new(mode: Mode) -> Self {
        let rig = Rig { guest: Guest::new(), shadow: shadow(mode, MIN_TABLES) };
        Self { rig, tlb: hardware::Tlb::default(), fills: Vec::new() }
    }

    fn step(&mut self, contexts: &[ContextKey], step: Step) {
        match step {
            Step::Access(context, address, access) => {
                let key = contexts[context % contexts.len()];
                match key.satp.mode {
                    Mode::Bare => self.access(key, RAM_BASE + address.0 % (RAM_SIZE + 0x1000), access),
                    _ => self.access(key, address.0, access),
                }
            }
            Step::Edit(table, slot, entry) => self.rig.guest.set(table_address(table), slot, entry),
            Step::Rewrite(context, address, up, entry) => {
                let key = contexts[context % contexts.len()];
                if let Some((table, slot)) = self.rig.guest.looked_at(key.satp, address, up) {
                    self.rig.guest.set(table, slot, entry);
                }
            }
            Step::Fence(address, asid) => {
                self.rig.shadow.fence(address, asid);
                self.fills.retain(|fill| {
                    fill.key.satp.mode == Mode::Bare
                        || asid.is_some_and(|asid| asid != fill.key.satp.asid)
                        || address.is_some_and(|a| a.0.wrapping_sub(fill.guest_start) >= fill.guest_size)
                });
                self.flush();
                self.assert_explained();
            }
            Step::Reset => {
                self.rig.shadow.clear();
                self.fills.clear();
                self.flush();
                self.assert_explained();
            }
        }
    }

    fn flush(&mut self) {
        self.tlb.flush(self.rig.shadow.take_flush());
        self.tlb.assert_consistent(&self.rig.shadow);
    }

    /// Lets the hart try until the access succeeds or is somebody else's business.
    fn access(&mut self, key: ContextKey, address: u64, access: Access) {
        // A fill, and where the TLB has less than that, a flush of what it has.
        for _ in 0..3 {
            let root = self.rig.activate(key);
            self.flush();
            if self.tlb.access(&self.rig.shadow, root, address, access) {
                return;
            }
            if !self.resolve(key, address, access) {
                return;
            }
        }
        panic!("{access:?} at {address:#x} in {key:x?} faults again and again");
    }

    /// Resolves a fault, and says whether there is a page now.
    fn resolve(&mut self, key: ContextKey, address: u64, access: Access) -> bool {
        let rights = key.view.rights();
        let reached = self.rig.guest.reference(key.satp, GuestVirtAddr(address), access, rights);
        let verdict = self.rig.resolve(key, address, access);
        let top = self.rig.shadow.host.mode.levels() - 1;
        let in_window = self.rig.shadow.host.window.covers((address >> (12 + 9 * top) & 511) as usize);
        let reached = match reached {
            Err(cause) => {
                assert_eq!(verdict, Verdict::Fault(Exception::from_code(cause).unwrap()));
                return false;
            }
            Ok(reached) => reached,
        };
        let Some(host) = host_of(reached.address) else {
            assert_eq!(verdict, Verdict::NotRam(GuestPhysAddr(reached.address)));
            return false;
        };
        if in_window {
            assert_eq!(verdict, Verdict::Collision);
            return false;
        }
        assert_eq!(verdict, Verdict::Filled);
        let leaf = self.rig.seen(key, address).expect("a filled page is there");
        assert!(leaf.permits(access), "{leaf:x?} refuses {access:?}");
        assert_eq!(leaf.host_of(address), host);
        self.assert_true_of_the_guest(key, leaf, address);
        self.fills.retain(|old| old.key != key || !old.leaf.overlaps(&leaf));
        let guest_size = 4096 << (9 * reached.level);
        self.fills.push(Fill { key, guest_start: address & !(guest_size - 1), guest_size, leaf });
        true
    }

    /// Asserts that the guest's tables allow all that a leaf allows, without a bit of them changing.
    fn assert_true_of_the_guest(&self, key: ContextKey, leaf: Leaf, inside: u64) {
        for access in ALL.into_iter().filter(|access| leaf.permits(*access)) {
            for address in [leaf.start, inside, leaf.start.wrapping_add(leaf.size - 1)] {
                let rights = key.view.rights();
                let reached = self.rig.guest.reference(key.satp, GuestVirtAddr(address), access, rights);
                let reached = reached.expect("the guest refuses what its shadow allows");
                assert_eq!(reached.update, None, "the shadow allows what the guest has yet to be told");
                assert_eq!(host_of(reached.address), Some(leaf.host_of(address)));
            }
        }
    }

    /// Asserts that every shadow leaf was filled and not fenced since, that the scanner finds nothing wrong, and that
    /// all tables are accounted for.
    fn assert_explained(&mut self) {
        let shadow = &self.rig.shadow;
        let mut visible = Vec::new();
        let mut tables = 0;
        for (_, key, root) in shadow.numbered() {
            let (leaves, used) = hardware::leaves(shadow, root);
            tables += used;
            visible.extend(leaves.into_iter().map(|leaf| (key, leaf)));
        }
        for (key, leaf) in &visible {
            assert!(
                self.fills.iter().any(|fill| fill.key == *key && fill.leaf == *leaf),
                "{leaf:x?} of {key:x?} was fenced or replaced"
            );
        }
        assert_eq!(tables + shadow.pool.available(), shadow.pool.capacity());
        assert_eq!(check(shadow, &self.rig.guest.ram), Ok(visible.len()));
        self.fills.retain(|fill| visible.contains(&(fill.key, fill.leaf)));
    }
}

fn steps(mode: Mode) -> impl Strategy<Value = Vec<Step>> {
    prop::collection::vec(random::address(mode), 6).prop_flat_map(|addresses| {
        // The same few addresses again, and others in the same superpages.
        const NEAR: [u64; 4] = [0, 0xfff, BLOCK_SIZE - 1, (1 << 30) - 1];
        let address = (select(addresses), select(&NEAR[..]), any::<u64>())
            .prop_map(|(address, mask, other)| GuestVirtAddr(address.0 & !mask | other & mask & (RAM_SIZE - 1)));
        let address = address.boxed();
        let optional = prop::option::weighted(0.8, address.clone());
        let up = prop_oneof![4 => Just(0usize), 1 => Just(1)];
        let rewrite = (0..8usize, address.clone(), up, random::entry());
        prop::collection::vec(
            prop_oneof![
                20 => (0..8usize, address, random::access()).prop_map(|(c, a, kind)| Step::Access(c, a, kind)),
                3 => (0..TABLES, select(&SLOTS[..]), random::entry()).prop_map(|(t, s, e)| Step::Edit(t, s, e)),
                5 => rewrite.prop_map(|(c, a, up, e)| Step::Rewrite(c, a, up, e)),
                4 => (optional, prop::option::of(0..3u16)).prop_map(|(a, asid)| Step::Fence(a, asid)),
                1 => Just(Step::Reset),
            ],
            1..80,
        )
    })
}

#[test]
fn whatever_happens_shadow_and_tlb_hold_only_what_a_tlb_may_hold() {
    for mode in HOSTS {
        let history = RefCell::new(History::new(mode));
        let widest = host(mode).widest_guest_mode();
        let modes = prop_oneof![1 => Just(Mode::Bare), 4 => Just(Mode::Sv39), 4 => Just(widest)];
        let space = modes.prop_flat_map(random::satp);
        let context = (space, random::rights()).prop_map(|(satp, rights)| ContextKey::new(satp, rights));
        let cases = (random::tables(), prop::collection::vec(context, 1..8), steps(widest));
        for_all(400, &cases, |(entries, contexts, steps)| {
            let history = &mut *history.borrow_mut();
            random::load(&mut history.rig.guest, &entries);
            history.step(&contexts, Step::Reset);
            for step in steps {
                history.step(&contexts, step);
            }
            history.assert_explained();
        });
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
    let flags = select(&[KERNEL, KERNEL & !Pte::D, KERNEL & !Pte::W, KERNEL | Pte::U & !Pte::X][..]);
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
    let start = 0x10_0000_0000;
    for mode in HOSTS {
        let history = RefCell::new(History::new(mode));
        for_all(400, &change(), |change| {
            let history = &mut *history.borrow_mut();
            history.rig.guest.reset();
            let root = history.rig.guest.space(Mode::Sv39, 0);
            let contexts = [(1, SUPERVISOR), (1, SUPERVISOR_SUM), (2, SUPERVISOR), (2, SUPERVISOR_SUM)]
                .map(|(asid, rights)| ContextKey::new(Satp { asid, ..root }, rights));
            history.step(&contexts, Step::Reset);
            history.rig.guest.map(root, start, change.level, Pte::new(RAM_BASE, change.old));
            let size = paging::leaf_size(change.level);
            let touch = |history: &mut History, touches: &[(usize, u64, Access)]| {
                for (context, offset, access) in touches {
                    let address = GuestVirtAddr(start + offset % size);
                    history.step(&contexts, Step::Access(*context, address, *access));
                }
            };
            touch(history, &change.before);
            history.rig.guest.map(root, start, change.level, change.new);
            touch(history, &change.between);
            let fenced = change.fenced.map(|offset| GuestVirtAddr(start + offset % size));
            history.step(&contexts, Step::Fence(fenced, change.asid));
            for key in contexts.into_iter().filter(|key| change.asid.is_none_or(|asid| asid == key.satp.asid))
            {
                for offset in change.looked_at.iter().chain(change.before.iter().map(|(_, offset, _)| offset))
                {
                    let address = start + offset % size;
                    if let Some(leaf) = history.rig.seen(key, address) {
                        history.assert_true_of_the_guest(key, leaf, address);
                    }
                }
            }
        });
    }
}
