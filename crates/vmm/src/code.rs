//! Rewritten code pages at work: tells the `rewrite` crate which sites trap and which pages are stored to, and carries out
//! what it decides. Accesses that the shadow of such a page does not allow are served in `protected`.

use isa::Privilege;
use isa::instr::length;
use isa::paging::{Mode, Pte};
use memory::{GuestPhysAddr, GuestRam, GuestVirtAddr, HostPhysAddr, PAGE_SIZE};
use mmu::{Access, ContextKey, translate};
use rewrite::{Change, Weighed};

use crate::machine::Machine;
use crate::vcpu::Vcpu;

/// Notes that the instruction `bits` at `pc` in `context`, which the hardware refuses, trapped the slow way, and lets it be
/// replaced.
pub(crate) fn trapped(machine: &mut Machine, vcpu: &mut Vcpu, context: ContextKey, pc: u64, bits: u32) {
    let Some(site) = fetched_from(&machine.ram, context, pc) else { return };
    let Machine { ram, code, .. } = &mut *machine;
    let is_exact = code.is_exact();
    let is_overlapped = || is_overlapped(ram, context, pc, is_exact);
    if code.trapped(ram, site, bits, context.view.is_user(), is_overlapped) == Change::Remap {
        let writable = vcpu.frame.fast.filled_writable != 0;
        let page = site.align_down(PAGE_SIZE);
        vcpu.caches.shadow.remap(&machine.ram, context, GuestVirtAddr(pc), page, writable);
        fence_others(machine, vcpu);
    }
}

/// Whether an instruction that begins two bytes before `pc` could be executed, too, whose second half the breakpoint would
/// be. Compilers leave no such place: before an instruction ends either a short one, or a long one that began four bytes
/// before. In exact mode the second does not count, for somebody may jump into its middle.
fn is_overlapped(ram: &GuestRam, context: ContextKey, pc: u64, is_exact: bool) -> bool {
    let is_long = |distance: u64| {
        fetched_from(ram, context, pc.wrapping_sub(distance))
            .and_then(|place| Some(ram.read_word(place.align_down(8))? >> (8 * (place.0 & 6))))
            .is_some_and(|parcel| length(parcel as u16) == 4)
    };
    is_long(2) && (is_exact || !is_long(4))
}

/// Lets the page of the code at `address`, which is about to be executed for the first time in this context, run: on
/// firmware that complains of each trapped instruction of some kinds, those are replaced before they trap.
pub(crate) fn scan(machine: &mut Machine, vcpu: &mut Vcpu, context: ContextKey, address: u64) {
    let rights = context.view.rights();
    let fetched =
        |at: u64| translate(&machine.ram, context.satp, GuestVirtAddr(at), Access::Fetch, rights).ok();
    let Some(found) = fetched(address) else { return };
    let page = found.address.align_down(PAGE_SIZE);
    // Where an instruction is torn, its second half faults, too.
    let is_entry = vcpu.frame.pc == address;
    let before = || fetched(address.wrapping_sub(PAGE_SIZE)).map(|found| found.address.align_down(PAGE_SIZE));
    let change = machine.code.scan(&machine.ram, found.address, is_entry, before);
    match change {
        Change::None => {}
        Change::Remap => {
            let writable = vcpu.frame.fast.filled_writable != 0;
            vcpu.caches.shadow.remap(&machine.ram, context, GuestVirtAddr(address), page, writable);
            fence_others(machine, vcpu);
        }
        Change::Guard => {
            vcpu.caches.shadow.guard(&machine.ram, page);
            // Where this mapping cannot be written by, others are only now and then: that one more complaint is heard is
            // better than that all harts begin anew for each page of a kernel.
            if found.leaf.has(Pte::W) {
                fence_others(machine, vcpu);
            }
        }
    }
}

/// What a breakpoint of ours stands for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Replaced {
    /// A privileged instruction.
    Whole(u32),
    /// One whose first half is the page's last: it has to be fetched, and may turn out to be another.
    Torn,
}

/// What the breakpoint at the vCPU's pc stands for; `None` where the guest wrote the breakpoint itself. Code in user mode is
/// rewritten only on firmware that complains; without translation, user mode sees the kernel's, too.
#[inline]
pub(crate) fn replaced(machine: &mut Machine, vcpu: &mut Vcpu) -> Option<Replaced> {
    if vcpu.frame.privilege != Privilege::Supervisor
        && vcpu.frame.csr.satp().mode != Mode::Bare
        && !machine.ram.overlay().wants_scan()
    {
        return None;
    }
    let (pc, tag) = (vcpu.frame.pc, vcpu.frame.fast.roots.tag);
    if let Some(bits) = vcpu.frame.fast.sites.find(pc, tag) {
        return Some(Replaced::Whole(bits));
    }
    find_replaced(machine, vcpu)
}

/// As `replaced`, where the assembly does not know the breakpoint.
#[cold]
#[inline(never)]
fn find_replaced(machine: &mut Machine, vcpu: &mut Vcpu) -> Option<Replaced> {
    let (pc, tag) = (vcpu.frame.pc, vcpu.frame.fast.roots.tag);
    let context = vcpu.context();
    let rights = context.view.rights();
    let site = translate(&machine.ram, context.satp, GuestVirtAddr(pc), Access::Fetch, rights).ok()?;
    let bits = machine.code.replaced(&machine.ram, site.address)?;
    vcpu.site_misses = vcpu.site_misses.wrapping_add(1);
    let weighed = machine.code.executed(&machine.ram, site.address);
    // What a torn one's second half is, the assembly could not know.
    let is_torn = rewrite::is_torn(site.address);
    if weighed == Weighed::No && !is_torn {
        let tag = if site.global { 0 } else { tag };
        vcpu.frame.fast.sites.insert(pc, tag, bits, site.address.0 / PAGE_SIZE);
    }
    follow_weighing(machine, vcpu, site.address, weighed);
    Some(if is_torn { Replaced::Torn } else { Replaced::Whole(bits) })
}

/// Takes the breakpoint at the vCPU's pc away: what is there now is no privileged instruction.
pub(crate) fn restore(machine: &Machine, vcpu: &Vcpu) {
    if let Some(site) = fetched_from(&machine.ram, vcpu.context(), vcpu.frame.pc) {
        machine.code.restore(&machine.ram, site);
    }
}

/// Whether a store by the instruction at pc to the page of `address` is carried out by hand.
pub(crate) fn carries_out(machine: &Machine, vcpu: &Vcpu, address: GuestPhysAddr) -> bool {
    let overlay = machine.ram.overlay();
    match overlay.copy_of(address) {
        Some(_) => machine.code.keeps(&machine.ram, address),
        None => overlay.is_scanned(address) && is_fetched_from(machine, vcpu, address),
    }
}

/// Counts a load from a copied page that was carried out on RAM, which may end the copy.
pub(crate) fn loaded(machine: &mut Machine, vcpu: &mut Vcpu, address: GuestPhysAddr) {
    let weighed = machine.code.loaded(&machine.ram, address);
    follow_weighing(machine, vcpu, address, weighed);
}

fn follow_weighing(machine: &Machine, vcpu: &mut Vcpu, address: GuestPhysAddr, weighed: Weighed) {
    match weighed {
        Weighed::No | Weighed::Counted => {}
        Weighed::Begins => {
            vcpu.frame.fast.sites.forget_page(address.0 / PAGE_SIZE);
            fence_others(machine, vcpu);
        }
        Weighed::Ended(copy) => follow_end(machine, vcpu, address, copy),
    }
}

/// Drops what maps the code of a page at `host`, in a copy that has ended or in RAM.
pub(crate) fn follow_end(machine: &Machine, vcpu: &mut Vcpu, page: GuestPhysAddr, host: HostPhysAddr) {
    vcpu.caches.shadow.drop_page(host);
    vcpu.frame.fast.sites.forget_page(page.0 / PAGE_SIZE);
    fence_others(machine, vcpu);
}

/// Lets other harts, too, write to no page that is watched from now on.
pub(crate) fn follow_watches(machine: &Machine, vcpu: &mut Vcpu) {
    if vcpu.caches.shadow.take_new_watches() {
        fence_others(machine, vcpu);
    }
}

/// Ends all copies where the hypervisor itself has written to a copied page.
pub(crate) fn follow_own_writes(machine: &mut Machine, vcpu: &mut Vcpu) {
    if machine.ram.overlay().take_disturbed() {
        machine.code.clear(&machine.ram);
        vcpu.caches.shadow.clear();
        fence_others(machine, vcpu);
    }
}

/// Stores to a page of which `carries_out` is true.
pub(crate) fn store(machine: &mut Machine, vcpu: &mut Vcpu, address: GuestPhysAddr, bytes: &[u8]) {
    vcpu.caches.shadow.unwatch(&machine.ram, address);
    // It is RAM: it is scanned or has a copy.
    if let Ok(Some(ended)) = machine.code.store(&machine.ram, address, bytes) {
        return follow_end(machine, vcpu, address, ended);
    }
    vcpu.frame.fast.sites.forget_page(address.0 / PAGE_SIZE);
    fence_others(machine, vcpu);
}

/// Whether the instruction at the vCPU's pc may lie in the page of `address`, if only with its last two bytes.
pub(crate) fn is_fetched_from(machine: &Machine, vcpu: &Vcpu, address: GuestPhysAddr) -> bool {
    let (context, pc) = (vcpu.context(), vcpu.frame.pc);
    [pc, pc.wrapping_add(2)].into_iter().any(|parcel| {
        fetched_from(&machine.ram, context, parcel)
            .is_some_and(|place| place.align_down(PAGE_SIZE) == address.align_down(PAGE_SIZE))
    })
}

fn fetched_from(ram: &GuestRam, context: ContextKey, pc: u64) -> Option<GuestPhysAddr> {
    let rights = context.view.rights();
    let found = translate(ram, context.satp, GuestVirtAddr(pc), Access::Fetch, rights).ok()?;
    Some(found.address)
}

/// Lets all other harts drop what their shadows have of pages that are mapped otherwise from now on.
fn fence_others(machine: &Machine, vcpu: &Vcpu) {
    let others = machine.links.iter().enumerate().filter(|(hart, _)| *hart != vcpu.id);
    others.for_each(|(_, link)| link.request_fence());
}
