//! Random histories of accesses, edits of the guest's tables, fences, copied code pages and resets, with right and wrong
//! tables, on a pool so small that contexts are evicted. After each step the shadow, and a TLB that forgets nothing unless
//! told to, hold only what the guest's hardware could hold.

use core::cell::RefCell;
use std::format;
use std::string::{String, ToString};

use proptest::prelude::*;
use proptest::sample::select;

use super::*;
use crate::check::check;
use crate::testing::random::{self, SLOTS, TABLES};
use crate::testing::{
    KERNEL, RAM_BASE, RAM_SIZE, SUPERVISOR, SUPERVISOR_SUM, for_all, host_of, table_address,
};

/// Random histories of each kind; more were tried.
const CASES: u32 = 200;
/// Where the changes are made: in the half that each space has for itself, and in the other.
const LOWER: u64 = 0x10_0000_0000;
const HIGHER: u64 = LOWER.wrapping_neg();
const ALL: [Access; 3] = [Access::Fetch, Access::Load, Access::Store];
/// Where copies of code pages are in host memory, and how many there is room for.
const COPIES: u64 = 0x3_0000_0000;
const COPY_PLACES: u64 = 4;

/// What may happen.
#[derive(Clone, Debug)]
enum Step {
    /// The hart accesses an address in one of the contexts.
    Access(usize, GuestVirtAddr, Access),
    /// The assembly enters one of the contexts, if it can be used as it is, and the hart accesses an address.
    Enter(usize, GuestVirtAddr, Access),
    /// The guest writes an entry of one of its tables.
    Edit(u64, usize, Pte),
    /// The guest writes an entry that the walk for an address in one of the contexts looks at: its leaf, or a
    /// pointer as many levels up.
    Rewrite(usize, GuestVirtAddr, usize, Pte),
    /// The guest executes SFENCE.VMA in one of the contexts.
    Fence(usize, Option<GuestVirtAddr>, Option<u16>),
    /// The guest uses an address in one of the contexts and fences everything, so often that tables come to be watched; then
    /// it writes an entry as in `Rewrite`, and fences.
    Settle(usize, GuestVirtAddr, usize, Pte),
    /// The code at an address in one of the contexts is copied, or its copy ends.
    Copy(usize, GuestVirtAddr),
    /// The virtual machine is reset.
    Reset,
}

/// Whose a leaf is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Owner {
    Context(ContextKey),
    SharedHalf,
}

/// A leaf that is there, and of which guest pages (first address, bytes) it was a true piece since they were last fenced.
struct Known {
    owner: Owner,
    leaf: Leaf,
    pages: Vec<(u64, u64)>,
}

/// A machine with a past.
struct History {
    rig: Rig,
    tlb: hardware::Tlb,
    known: Vec<Known>,
    /// The root under which the hart runs, also while the hypervisor works.
    running: Option<Root>,
    /// Addresses that the hart may look up at any time.
    recent: [u64; 3],
    /// The roots that the assembly was told.
    told: Vec<(ContextKey, Root)>,
    copies: Vec<(GuestPhysAddr, HostPhysAddr)>,
}

impl History {
    fn new(mode: Mode) -> Self {
        Self {
            rig: Rig { guest: Guest::new(), shadow: shadow(mode, MIN_TABLES) },
            tlb: hardware::Tlb::default(),
            known: Vec::new(),
            running: None,
            recent: [0; 3],
            told: Vec::new(),
            copies: Vec::new(),
        }
    }

    fn step(&mut self, contexts: &[ContextKey], step: Step) {
        let key_of = |context: usize| contexts[context % contexts.len()];
        match step {
            Step::Access(context, address, access) => {
                let key = key_of(context);
                self.access(key, placed(key, address), access);
            }
            Step::Enter(context, address, access) => {
                let key = key_of(context);
                if let Some(root) = self.rig.shadow.root(key) {
                    self.tlb.access(&self.rig.shadow, root, placed(key, address), access);
                    self.running = Some(root);
                }
            }
            Step::Edit(table, slot, entry) => self.rig.guest.set(table_address(table), slot, entry),
            Step::Rewrite(context, address, up, entry) => {
                if let Some((table, slot)) = self.rig.guest.looked_at(key_of(context).satp, address, up) {
                    self.rig.guest.set(table, slot, entry);
                }
            }
            Step::Fence(context, address, asid) => {
                let key = key_of(context);
                self.enter(key);
                let Rig { guest, shadow } = &mut self.rig;
                // It fills in what it has dropped, so that is not to be taken for what was there.
                let is_filled =
                    asid.is_none() && address.is_some_and(|at| shadow.fence_shared(&guest.ram, at));
                if !is_filled {
                    shadow.fence(&guest.ram, address, asid);
                }
                self.known.iter_mut().for_each(|known| known.fence(address, asid));
                if let Some(address) = address.filter(|_| is_filled) {
                    self.look(key, address.0);
                }
                self.enter(key);
                self.assert_explained();
            }
            Step::Settle(context, address, up, entry) => {
                for _ in 0..3 {
                    self.step(contexts, Step::Access(context, address, Access::Load));
                    self.step(contexts, Step::Fence(context, None, None));
                }
                self.step(contexts, Step::Rewrite(context, address, up, entry));
                self.step(contexts, Step::Fence(context, None, None));
            }
            Step::Copy(context, address) => self.copy(key_of(context), address.0),
            Step::Reset => {
                self.rig.shadow.clear();
                self.rig.guest.ram.uncover_all();
                self.copies.clear();
                self.known.clear();
                self.flush();
                self.assert_explained();
                assert_eq!(self.rig.shadow.pool.available(), self.rig.shadow.pool.capacity());
            }
        }
    }

    /// Does to the TLB what the shadow asks for. Until another root is in satp the hart may still look up what it likes
    /// under the old one.
    fn flush(&mut self) {
        self.tlb.flush(self.rig.shadow.take_flush());
        if let Some(running) = self.running {
            for address in self.recent {
                self.tlb.access(&self.rig.shadow, running, address, Access::Load);
            }
        }
        self.tlb.assert_consistent(&self.rig.shadow);
        let lost = self.rig.shadow.take_lost_roots();
        self.told.retain(|(key, _)| match lost {
            LostRoots::None => true,
            LostRoots::Asid(asid) => asid != key.satp.asid,
            LostRoots::All => false,
        });
        let shadow = &self.rig.shadow;
        for (key, root) in &self.told {
            assert_eq!(shadow.root(*key), Some(*root), "a root went in secret");
        }
        self.told = shadow.numbered().filter_map(|(_, key, _)| Some((key, shadow.root(key)?))).collect();
    }

    fn enter(&mut self, key: ContextKey) -> Root {
        let root = self.rig.activate(key);
        self.check_fenced(key);
        self.flush();
        self.running = Some(root);
        root
    }

    /// Asserts that what was fenced and is still there in a context that can be entered is true now.
    fn check_fenced(&mut self, key: ContextKey) {
        if self.known.iter().all(|known| !known.pages.is_empty()) {
            return;
        }
        for (owner, leaf) in self.leaves(key) {
            let known = self.known.iter().position(|known| known.owner == owner && known.leaf == leaf);
            let Some(known) = known else { panic!("{leaf:x?} of {owner:x?} came from nowhere") };
            if self.known[known].pages.is_empty() {
                match self.explain_by_any(owner, leaf) {
                    Ok(page) => self.known[known].pages.push(page),
                    Err(why) => panic!("{leaf:x?} of {owner:x?} was fenced: {why}"),
                }
            }
        }
    }

    /// Lets the hart try until the access succeeds or is somebody else's business.
    fn access(&mut self, key: ContextKey, address: u64, access: Access) {
        self.recent.rotate_right(1);
        self.recent[0] = address;
        // The end of a copy or of a watch, a fill, and where the TLB has less than that, a flush of what it has.
        for _ in 0..if access == Access::Store { 5 } else { 3 } {
            let root = self.enter(key);
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
        let is_code = !matches!(key.view, View::User { .. })
            && self.rig.guest.reference(key.satp, GuestVirtAddr(address), Access::Fetch, rights).is_ok();
        let copy = self.copy_of(reached.address);
        if copy.is_some() && (access == Access::Store || access == Access::Load && is_code) {
            assert_eq!(verdict, Verdict::Overlaid(GuestPhysAddr(reached.address)));
            if access == Access::Store {
                self.end_copy(GuestPhysAddr(reached.address));
            }
            return access == Access::Store;
        }
        if access == Access::Store && self.rig.guest.ram.overlay().is_watched(GuestPhysAddr(reached.address))
        {
            assert_eq!(verdict, Verdict::Overlaid(GuestPhysAddr(reached.address)));
            self.rig.shadow.unwatch(&self.rig.guest.ram, GuestPhysAddr(reached.address));
            return true;
        }
        assert_eq!(verdict, Verdict::Filled);
        let leaf = self.rig.seen(key, address).expect("a filled page is there");
        assert!(leaf.permits(access), "{leaf:x?} refuses {access:?}");
        match copy.filter(|_| access == Access::Fetch && is_code) {
            Some(copy) => assert_eq!((leaf.start, leaf.size, leaf.host), (address & !0xfff, 0x1000, copy)),
            None => assert_eq!(leaf.host_of(address), host),
        }
        self.assert_true_of_the_guest(key, leaf, address);
        self.look(key, address);
        true
    }

    /// Copies the code page at an address, or ends its copy: what `vmm` does.
    fn copy(&mut self, key: ContextKey, address: u64) {
        let address = placed(key, GuestVirtAddr(address));
        let fetch = |guest: &Guest| {
            guest.reference(key.satp, GuestVirtAddr(address), Access::Fetch, key.view.rights()).ok()
        };
        let Some(reached) = fetch(&self.rig.guest).filter(|reached| host_of(reached.address).is_some())
        else {
            return;
        };
        let page = GuestPhysAddr(reached.address & !0xfff);
        if self.copy_of(page.0).is_some() {
            self.end_copy(page);
            self.flush();
        } else {
            let mut places = (0..COPY_PLACES).map(|nth| HostPhysAddr(COPIES + nth * PAGE_SIZE));
            let Some(copy) = places.find(|place| self.copies.iter().all(|(_, copy)| copy != place)) else {
                return;
            };
            let Rig { guest, shadow } = &mut self.rig;
            if !guest.ram.overlay_page(page, copy) {
                return;
            }
            self.copies.push((page, copy));
            shadow.remap(&guest.ram, key, GuestVirtAddr(address), page, false);
            self.flush();
        }
        self.assert_explained();
    }

    fn copy_of(&self, address: u64) -> Option<HostPhysAddr> {
        let found = self.copies.iter().find(|(page, _)| page.0 == address & !0xfff);
        found.map(|(_, copy)| *copy)
    }

    fn end_copy(&mut self, address: GuestPhysAddr) {
        let copy = self.rig.guest.ram.uncover_page(address).expect("a copied page");
        self.copies.retain(|(_, own)| *own != copy);
        self.rig.shadow.drop_copy(copy);
    }

    /// Why a leaf is not what the guest's tables say in this context without any change of theirs, or the guest's page
    /// that it is a piece of.
    fn explain(&self, key: ContextKey, owner: Owner, leaf: Leaf, inside: u64) -> Result<(u64, u64), String> {
        let mut page = Err(String::from("it allows nothing"));
        for access in ALL.into_iter().filter(|access| leaf.permits(*access)) {
            for address in [leaf.start, inside, leaf.start.wrapping_add(leaf.size - 1)] {
                let rights = key.view.rights();
                let reached = self.rig.guest.reference(key.satp, GuestVirtAddr(address), access, rights);
                let reached = reached.map_err(|_| format!("the guest refuses {access:?} at {address:#x}"))?;
                if reached.update.is_some() {
                    return Err(format!("the guest has yet to be told of {access:?}"));
                }
                let here = leaf.host_of(address);
                let copy = self.copy_of(reached.address).filter(|_| !leaf.permits(Access::Load));
                let is_copy = copy.is_some_and(|copy| copy.0 + address % 0x1000 == here.0);
                if host_of(reached.address) != Some(here) && !is_copy {
                    return Err(format!("it leads elsewhere at {address:#x}"));
                }
                if owner == Owner::SharedHalf && (!reached.global || reached.entry & Pte::U != 0) {
                    return Err(String::from("it is not everyone's"));
                }
                let size = if key.view == View::Bare { 1 << 60 } else { 4096 << (9 * reached.level) };
                page = Ok((address & !(size - 1), size));
            }
        }
        page
    }

    /// Asserts that the guest's tables allow all that a leaf allows, without a bit of them changing.
    fn assert_true_of_the_guest(&self, key: ContextKey, leaf: Leaf, inside: u64) {
        if let Err(why) = self.explain(key, Owner::Context(key), leaf, inside) {
            panic!("{leaf:x?} of {key:x?}: {why}");
        }
    }

    /// Takes note of the leaves of a context that was filled at `address`: what is new must be true.
    fn look(&mut self, key: ContextKey, address: u64) {
        let leaves = self.leaves(key);
        for (owner, leaf) in &leaves {
            let known = self.known.iter().position(|known| known.owner == *owner && known.leaf == *leaf);
            if known.is_some()
                && address.wrapping_sub(leaf.start) >= BLOCK_SIZE
                && leaf.start / BLOCK_SIZE != address / BLOCK_SIZE
            {
                continue;
            }
            let page = self.explain(key, *owner, *leaf, leaf.start);
            match (known, page) {
                (Some(known), Ok(page)) => self.known[known].pages.push(page),
                (Some(_), Err(_)) => {}
                (None, Ok(page)) => {
                    self.known.push(Known { owner: *owner, leaf: *leaf, pages: std::vec![page] });
                }
                (None, Err(why)) => panic!("{leaf:x?} of {key:x?} is new: {why}"),
            }
        }
        let shares = self.shares(key) == Some(true);
        let shadow = &self.rig.shadow;
        self.known.retain(|known| match known.owner {
            Owner::Context(other) if other != key => shadow.find(other).is_some(),
            Owner::SharedHalf if !shares => true,
            owner => leaves.contains(&(owner, known.leaf)),
        });
    }

    fn shares(&self, key: ContextKey) -> Option<bool> {
        self.rig.shadow.find(key).map(|(_, context)| context.shares)
    }

    /// What can be seen in a context, and whose it is.
    fn leaves(&self, key: ContextKey) -> Vec<(Owner, Leaf)> {
        let shadow = &self.rig.shadow;
        let Some((_, context)) = shadow.find(key) else { return Vec::new() };
        let (leaves, _) = hardware::leaves(shadow, shadow.pool.address(context.root));
        let owner = |leaf: &Leaf| match context.shares && leaf.start >> 63 == 1 {
            true => Owner::SharedHalf,
            false => Owner::Context(key),
        };
        leaves.into_iter().map(|leaf| (owner(&leaf), leaf)).collect()
    }

    /// Asserts that every shadow leaf was true of the guest since the last fence that names it, or, where its context
    /// can be entered, is true now; that the scanner finds nothing wrong, and that all tables are accounted for.
    fn assert_explained(&mut self) {
        let keys: Vec<_> = self.rig.shadow.numbered().map(|(_, key, _)| key).collect();
        let mut visible = Vec::new();
        for key in keys {
            if self.rig.shadow.root(key).is_some() {
                self.check_fenced(key);
            }
            for (owner, leaf) in self.leaves(key) {
                if !visible.contains(&(owner, leaf)) {
                    visible.push((owner, leaf));
                }
                let is_known = self.known.iter().any(|known| known.owner == owner && known.leaf == leaf);
                assert!(is_known, "{leaf:x?} of {owner:x?} came from nowhere");
            }
        }
        let shadow = &self.rig.shadow;
        let roots = shadow
            .numbered()
            .map(|(.., root)| root)
            .chain(shadow.shared_root().map(|id| shadow.pool.address(id)));
        let mut tables = Vec::new();
        roots.for_each(|root| hardware::tables(shadow, root, &mut tables));
        assert_eq!(tables.len() + shadow.pool.available(), shadow.pool.capacity());
        let scanned = check(shadow, &self.rig.guest.ram).map_err(|violation| violation.to_string());
        assert!(scanned.as_ref().is_ok_and(|count| *count >= visible.len()), "{scanned:?}");
        self.known.retain(|known| visible.contains(&(known.owner, known.leaf)));
    }

    /// As `explain`, for the shared half by way of any space that shares it.
    fn explain_by_any(&self, owner: Owner, leaf: Leaf) -> Result<(u64, u64), String> {
        let keys: Vec<_> = match owner {
            Owner::Context(key) => std::vec![key],
            Owner::SharedHalf => {
                let contexts = self.rig.shadow.contexts.iter().flatten();
                contexts.filter(|context| context.shares).map(|context| context.key).collect()
            }
        };
        let mut why = Err(String::new());
        for key in keys {
            why = self.explain(key, owner, leaf, leaf.start);
            if why.is_ok() {
                break;
            }
        }
        why
    }
}

impl Known {
    /// Forgets the pages that a fence names. What all spaces have is not named by a fence of one.
    fn fence(&mut self, address: Option<GuestVirtAddr>, asid: Option<u16>) {
        let names_owner = match self.owner {
            Owner::Context(key) => key.view != View::Bare && asid.is_none_or(|asid| asid == key.satp.asid),
            Owner::SharedHalf => asid.is_none(),
        };
        let named =
            |(start, size): (u64, u64)| address.is_none_or(|address| address.0.wrapping_sub(start) < size);
        self.pages.retain(|page| !(names_owner && named(*page)));
    }
}

/// Where an access goes: without translation, to RAM or just behind it.
fn placed(key: ContextKey, address: GuestVirtAddr) -> u64 {
    match key.satp.mode {
        Mode::Bare => RAM_BASE + address.0 % (RAM_SIZE + 0x1000),
        _ => address.0,
    }
}

fn steps(mode: Mode) -> impl Strategy<Value = Vec<Step>> {
    prop::collection::vec(random::address(mode), 6).prop_flat_map(|addresses| {
        // The same few addresses again, their neighbours, and others in the same superpages.
        const NEAR: [u64; 5] = [0, 0xfff, 0x7fff, BLOCK_SIZE - 1, (1 << 30) - 1];
        let address = (select(addresses), select(&NEAR[..]), any::<u64>())
            .prop_map(|(address, mask, other)| GuestVirtAddr(address.0 & !mask | other & mask & (RAM_SIZE - 1)));
        let address = address.boxed();
        let optional = prop::option::weighted(0.7, address.clone());
        let up = prop_oneof![4 => Just(0usize), 1 => Just(1)];
        let rewrite = (0..8usize, address.clone(), up, random::entry()).boxed();
        let access = (0..8usize, address.clone(), random::access()).boxed();
        let fence = (0..8usize, optional, prop::option::of(0..3u16));
        prop::collection::vec(
            prop_oneof![
                20 => access.clone().prop_map(|(c, a, kind)| Step::Access(c, a, kind)),
                4 => access.prop_map(|(c, a, kind)| Step::Enter(c, a, kind)),
                3 => (0..TABLES, select(&SLOTS[..]), random::entry()).prop_map(|(t, s, e)| Step::Edit(t, s, e)),
                5 => rewrite.clone().prop_map(|(c, a, up, e)| Step::Rewrite(c, a, up, e)),
                2 => rewrite.prop_map(|(c, a, up, e)| Step::Settle(c, a, up, e)),
                4 => fence.prop_map(|(c, a, asid)| Step::Fence(c, a, asid)),
                2 => (0..8usize, address).prop_map(|(c, a)| Step::Copy(c, a)),
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
        for_all(CASES, &cases, |(entries, contexts, steps)| {
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
        let history = RefCell::new(History::new(mode));
        for_all(CASES, &change(), |change| {
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
            history.step(&contexts, Step::Fence(0, fenced, change.asid));
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
