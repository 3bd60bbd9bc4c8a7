//! Which contexts there are: found by ASID, made, made current, and released for want of room; and the upper half that
//! they share. What is in their tables is `fill`'s and `forget`'s business.

use arrayvec::ArrayVec;
use isa::paging::{Mode, Pte};
use memory::GuestRam;

use super::ShadowMmu;
use super::effects::{LostRoots, TlbFlush};
use super::roots::{CONTEXTS, KERNEL, ROOTS, Root, bit};
use super::watch::Roots;
use crate::context::{ContextKey, View};
use crate::pool::{Source, TableId, TableList};

/// What is known of one context.
#[derive(Debug)]
pub(super) struct Context {
    pub(super) key: ContextKey,
    pub(super) root: TableId,
    pub(super) tables: TableList,
    /// A fence wants what is loose here compared with the guest's tables before it is used again.
    pub(super) stale: bool,
    /// The tables that a fence has to ask about, in a list of the pool's: see `watch`.
    pub(super) loose: Option<TableId>,
    /// Its upper half is the shared one.
    pub(super) shares: bool,
    /// It may have, not in the shared half, a leaf that allows nothing but fetching.
    pub(super) holds_code: bool,
    /// The places of its hints, a bit each.
    pub(super) hinted: u64,
    /// The next context with the same ASID, or nearly.
    pub(super) next: Option<u8>,
}

/// The upper half that contexts of supervisor mode share. Its root has nothing in its lower half, so it serves the contexts
/// that have nothing there either.
#[derive(Debug)]
pub(super) struct SharedHalf {
    /// Of the guests' modes, the one that it is for.
    pub(super) mode: Mode,
    /// Like a root; those that share have its upper half.
    pub(super) root: TableId,
    pub(super) tables: TableList,
    pub(super) stale: bool,
    /// The guest's roots that are watched and have what its root has.
    pub(super) roots: Roots,
    /// Its loose tables.
    pub(super) loose: Option<TableId>,
    /// The table that follows whichever root one looks from.
    pub(super) any_root: Option<TableId>,
}

impl Context {
    fn new(key: ContextKey, root: TableId, shares: bool, next: Option<u8>) -> Self {
        let tables = TableList::default();
        Self { key, root, tables, stale: false, loose: None, shares, holds_code: false, hinted: 0, next }
    }
}

impl ShadowMmu {
    /// The roots of all contexts, and whether each shares its upper half.
    pub(crate) fn roots(&self) -> impl Iterator<Item = (TableId, bool)> + '_ {
        self.own_contexts().flatten().map(|context| (context.root, context.shares))
    }

    /// The roots that are no context's now. The hardware may be running under one of them.
    pub(crate) fn free_roots(&self) -> impl Iterator<Item = TableId> + '_ {
        let roots = self.contexts.iter().enumerate().filter(|(_, context)| context.is_none());
        roots.filter_map(|(number, _)| self.pool.at(self.pool.address_of(number)))
    }

    /// The root of the shared upper half.
    pub(crate) fn shared_root(&self) -> Option<TableId> {
        self.shared.as_ref().map(|shared| shared.root)
    }

    /// The contexts but `KERNEL`.
    pub(super) fn own_contexts(&self) -> impl Iterator<Item = &Option<Context>> + '_ {
        self.contexts.iter().take(CONTEXTS)
    }

    #[inline]
    pub(super) fn is_stale(&self, context: &Context) -> bool {
        context.stale || context.shares && self.shared.as_ref().is_some_and(|shared| shared.stale)
    }

    #[inline]
    pub(super) fn current_context(&self) -> Option<(usize, &Context)> {
        let number = self.current?;
        Some((number, self.contexts.get(number)?.as_ref()?))
    }

    pub(super) fn context(&self, number: usize) -> Option<&Context> {
        self.contexts.get(number)?.as_ref()
    }

    pub(super) fn context_mut(&mut self, number: usize) -> Option<&mut Context> {
        self.contexts.get_mut(number)?.as_mut()
    }

    /// The contexts whose ASID is this one, or nearly, by number.
    pub(super) fn chain(&self, asid: u16) -> impl Iterator<Item = (usize, &Context)> {
        let first = self.chains.get(usize::from(asid) % CONTEXTS).copied().flatten();
        let with_context = |number: u8| Some((usize::from(number), self.context(usize::from(number))?));
        core::iter::successors(first.and_then(with_context), move |(_, context)| {
            context.next.and_then(with_context)
        })
    }

    /// The contexts with this ASID, a bit each.
    pub(super) fn with_asid(&self, asid: u16) -> u64 {
        let exactly = self.chain(asid).filter(|(_, context)| context.key.satp.asid == asid);
        exactly.fold(0, |set, (number, _)| set | bit(number))
    }

    pub(super) fn find(&self, key: ContextKey) -> Option<(usize, &Context)> {
        // Not by `chain`, which takes a hundred instructions more.
        let mut next = self.chains.get(usize::from(key.satp.asid) % CONTEXTS).copied().flatten();
        while let Some(number) = next {
            let context = self.context(usize::from(number))?;
            if context.key == key {
                return Some((usize::from(number), context));
            }
            next = context.next;
        }
        let shared = self.shared.as_ref()?;
        let is_kernels = needs_no_users(key) && key.satp.mode == shared.mode;
        is_kernels.then(|| self.context(KERNEL)).flatten().map(|context| (KERNEL, context))
    }

    pub(super) fn switch(&mut self, ram: &GuestRam, key: ContextKey) -> Root {
        let number = match self.find(key) {
            Some((number, _)) => number,
            None if needs_no_users(key) => {
                self.share(key);
                KERNEL
            }
            None => self.create(key),
        };
        if number == KERNEL
            && let Some(context) = self.context_mut(KERNEL)
        {
            context.key = key;
        }
        // A new one, too, where the half that it shares is stale.
        if self.context(number).is_some_and(|context| self.is_stale(context)) {
            self.freshen(ram, number);
        }
        if self.context(number).is_some_and(|context| context.shares) && !self.can_share(key.satp) {
            // No fence has asked this space's root.
            self.compare_shared(ram, key.satp);
            self.trust.disregard_found();
            self.begin_watches(ram);
        }
        self.make_current(number);
        let Some(context) = self.context(number) else { lost_context() };
        Root { table: self.pool.address(context.root), number }
    }

    fn make_current(&mut self, number: usize) {
        self.current = Some(number);
        self.recent |= bit(number);
    }

    /// Gives the current context, `KERNEL`, tables of its own.
    pub(super) fn settle(&mut self, key: ContextKey) -> usize {
        let number = self.create(key);
        self.make_current(number);
        // That of this key was the kernels'.
        self.lost_roots = LostRoots::All;
        number
    }

    fn create(&mut self, key: ContextKey) -> usize {
        let shares = matches!(key.view, View::Supervisor { mxr: false, .. });
        if shares {
            self.share(key);
        }
        let number = if self.live == u64::MAX { self.evict() } else { self.live.trailing_ones() as usize };
        self.live |= bit(number);
        let root = self.pool.fixed(number, self.top());
        self.pool.set_source(root, Source::None);
        if shares && let Some(shared) = &self.shared {
            let mut first = 0;
            while let Some(slot) = self.pool.next_used(shared.root, first) {
                first = slot + 1;
                self.pool.set_fixed(root, slot, self.pool.entry(shared.root, slot));
            }
        }
        let chain = usize::from(key.satp.asid) % CONTEXTS;
        let next = self.chains.get(chain).copied().flatten();
        if let Some(place) = self.contexts.get_mut(number) {
            *place = Some(Context::new(key, root, shares, next));
        }
        if let Some(first) = self.chains.get_mut(chain) {
            *first = Some(number as u8);
        }
        number
    }

    /// Makes sure that there is a shared half for the mode of this context.
    fn share(&mut self, key: ContextKey) {
        let mode = key.satp.mode;
        if self.shared.as_ref().is_some_and(|shared| shared.mode == mode) {
            return;
        }
        // A guest changes its mode once, as a rule.
        if self.shared.is_some() {
            self.clear();
        }
        let root = self.pool.fixed(KERNEL, self.top());
        self.pool.set_source(root, Source::None);
        if let Some(place) = self.contexts.get_mut(KERNEL) {
            *place = Some(Context::new(key, root, true, None));
        }
        self.restless_shared = false;
        self.shared = Some(SharedHalf {
            mode,
            root,
            tables: TableList::default(),
            stale: false,
            loose: None,
            any_root: None,
            roots: Roots::default(),
        });
    }

    /// Takes out of a root what it has of the shared half.
    fn clear_shared(&mut self, root: TableId) {
        let Some(shared) = &self.shared else { return };
        let mut first = 0;
        while let Some(slot) = self.pool.next_used(shared.root, first) {
            first = slot + 1;
            self.pool.set_fixed(root, slot, Pte(0));
        }
    }

    /// Gives a context an upper half of its own.
    pub(super) fn unshare(&mut self, number: usize) {
        let Some(context) = self.context_mut(number) else { return };
        context.shares = false;
        let root = context.root;
        self.clear_shared(root);
        self.hints.clear();
        self.lost_roots = LostRoots::All;
        self.flush = TlbFlush::All;
    }

    /// Drops all that a context, or the shared half, has in its tables, none of which is loose any more.
    #[cold]
    pub(super) fn forget_half(&mut self, number: usize, shares: bool) {
        self.flush = TlbFlush::All;
        self.hints.clear();
        self.dropped_code.all = true;
        if shares {
            let sharing = self.contexts.iter().flatten().filter(|context| context.shares);
            let sharing: ArrayVec<_, ROOTS> = sharing.map(|context| context.root).collect();
            sharing.into_iter().for_each(|root| self.clear_shared(root));
            let Some(shared) = &mut self.shared else { return };
            (shared.loose, shared.any_root) = (None, None);
            shared.roots.clear();
            self.pool.forget(shared.root, &mut shared.tables);
            self.restless_shared = false;
        } else {
            let Some(context) = self.contexts.get_mut(number).and_then(Option::as_mut) else { return };
            (context.loose, context.holds_code, context.hinted) = (None, false, 0);
            self.pool.forget(context.root, &mut context.tables);
            self.own_uppers &= !bit(number);
            self.restless &= !bit(number);
        }
    }

    /// Releases a context that was not used lately, not the current one, and returns its number.
    pub(super) fn evict(&mut self) -> usize {
        let others = self.live & !self.current.map_or(0, bit);
        let mut idle = others & !self.recent;
        if idle == 0 {
            self.recent = 0;
            idle = others;
        }
        let ahead = idle.rotate_right(self.next_victim).trailing_zeros();
        let victim = self.next_victim.wrapping_add(ahead) % CONTEXTS as u32;
        self.next_victim = victim.wrapping_add(1) % CONTEXTS as u32;
        self.release(victim as usize);
        victim as usize
    }

    pub(super) fn release(&mut self, number: usize) {
        let Some(mut context) = self.contexts.get_mut(number).and_then(Option::take) else { return };
        self.lost_roots = self.lost_roots.and(LostRoots::Asid(context.key.satp.asid));
        self.flush = TlbFlush::All;
        if context.shares {
            self.clear_shared(context.root);
        }
        self.live &= !bit(number);
        self.recent &= !bit(number);
        // The hardware may be running under this root, and its tables soon belong to others.
        self.pool.clear(context.root);
        self.dropped_code.all |= context.holds_code;
        self.own_uppers &= !bit(number);
        self.restless &= !bit(number);
        self.hints.forget_root(self.hint_root_of(number), context.hinted);
        self.pool.give_back(&mut context.tables);
        let number = Some(number as u8);
        let chain = usize::from(context.key.satp.asid) % CONTEXTS;
        if self.chains.get(chain).copied().flatten() == number {
            if let Some(first) = self.chains.get_mut(chain) {
                *first = context.next;
            }
        } else {
            let before = {
                let mut chain = self.chain(context.key.satp.asid);
                let found = chain.find(|(_, other)| other.next == number);
                found.map(|(before, _)| before)
            };
            if let Some(before) = before.and_then(|before| self.context_mut(before)) {
                before.next = context.next;
            }
        }
        if self.current.map(|current| current as u8) == number {
            self.current = None;
        }
    }
}

/// Whether a context can do with the shared half as long as it touches nothing else.
const fn needs_no_users(key: ContextKey) -> bool {
    matches!(key.view, View::Supervisor { sum: false, mxr: false })
}

/// A bug of ours, which no guest input leads to: `create` has filled the place.
#[cold]
#[allow(clippy::panic, reason = "see above")]
fn lost_context() -> ! {
    panic!("the shadow lost a context")
}
