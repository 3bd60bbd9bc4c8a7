//! What a history has to be true to: a leaf is there because the guest's tables say so, or said so when its page was last
//! fenced. Keeps what is known of each leaf.

use std::format;
use std::string::{String, ToString};

use super::machine::History;
use super::*;
use crate::check::check;

const ALL: [Access; 3] = [Access::Fetch, Access::Load, Access::Store];

/// Whose a leaf is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Owner {
    Context(ContextKey),
    SharedHalf,
}

/// A leaf that is there, and of which guest pages (first address, bytes) it was a true piece since they were last fenced.
pub(super) struct Known {
    owner: Owner,
    leaf: Leaf,
    pages: Vec<(u64, u64)>,
}

impl Known {
    /// Forgets the pages that a fence names. What all spaces have is not named by a fence of one.
    pub(super) fn fence(&mut self, address: Option<GuestVirtAddr>, asid: Option<u16>) {
        let names_owner = match self.owner {
            Owner::Context(key) => key.view != View::Bare && asid.is_none_or(|asid| asid == key.satp.asid),
            Owner::SharedHalf => asid.is_none(),
        };
        let named =
            |(start, size): (u64, u64)| address.is_none_or(|address| address.0.wrapping_sub(start) < size);
        self.pages.retain(|page| !(names_owner && named(*page)));
    }
}

impl History {
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
                if self.rig.guest.host_of(reached.address) != Some(here) && !is_copy {
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

    /// As `explain`, for the shared half by way of any space that the hart was in since it forgot everything, or
    /// that it enters now.
    fn explain_by_any(&self, key: ContextKey, owner: Owner, leaf: Leaf) -> Result<(u64, u64), String> {
        let keys: Vec<_> = match owner {
            Owner::Context(key) => std::vec![key],
            Owner::SharedHalf => {
                let spaces = self.entered.iter().copied().chain([key.satp]);
                spaces.map(|satp| ContextKey { satp, ..key }).collect()
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

    /// Asserts that the guest's tables allow all that a leaf allows, without a bit of them changing.
    pub(super) fn assert_true_of_the_guest(&self, key: ContextKey, leaf: Leaf, inside: u64) {
        if let Err(why) = self.explain(key, Owner::Context(key), leaf, inside) {
            panic!("{leaf:x?} of {key:x?}: {why}");
        }
    }

    /// Takes note of the leaves of a context that was filled at `address`: what is new must be true.
    pub(super) fn look(&mut self, key: ContextKey, address: u64) {
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

    /// Asserts that what was fenced and is still there in a context that can be entered is true now.
    pub(super) fn check_fenced(&mut self, key: ContextKey) {
        self.check_fenced_of(key, |_| true);
    }

    /// The same, where what belongs to some owners need not be true: it will be asked about before it can be used. What is
    /// true may stay, for no fence asks about it again if its table is written after this one.
    fn check_fenced_of(&mut self, key: ContextKey, has_to_hold: impl Fn(Owner) -> bool) {
        if self.known.iter().all(|known| !known.pages.is_empty()) {
            return;
        }
        for (owner, leaf) in self.leaves(key) {
            let known = self.known.iter().position(|known| known.owner == owner && known.leaf == leaf);
            let Some(known) = known else { panic!("{leaf:x?} of {owner:x?} came from nowhere") };
            if self.known[known].pages.is_empty() {
                match self.explain_by_any(key, owner, leaf) {
                    Ok(page) => self.known[known].pages.push(page),
                    Err(why) => assert!(!has_to_hold(owner), "{leaf:x?} of {owner:x?} was fenced: {why}"),
                }
            }
        }
    }

    pub(super) fn shares(&self, key: ContextKey) -> Option<bool> {
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
    pub(super) fn assert_explained(&mut self) {
        let contexts = self.rig.shadow.numbered().map(|(_, key, _)| key);
        let keys: Vec<_> = contexts.chain(self.keys.iter().copied()).collect();
        let mut visible = Vec::new();
        for key in keys {
            let shadow = &self.rig.shadow;
            let is_fresh = shadow.find(key).is_some_and(|(_, context)| !context.stale);
            let can_be_used = shadow.root(key).is_some();
            self.check_fenced_of(key, |owner| can_be_used || is_fresh && owner != Owner::SharedHalf);
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
}
