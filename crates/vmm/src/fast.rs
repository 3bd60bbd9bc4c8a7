//! Keeps what the assembly goes by in step with the vCPU: the shadow roots of its address space, the tag that tells the
//! space's sites from others', and whether there is something that the assembly must not pass by.

pub(crate) mod state;

use core::sync::atomic::Ordering;

use isa::Privilege;
use isa::paging::{Mode, Satp};
use mmu::{ContextKey, DroppedCode, LostRoots, Rights};
use vhart::{RootSatp, Roots, Space};

use crate::machine::Machine;
use crate::vcpu::Vcpu;
use state::TAGS;

/// The views of a space that the assembly goes between.
const USER: Rights = Rights { privilege: Privilege::User, sum: false, mxr: false };
const SUPERVISOR: Rights = Rights { privilege: Privilege::Supervisor, sum: false, mxr: false };
const SUPERVISOR_SUM: Rights = Rights { privilege: Privilege::Supervisor, sum: true, mxr: false };

/// Tags are numbers of 15 bits, from 1 on, in bits 48 to 62.
const LAST_TAG: u64 = 0x7fff;

/// Brings the frame's part up to date, and gives the root to run under, as the real satp; to be called before the guest
/// runs.
#[inline]
pub(crate) fn root(machine: &Machine, vcpu: &mut Vcpu) -> RootSatp {
    let (root, is_found_anew) = known_root(machine, vcpu);
    let settled = vcpu.caches.shadow.settled();
    if !vcpu.caches.shadow.trusts_switches() {
        let is_settled = settled == machine.ram.overlay().unwatched().load(Ordering::Acquire);
        // Otherwise what is withheld stays so: only Rust changes the roots and satp then.
        if is_found_anew || vcpu.frame.fast.settled != settled || vcpu.caches.fast.withheld == is_settled {
            withhold_roots(vcpu, is_settled);
        }
    }
    vcpu.frame.fast.settled = settled;
    root
}

/// Where a change of satp or SUM is a fence that has something to do, lets the assembly make none: see `mmu`'s `trust`.
#[cold]
#[inline(never)]
fn withhold_roots(vcpu: &mut Vcpu, is_settled: bool) {
    vcpu.caches.fast.followed = vcpu.frame.csr.translation();
    let was_withheld = core::mem::replace(&mut vcpu.caches.fast.withheld, !is_settled);
    if is_settled {
        return;
    }
    if !was_withheld {
        vcpu.frame.fast.spaces.clear();
    }
    if !vcpu.caches.shadow.trusts_fences() {
        let roots = &mut vcpu.frame.fast.roots;
        let other = if vcpu.frame.csr.sum() { &mut roots.supervisor } else { &mut roots.supervisor_sum };
        *other = None;
    }
}

/// The root, and whether it had to be found anew.
#[inline]
fn known_root(machine: &Machine, vcpu: &mut Vcpu) -> (RootSatp, bool) {
    vcpu.frame.follow_interrupts();
    if vcpu.caches.shadow.has_doubts() {
        vcpu.caches.shadow.clear_doubts(&machine.ram);
    }
    if let Some(dropped) = vcpu.caches.shadow.take_dropped_code() {
        forget_sites(vcpu, &dropped);
    }
    if vcpu.caches.fast.senvcfg != vcpu.frame.csr.senvcfg() {
        vcpu.caches.fast.senvcfg = vcpu.frame.csr.senvcfg();
        vcpu.frame.follow_environment(vcpu.caches.shadow.host().asids.is_none());
    }
    let lost = vcpu.caches.shadow.take_lost_roots();
    if lost != LostRoots::None {
        forget_roots(vcpu, lost);
    }
    let roots = &vcpu.frame.fast.roots;
    let is_same = vcpu.caches.fast.satp == vcpu.frame.csr.satp_bits()
        && vcpu.caches.fast.tag == roots.tag
        && !vcpu.frame.csr.mxr();
    let root = match (vcpu.frame.privilege, vcpu.frame.csr.sum()) {
        (Privilege::User, _) => roots.user,
        (Privilege::Supervisor, false) => roots.supervisor,
        (Privilege::Supervisor, true) => roots.supervisor_sum,
    };
    match root {
        Some(root) if is_same => (root, false),
        _ => (find_root(machine, vcpu), true),
    }
}

/// What `known_root` does where something has changed.
#[cold]
fn find_root(machine: &Machine, vcpu: &mut Vcpu) -> RootSatp {
    let ram = &machine.ram;
    let (key, satp) = (vcpu.context(), vcpu.frame.csr.satp_bits());
    let is_new = core::mem::replace(&mut vcpu.caches.fast.satp, satp) != satp
        || vcpu.caches.fast.tag != vcpu.frame.fast.roots.tag;
    let is_translated = vcpu.frame.csr.satp().mode != Mode::Bare;
    let mut found = Roots::NONE;
    if is_translated && !vcpu.frame.csr.mxr() {
        // A kernel that enters an address space soon enters its user mode, and reaches into it; so does one that has
        // fenced it.
        for rights in [USER, SUPERVISOR_SUM] {
            let other = ContextKey::new(key.satp, rights);
            if other != key && (is_new || vcpu.caches.shadow.has(other)) {
                let root = vcpu.caches.shadow.activate(ram, other);
                note(&mut found, rights, vcpu.caches.shadow.satp(root));
            }
        }
    }
    let root = vcpu.caches.shadow.activate(ram, key);
    let root = vcpu.caches.shadow.satp(root);
    note(&mut found, key.view.rights(), root);
    vcpu.frame.fast.set_memory(ram, vcpu.caches.shadow.hints());
    // Activating may compare a context with the guest's tables, or drop one for want of room.
    if let Some(dropped) = vcpu.caches.shadow.take_dropped_code() {
        forget_sites(vcpu, &dropped);
    }
    let lost = vcpu.caches.shadow.take_lost_roots();
    if lost != LostRoots::None {
        forget_roots(vcpu, lost);
    }
    if lost == LostRoots::All || lost == LostRoots::Asid(key.satp.asid) {
        found = Roots::NONE;
    }
    if vcpu.frame.csr.mxr() {
        vcpu.frame.fast.spaces.clear();
    }
    // Where the assembly has written satp, it has taken the roots along.
    match vcpu.frame.fast.spaces.get(satp) {
        Some(space) if is_new => vcpu.frame.fast.roots = space.roots,
        _ => find_roots(vcpu, satp, found),
    }
    vcpu.caches.fast.tag = vcpu.frame.fast.roots.tag;
    root
}

/// A root at hand for the assembly that is none of the vCPU's own, as a value for the real satp.
pub(crate) fn foreign_root(vcpu: &Vcpu) -> Option<RootSatp> {
    let at_hand = core::iter::once(&vcpu.frame.fast.roots)
        .chain(vcpu.frame.fast.spaces.iter().map(|space| &space.roots));
    let roots = at_hand.flat_map(|roots| [roots.user, roots.supervisor, roots.supervisor_sum]);
    roots.flatten().find(|root| !vcpu.caches.shadow.owns(*root))
}

/// Takes down a root that was found for one view of the current space.
fn note(found: &mut Roots, rights: Rights, root: RootSatp) {
    let root = Some(root);
    match (rights.privilege, rights.sum) {
        (Privilege::User, _) => found.user = root,
        (Privilege::Supervisor, false) => found.supervisor = root,
        (Privilege::Supervisor, true) => found.supervisor_sum = root,
    }
}

/// Forgets roots that may no longer be used.
fn forget_roots(vcpu: &mut Vcpu, lost: LostRoots) {
    match lost {
        LostRoots::None => return,
        LostRoots::Asid(asid) => {
            vcpu.frame.fast.spaces.forget_asid(asid);
            let satp = vcpu.frame.csr.satp_bits();
            if satp != 0 && (satp >> Satp::ASID_SHIFT) as u16 != asid {
                return;
            }
        }
        LostRoots::All => vcpu.frame.fast.spaces.clear(),
    }
    // The root that all kernels share is no address space's.
    let Roots { supervisor, tag, .. } = vcpu.frame.fast.roots;
    let stays = |root: &RootSatp| lost != LostRoots::All && vcpu.caches.shadow.is_kernels_root(*root);
    let supervisor = supervisor.filter(stays);
    vcpu.frame.fast.roots = Roots { supervisor, tag, ..Roots::NONE };
}

#[cold]
fn forget_sites(vcpu: &mut Vcpu, dropped: &DroppedCode) {
    if dropped.all {
        vcpu.frame.fast.sites.clear();
    } else {
        dropped.pages.iter().for_each(|page| vcpu.frame.fast.sites.forget_addresses(page.0));
    }
}

/// Puts the roots of the current space where the assembly has them: those that were `found` already, and others that can
/// be used.
fn find_roots(vcpu: &mut Vcpu, satp: u64, found: Roots) {
    let tag = tag(vcpu, satp);
    vcpu.frame.fast.roots = Roots { tag, ..Roots::NONE };
    let space = vcpu.frame.csr.satp();
    // Where MXR is set, views differ that the assembly takes for one.
    if vcpu.frame.csr.mxr() {
        return;
    }
    let root = |found: Option<RootSatp>, rights| {
        found.or_else(|| {
            Some(vcpu.caches.shadow.satp(vcpu.caches.shadow.root(ContextKey::new(space, rights))?))
        })
    };
    let roots = Roots {
        user: root(found.user, USER),
        supervisor: root(found.supervisor, SUPERVISOR),
        supervisor_sum: root(found.supervisor_sum, SUPERVISOR_SUM),
        tag,
    };
    vcpu.frame.fast.roots = roots;
    let is_complete = roots.user.is_some() && roots.supervisor.is_some() && roots.supervisor_sum.is_some();
    let is_withheld = vcpu.caches.fast.withheld && !vcpu.caches.shadow.trusts_switches();
    if is_complete && space.mode != Mode::Bare && !is_withheld {
        vcpu.frame.fast.spaces.insert(Space { satp, roots });
    }
}

/// The tag of a space, the one that it had if that is remembered. A tag is never given to two spaces between two
/// moments at which the sites are cleared.
fn tag(vcpu: &mut Vcpu, satp: u64) -> u64 {
    let fast = &mut vcpu.caches.fast;
    let index = (satp ^ satp >> Satp::ASID_SHIFT) as usize % TAGS;
    if let Some((_, tag)) = fast.tags.get(index).filter(|(known, tag)| *known == satp && *tag != 0) {
        return *tag << 48;
    }
    if fast.last_tag == LAST_TAG {
        vcpu.frame.fast.sites.clear();
        vcpu.frame.fast.spaces.clear();
        fast.tags = [(0, 0); TAGS];
        fast.last_tag = 0;
    }
    fast.last_tag = fast.last_tag.wrapping_add(1);
    if let Some(place) = fast.tags.get_mut(index) {
        *place = (satp, fast.last_tag);
    }
    fast.last_tag << 48
}
