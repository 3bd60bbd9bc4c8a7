//! Keeps what the assembly goes by in step with the vCPU: the shadow roots of its address space, the tag that tells the
//! space's sites from others', and whether there is something that the assembly must not pass by.

pub(crate) mod state;

use core::sync::atomic::Ordering;

use isa::Privilege;
use isa::csr::{senvcfg, sstatus};
use isa::paging::Mode;
use mmu::{ContextKey, DroppedCode, LostRoots, Rights};
use vhart::{CsrFile, GuestMemory, Roots, Space};

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
pub(crate) fn root(machine: &Machine, vcpu: &mut Vcpu) -> u64 {
    let (root, is_found_anew) = known_root(machine, vcpu);
    let settled = vcpu.shadow.settled();
    if !vcpu.shadow.trusts_switches() {
        let is_settled = settled == machine.ram.overlay().unwatched().load(Ordering::Acquire);
        // Otherwise what is withheld stays so: only Rust changes the roots and satp then.
        if is_found_anew || vcpu.frame.settled != settled || vcpu.fast.withheld == is_settled {
            withhold_roots(vcpu, is_settled);
        }
    }
    vcpu.frame.settled = settled;
    root
}

/// Where a change of satp or SUM is a fence that has something to do, lets the assembly make none: see `mmu`'s `trust`.
#[cold]
#[inline(never)]
fn withhold_roots(vcpu: &mut Vcpu, is_settled: bool) {
    vcpu.fast.followed = vcpu.frame.csr.translation();
    let was_withheld = core::mem::replace(&mut vcpu.fast.withheld, !is_settled);
    if is_settled {
        return;
    }
    if !was_withheld {
        vcpu.frame.spaces.clear();
    }
    if !vcpu.shadow.trusts_fences() {
        let roots = &mut vcpu.frame.roots;
        let other = if vcpu.frame.csr.sum() { &mut roots.supervisor } else { &mut roots.supervisor_sum };
        *other = 0;
    }
}

/// The root, and whether it had to be found anew.
#[inline]
fn known_root(machine: &Machine, vcpu: &mut Vcpu) -> (u64, bool) {
    let frame = &mut vcpu.frame;
    frame.ready = frame.csr.ready();
    let enabling = if frame.ready != 0 { sstatus::SIE } else { 0 };
    frame.status_guard = frame.guarded | enabling;
    if vcpu.shadow.has_doubts() {
        vcpu.shadow.clear_doubts(&machine.ram);
    }
    if let Some(dropped) = vcpu.shadow.take_dropped_code() {
        forget_sites(vcpu, &dropped);
    }
    if vcpu.fast.senvcfg != vcpu.frame.csr.senvcfg() {
        vcpu.fast.senvcfg = vcpu.frame.csr.senvcfg();
        set_environment(vcpu);
    }
    let lost = vcpu.shadow.take_lost_roots();
    if lost != LostRoots::None {
        forget_roots(vcpu, lost);
    }
    let roots = &vcpu.frame.roots;
    let is_same =
        vcpu.fast.satp == vcpu.frame.csr.satp_bits() && vcpu.fast.tag == roots.tag && !vcpu.frame.csr.mxr();
    let root = match (vcpu.frame.privilege, vcpu.frame.csr.sum()) {
        (Privilege::User, _) => roots.user,
        (Privilege::Supervisor, false) => roots.supervisor,
        (Privilege::Supervisor, true) => roots.supervisor_sum,
    };
    if is_same && root != 0 { (root, false) } else { (find_root(machine, vcpu), true) }
}

/// What `known_root` does where something has changed.
#[cold]
fn find_root(machine: &Machine, vcpu: &mut Vcpu) -> u64 {
    let ram = &machine.ram;
    let (key, satp) = (vcpu.context(), vcpu.frame.csr.satp_bits());
    let is_new =
        core::mem::replace(&mut vcpu.fast.satp, satp) != satp || vcpu.fast.tag != vcpu.frame.roots.tag;
    let is_translated = vcpu.frame.csr.satp().mode != Mode::Bare;
    let mut found = Roots::NONE;
    if is_translated && !vcpu.frame.csr.mxr() {
        // A kernel that enters an address space soon enters its user mode, and reaches into it; so does one that has
        // fenced it.
        for rights in [USER, SUPERVISOR_SUM] {
            let other = ContextKey::new(key.satp, rights);
            if other != key && (is_new || vcpu.shadow.has(other)) {
                let root = vcpu.shadow.activate(ram, other);
                note(&mut found, rights, vcpu.shadow.satp(root));
            }
        }
    }
    let root = vcpu.shadow.activate(ram, key);
    let root = vcpu.shadow.satp(root);
    note(&mut found, key.view.rights(), root);
    vcpu.frame.hints = vcpu.shadow.hints_address();
    vcpu.frame.memory = GuestMemory {
        base: ram.base().0,
        size: ram.size(),
        host: ram.host_base().0,
        blocks: ram.blocks().as_ptr().addr() as u64,
        unwatched: core::ptr::from_ref(ram.overlay().unwatched()).addr() as u64,
    };
    // Activating may compare a context with the guest's tables, or drop one for want of room.
    if let Some(dropped) = vcpu.shadow.take_dropped_code() {
        forget_sites(vcpu, &dropped);
    }
    let lost = vcpu.shadow.take_lost_roots();
    if lost != LostRoots::None {
        forget_roots(vcpu, lost);
    }
    if lost == LostRoots::All || lost == LostRoots::Asid(key.satp.asid) {
        found = Roots::NONE;
    }
    if vcpu.frame.csr.mxr() {
        vcpu.frame.spaces.clear();
    }
    // Where the assembly has written satp, it has taken the roots along.
    match vcpu.frame.spaces.get(satp) {
        Some(space) if is_new => vcpu.frame.roots = space.roots,
        _ => find_roots(vcpu, satp, found),
    }
    vcpu.fast.tag = vcpu.frame.roots.tag;
    root
}

/// A root at hand for the assembly that is none of the vCPU's own, as a value for the real satp.
pub(crate) fn foreign_root(vcpu: &Vcpu) -> Option<u64> {
    let at_hand =
        core::iter::once(&vcpu.frame.roots).chain(vcpu.frame.spaces.iter().map(|space| &space.roots));
    let mut roots = at_hand.flat_map(|roots| [roots.user, roots.supervisor, roots.supervisor_sum]);
    roots.find(|root| *root != 0 && !vcpu.shadow.owns(*root))
}

/// Takes down a root that was found for one view of the current space.
fn note(found: &mut Roots, rights: Rights, root: u64) {
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
            vcpu.frame.spaces.forget_asid(asid);
            let satp = vcpu.frame.csr.satp_bits();
            if satp != 0 && (satp >> 44) as u16 != asid {
                return;
            }
        }
        LostRoots::All => vcpu.frame.spaces.clear(),
    }
    // The root that all kernels share is no address space's.
    let Roots { supervisor, tag, .. } = vcpu.frame.roots;
    let stays = lost != LostRoots::All && vcpu.shadow.is_kernels_root(supervisor);
    let supervisor = if stays { supervisor } else { 0 };
    vcpu.frame.roots = Roots { supervisor, tag, ..Roots::NONE };
}

#[cold]
fn forget_sites(vcpu: &mut Vcpu, dropped: &DroppedCode) {
    if dropped.all {
        vcpu.frame.sites.clear();
    } else {
        dropped.pages.iter().for_each(|page| vcpu.frame.sites.forget_addresses(page.0));
    }
}

/// Puts the roots of the current space where the assembly has them: those that were `found` already, and others that can
/// be used.
fn find_roots(vcpu: &mut Vcpu, satp: u64, found: Roots) {
    let tag = tag(vcpu, satp);
    vcpu.frame.roots = Roots { tag, ..Roots::NONE };
    let space = vcpu.frame.csr.satp();
    // Where MXR is set, views differ that the assembly takes for one.
    if vcpu.frame.csr.mxr() {
        return;
    }
    let root = |found, rights| match found {
        0 => vcpu.shadow.root(ContextKey::new(space, rights)).map_or(0, |root| vcpu.shadow.satp(root)),
        found => found,
    };
    let roots = Roots {
        user: root(found.user, USER),
        supervisor: root(found.supervisor, SUPERVISOR),
        supervisor_sum: root(found.supervisor_sum, SUPERVISOR_SUM),
        tag,
    };
    vcpu.frame.roots = roots;
    let is_complete = roots.user != 0 && roots.supervisor != 0 && roots.supervisor_sum != 0;
    let is_withheld = vcpu.fast.withheld && !vcpu.shadow.trusts_switches();
    if is_complete && space.mode != Mode::Bare && !is_withheld {
        vcpu.frame.spaces.insert(Space { satp, roots });
    }
}

/// The tag of a space, the one that it had if that is remembered. A tag is never given to two spaces between two
/// moments at which the sites are cleared.
fn tag(vcpu: &mut Vcpu, satp: u64) -> u64 {
    let fast = &mut vcpu.fast;
    let index = (satp ^ satp >> 44) as usize % TAGS;
    if let Some((_, tag)) = fast.tags.get(index).filter(|(known, tag)| *known == satp && *tag != 0) {
        return *tag << 48;
    }
    if fast.last_tag == LAST_TAG {
        vcpu.frame.sites.clear();
        vcpu.frame.spaces.clear();
        fast.tags = [(0, 0); TAGS];
        fast.last_tag = 0;
    }
    fast.last_tag = fast.last_tag.wrapping_add(1);
    if let Some(place) = fast.tags.get_mut(index) {
        *place = (satp, fast.last_tag);
    }
    fast.last_tag << 48
}

fn set_environment(vcpu: &mut Vcpu) {
    let both = [user_senvcfg(&vcpu.frame.csr), supervisor_senvcfg(&vcpu.frame.csr)];
    let frame = &mut vcpu.frame;
    frame.senvcfg = both;
    frame.switch_senvcfg = u64::from(both[0] != both[1]);
    frame.flush_on_switch = u64::from(vcpu.shadow.host().asids.is_none());
    frame.switch_extra = frame.switch_senvcfg | frame.flush_on_switch;
}

/// What the real senvcfg is in virtual user mode: the guest's, but that a true CBO.INVAL could uncover another guest's
/// data in the cache, so it runs as a flush.
fn user_senvcfg(csr: &CsrFile) -> u64 {
    let invalidate = csr.senvcfg() & senvcfg::CBIE != 0;
    csr.senvcfg() & !senvcfg::CBIE | if invalidate { senvcfg::CBIE_FLUSH } else { 0 }
}

/// In virtual supervisor mode: everything that the hart has.
fn supervisor_senvcfg(csr: &CsrFile) -> u64 {
    let features = csr.features();
    let blocks = if features.cache_blocks { senvcfg::CBIE_FLUSH | senvcfg::CBCFE } else { 0 };
    blocks | if features.cache_zero { senvcfg::CBZE } else { 0 }
}
