//! A machine to which things happen: a guest and its shadow, on a hart that others may share. Each step asks `truth` whether
//! what is there may be there. The assembly's part is `assembly`'s.

use super::hart::Hart;
use super::truth::Known;
use core::sync::atomic::Ordering;

use super::*;
use crate::asids::AsidBlock;
use crate::testing::{HOST_BASE, cover, table_address, uncover};

/// Where copies of code pages are in host memory, and how many there is room for.
const COPIES: u64 = 0x3_0000_0000;
const COPY_PLACES: u64 = 4;

/// How far apart guests' RAM, shadows and copies are in host memory.
const GUESTS_APART: u64 = 1 << 24;

/// What may happen.
#[derive(Clone, Debug)]
pub(super) enum Step {
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
    /// The guest writes satp, to enter one of the contexts.
    Switch(usize),
    /// The guest changes SUM or MXR in one of the contexts.
    ChangeRights(usize),
    /// Nothing is known of the kernel any more.
    Distrust,
    /// The assembly carries out a fence of everything, if there is nothing for it to do; else Rust does.
    FenceFast(usize),
    /// The guest uses an address in one of the contexts and fences everything, so often that its tables come to be watched; then
    /// it maps page after page behind it, in the same tables and others, uses and fences them, while what is watched stays.
    Grow(usize, GuestVirtAddr, u64),
    /// A device writes to a table, and changes one entry.
    Device(u64),
    /// The code at an address in one of the contexts is copied, or its copy ends.
    Copy(usize, GuestVirtAddr),
    /// The vCPU loses its caches; whether its kernel is trusted all the same.
    Lose(bool),
    /// The virtual machine is reset.
    Reset,
}

/// A machine with a past.
pub(super) struct History {
    pub(super) rig: Rig,
    /// Its number on the hart.
    pub(super) number: usize,
    pub(super) known: Vec<Known>,
    /// Addresses that the hart may look up at any time.
    recent: [u64; 3],
    /// `FastState::filled_writable`.
    pub(super) filled_writable: bool,
    /// The contexts of this history.
    pub(super) keys: Vec<ContextKey>,
    /// The roots that the assembly was told.
    told: Vec<(ContextKey, Root)>,
    /// The spaces that the hart was in since the last fence of everything: what is global in them it may have cached.
    pub(super) entered: Vec<Satp>,
    copies: Vec<(GuestPhysAddr, HostPhysAddr)>,
}

impl History {
    /// A guest that is yet to run, the one with this number on the hart.
    pub(super) fn new(mode: Mode, number: usize, hart: &mut Hart) -> Self {
        Self::with_asids(mode, number, hart.asids.deal())
    }

    /// One that has these ASIDs.
    pub(super) fn with_asids(mode: Mode, number: usize, asids: Option<AsidBlock>) -> Self {
        let host = HostPaging { asids, ..host(mode) };
        let place = number as u64 * GUESTS_APART;
        let shadow = shadow_at(host, MIN_TABLES, HostPhysAddr(POOL_BASE.0 + place));
        Self {
            rig: Rig { guest: Guest::at(HOST_BASE + place), shadow },
            number,
            known: Vec::new(),
            recent: [0; 3],
            filled_writable: false,
            keys: Vec::new(),
            told: Vec::new(),
            entered: Vec::new(),
            copies: Vec::new(),
        }
    }

    pub(super) fn step(&mut self, hart: &mut Hart, contexts: &[ContextKey], step: Step) {
        let key_of = |context: usize| contexts[context % contexts.len()];
        self.keys = contexts.to_vec();
        match step {
            Step::Access(context, address, access) => {
                let key = key_of(context);
                self.access(hart, key, placed(key, address), access);
            }
            Step::Enter(context, address, access) => {
                let key = key_of(context);
                self.access_fast(hart, key, placed(key, address), access);
            }
            Step::Edit(table, slot, entry) => self.rig.guest.set(table_address(table), slot, entry),
            Step::Rewrite(context, address, up, entry) => {
                if let Some((table, slot)) = self.rig.guest.looked_at(key_of(context).satp, address, up) {
                    self.rig.guest.set(table, slot, entry);
                }
            }
            Step::Fence(context, address, asid) => {
                let key = key_of(context);
                self.enter(hart, key);
                let Rig { guest, shadow } = &mut self.rig;
                let names_all = !shadow.trusts_fences();
                // It fills in what it has dropped, so that is not to be taken for what was there.
                let is_filled =
                    asid.is_none() && address.is_some_and(|at| shadow.fence_shared(&guest.ram, at));
                if !is_filled {
                    shadow.fence(&guest.ram, address, asid);
                }
                let (address, asid) = if names_all { (None, None) } else { (address, asid) };
                self.note_fence(key, address, asid);
                if let Some(address) = address.filter(|_| is_filled) {
                    self.look(key, address.0);
                }
                self.enter(hart, key);
                self.assert_explained();
            }
            Step::Settle(context, address, up, entry) => {
                for _ in 0..3 {
                    self.step(hart, contexts, Step::Access(context, address, Access::Load));
                    self.step(hart, contexts, Step::Fence(context, None, None));
                }
                self.step(hart, contexts, Step::Rewrite(context, address, up, entry));
                self.step(hart, contexts, Step::Fence(context, None, None));
            }
            Step::Switch(context) => {
                let key = key_of(context);
                self.rig.shadow.satp_changed(&self.rig.guest.ram, key.satp);
                let is_fence = !self.rig.shadow.trusts_switches();
                self.follow_unnamed_fence(hart, key, is_fence);
            }
            Step::ChangeRights(context) => {
                let is_fence = !self.rig.shadow.trusts_fences();
                self.rig.shadow.rights_changed(&self.rig.guest.ram);
                self.follow_unnamed_fence(hart, key_of(context), is_fence);
            }
            Step::Distrust => self.rig.shadow.distrust_kernel(),
            Step::FenceFast(context) => {
                let key = key_of(context);
                self.enter(hart, key);
                let shadow = &self.rig.shadow;
                if shadow.settled() != self.rig.guest.ram.overlay().unwatched().load(Ordering::Relaxed) {
                    return self.step(hart, contexts, Step::Fence(context, None, None));
                }
                hart.fence(TlbFlush::All);
                self.note_fence(key, None, None);
                self.assert_explained();
            }
            Step::Grow(context, address, stride) => {
                let key = key_of(context);
                for round in 0..3_u64 {
                    let grown = GuestVirtAddr(address.0.wrapping_add(round * stride));
                    if let Some((table, slot)) = self.rig.guest.looked_at(key.satp, grown, 0) {
                        self.rig.guest.set(table, slot, Pte::new(RAM_BASE + round * PAGE_SIZE, KERNEL));
                    }
                    self.step(hart, contexts, Step::Access(context, grown, Access::Load));
                    self.step(hart, contexts, Step::Fence(context, None, None));
                    self.step(hart, contexts, Step::Access(context, address, Access::Load));
                    self.step(hart, contexts, Step::Fence(context, None, None));
                }
            }
            Step::Device(table) => {
                let ram = &self.rig.guest.ram;
                let slot = table_address(table).wrapping_add(8);
                ram.write(slot, &[0; 8]).unwrap();
            }
            Step::Copy(context, address) => self.copy(hart, key_of(context), address.0),
            // *droppable-caches*
            Step::Lose(is_trusted) => {
                self.rig.shadow.drop_all();
                if is_trusted {
                    self.rig.shadow.trust_kernel();
                }
                self.filled_writable = false;
                self.flush(hart);
                self.assert_explained();
                assert_eq!(self.rig.shadow.pool.available(), self.rig.shadow.pool.capacity());
            }
            Step::Reset => {
                self.rig.shadow.clear();
                self.rig.guest.ram.open_all_pages();
                self.copies.clear();
                self.known.clear();
                self.entered.clear();
                self.flush(hart);
                self.assert_explained();
                assert_eq!(self.rig.shadow.pool.available(), self.rig.shadow.pool.capacity());
            }
        }
    }

    /// Does to the TLB what the shadow asks for. Until another root is in satp the hart may still look up what it likes
    /// under the old one.
    pub(super) fn flush(&mut self, hart: &mut Hart) {
        if self.rig.shadow.has_doubts() {
            self.rig.shadow.clear_doubts(&self.rig.guest.ram);
        }
        // As `vmm` does: nobody else has what is watched from now on mapped writable.
        self.rig.shadow.take_new_watches();
        hart.look_up(self.number, &self.rig.shadow, &self.recent);
        hart.fence(self.rig.shadow.take_flush());
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
        self.told = self.keys.iter().filter_map(|key| Some((*key, shadow.root(*key)?))).collect();
    }

    /// Notes that the guest fences, in the context for `key`.
    fn note_fence(&mut self, key: ContextKey, address: Option<GuestVirtAddr>, asid: Option<u16>) {
        self.known.iter_mut().for_each(|known| known.fence(address, asid));
        if address.is_none() && asid.is_none() {
            self.entered = std::vec![key.satp];
        }
    }

    fn follow_unnamed_fence(&mut self, hart: &mut Hart, key: ContextKey, is_fence: bool) {
        if is_fence {
            self.note_fence(key, None, None);
        }
        self.enter(hart, key);
        self.assert_explained();
    }

    pub(super) fn enter(&mut self, hart: &mut Hart, key: ContextKey) -> Root {
        hart.enter(self.number);
        let root = self.rig.activate(key);
        self.entered.push(key.satp);
        self.check_fenced(key);
        self.flush(hart);
        hart.switch(self.number, &self.rig.shadow, root);
        root
    }

    pub(super) fn note(&mut self, address: u64) {
        self.recent.rotate_right(1);
        self.recent[0] = address;
    }

    /// Lets the hart try until the access succeeds or is somebody else's business.
    fn access(&mut self, hart: &mut Hart, key: ContextKey, address: u64, access: Access) {
        self.note(address);
        // The end of a copy or of a watch, a fill, and where the TLB has less than that, a flush of what it has.
        for _ in 0..if access == Access::Store { 5 } else { 3 } {
            self.enter(hart, key);
            if hart.access(&self.rig.shadow, address, access) {
                return;
            }
            if !self.resolve(key, address, access) {
                return;
            }
        }
        panic!("{access:?} at {address:#x} in {key:x?} faults again and again");
    }

    /// Resolves a fault, and says whether there is a page now.
    pub(super) fn resolve(&mut self, key: ContextKey, address: u64, access: Access) -> bool {
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
        let Some(host) = self.rig.guest.host_of(reached.address) else {
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
    fn copy(&mut self, hart: &mut Hart, key: ContextKey, address: u64) {
        let address = placed(key, GuestVirtAddr(address));
        let fetch = |guest: &Guest| {
            guest.reference(key.satp, GuestVirtAddr(address), Access::Fetch, key.view.rights()).ok()
        };
        let Some(reached) =
            fetch(&self.rig.guest).filter(|reached| self.rig.guest.host_of(reached.address).is_some())
        else {
            return;
        };
        let page = GuestPhysAddr(reached.address & !0xfff);
        if self.copy_of(page.0).is_some() {
            self.end_copy(page);
            self.flush(hart);
        } else {
            let base = COPIES + self.number as u64 * GUESTS_APART;
            let mut places = (0..COPY_PLACES).map(|nth| HostPhysAddr(base + nth * PAGE_SIZE));
            let Some(copy) = places.find(|place| self.copies.iter().all(|(_, copy)| copy != place)) else {
                return;
            };
            let Rig { guest, shadow } = &mut self.rig;
            if !cover(&guest.ram, page, copy) {
                return;
            }
            self.copies.push((page, copy));
            shadow.remap(&guest.ram, key, GuestVirtAddr(address), page, self.filled_writable);
            self.flush(hart);
        }
        self.assert_explained();
    }

    pub(super) fn copy_of(&self, address: u64) -> Option<HostPhysAddr> {
        let found = self.copies.iter().find(|(page, _)| page.0 == address & !0xfff);
        found.map(|(_, copy)| *copy)
    }

    fn end_copy(&mut self, address: GuestPhysAddr) {
        let copy = uncover(&self.rig.guest.ram, address).expect("a copied page");
        self.copies.retain(|(_, own)| *own != copy);
        self.rig.shadow.drop_page(copy);
    }
}

/// Where an access goes: without translation, to RAM or just behind it.
fn placed(key: ContextKey, address: GuestVirtAddr) -> u64 {
    match key.satp.mode {
        Mode::Bare => RAM_BASE + address.0 % (RAM_SIZE + 0x1000),
        _ => address.0,
    }
}
