//! Rewritten code pages at work: tells the `rewrite` crate which sites trap and which pages are read and stored to, and carries
//! out what it decides on the vCPU's shadow. Accesses that the shadow of such a page does not allow are served in `protected`.

use alloc::sync::Arc;

use isa::Privilege;
use isa::instr::length;
use isa::paging::{Mode, Pte};
use memory::{GuestPhysAddr, GuestRam, GuestVirtAddr, PAGE_SIZE};
use mmu::{Access, ContextKey, translate};
use rewrite::{Change, Trapped};

use crate::machine::Machine;
use crate::vcpu::Vcpu;

/// Notes that the instruction `bits` at `pc` in `context`, which the hardware refuses, trapped the slow way, and lets it be
/// replaced.
pub(crate) fn trapped(machine: &Machine, vcpu: &mut Vcpu, context: ContextKey, pc: u64, bits: u32) {
    let ram = &machine.ram;
    let Some(site) = fetched_from(ram, context, pc) else { return };
    let mut code = machine.code.lock();
    let is_exact = code.is_exact();
    let trapped = Trapped { site, bits, is_user: context.view.is_user() };
    let change = code.trapped(ram, vcpu.id, trapped, || is_overlapped(ram, is_exact, context, pc));
    drop(code);
    if change != Change::None {
        carry_out(machine, vcpu, site, change, (context, pc));
    }
}

/// Whether an instruction that begins two bytes before `pc` could be executed, too, whose second half the breakpoint would
/// be. Compilers leave no such place: before an instruction ends either a short one, or a long one that began four bytes
/// before. In exact mode the second does not count, for somebody may jump into its middle.
fn is_overlapped(ram: &GuestRam, is_exact: bool, context: ContextKey, pc: u64) -> bool {
    let is_long = |distance: u64| {
        fetched_from(ram, context, pc.wrapping_sub(distance))
            .and_then(|place| Some(ram.read_word(place.align_down(8))? >> (8 * (place.0 & 6))))
            .is_some_and(|parcel| length(parcel as u16) == 4)
    };
    is_long(2) && (is_exact || !is_long(4))
}

/// Lets the page of the code at `address`, which is about to be executed for the first time in this context, run: on
/// firmware that complains of each trapped instruction of some kinds, those are replaced before they trap.
pub(crate) fn scan(machine: &Machine, vcpu: &mut Vcpu, context: ContextKey, address: u64) {
    let ram = &machine.ram;
    let rights = context.view.rights();
    let fetched = |at: u64| translate(ram, context.satp, GuestVirtAddr(at), Access::Fetch, rights).ok();
    let Some(found) = fetched(address) else { return };
    // Where an instruction is torn, its second half faults, too.
    let is_entry = vcpu.frame.pc == address;
    let before = || Some(fetched(address.wrapping_sub(PAGE_SIZE))?.address.align_down(PAGE_SIZE));
    let change = machine.code.lock().scan(ram, vcpu.id, found.address, is_entry, before);
    carry_out(machine, vcpu, found.address, change, (context, address));
    // Where this mapping cannot be written by, others are only now and then: that one more complaint is heard is
    // better than that all harts begin anew for each page of a kernel.
    if change == Change::Guard(None) && found.leaf.has(Pte::W) {
        fence_others(machine, vcpu);
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
pub(crate) fn replaced(machine: &Machine, vcpu: &mut Vcpu) -> Option<Replaced> {
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
fn find_replaced(machine: &Machine, vcpu: &mut Vcpu) -> Option<Replaced> {
    let (pc, tag) = (vcpu.frame.pc, vcpu.frame.fast.roots.tag);
    let context = vcpu.context();
    let rights = context.view.rights();
    let site = translate(&machine.ram, context.satp, GuestVirtAddr(pc), Access::Fetch, rights).ok()?;
    let replaced = machine.code.lock().breakpoint(&machine.ram, site.address)?;
    vcpu.site_misses = vcpu.site_misses.wrapping_add(1);
    if replaced.may_be_remembered {
        let tag = if site.global { 0 } else { tag };
        vcpu.frame.fast.sites.insert(pc, tag, replaced.bits, site.address.0 / PAGE_SIZE);
    }
    follow(machine, vcpu, site.address, replaced.change);
    Some(if replaced.is_torn { Replaced::Torn } else { Replaced::Whole(replaced.bits) })
}

/// Takes the breakpoint at the vCPU's pc away: what is there now is no privileged instruction.
pub(crate) fn restore(machine: &Machine, vcpu: &Vcpu) {
    if let Some(site) = fetched_from(&machine.ram, vcpu.context(), vcpu.frame.pc) {
        machine.code.lock().restore(&machine.ram, site);
    }
}

/// Whether a store by the instruction at pc to the page of `address` is carried out by hand.
pub(crate) fn carries_out(machine: &Machine, vcpu: &Vcpu, address: GuestPhysAddr) -> bool {
    machine.code.lock().carries_out(&machine.ram, address, || is_fetched_from(&machine.ram, vcpu, address))
}

/// Counts a load from a copied page that was carried out on RAM, which may end the copy.
pub(crate) fn loaded(machine: &Machine, vcpu: &mut Vcpu, address: GuestPhysAddr) {
    let change = machine.code.lock().loaded(&machine.ram, address);
    follow(machine, vcpu, address, change);
}

/// Stores to a page of which `carries_out` is true.
pub(crate) fn store(machine: &Machine, vcpu: &mut Vcpu, address: GuestPhysAddr, bytes: &[u8]) {
    vcpu.caches.shadow.unwatch(&machine.ram, address);
    // It is RAM: it is scanned or has a copy.
    let stored = machine.code.lock().store(&machine.ram, address, bytes);
    if let Ok(change) = stored {
        follow(machine, vcpu, address, change);
    }
}

/// Lets the hardware carry out the store by the instruction at pc to the page of `address`.
pub(crate) fn make_way(machine: &Machine, vcpu: &mut Vcpu, address: GuestPhysAddr) {
    let ram = &machine.ram;
    let change = machine.code.lock().make_way(ram, address, || is_fetched_from(ram, vcpu, address));
    follow(machine, vcpu, address, change);
    vcpu.caches.shadow.unwatch(&machine.ram, address);
}

/// Ends all copies where the hypervisor itself has written to a copied page.
#[inline]
pub(crate) fn follow_own_writes(machine: &Machine, vcpu: &mut Vcpu) {
    if machine.ram.overlay().take_disturbed() {
        end_all(machine, vcpu);
    }
}

#[cold]
#[inline(never)]
fn end_all(machine: &Machine, vcpu: &mut Vcpu) {
    let change = machine.code.lock().end_all(&machine.ram);
    follow(machine, vcpu, machine.ram.base(), change);
}

/// Lets other harts, too, write to no page that is watched from now on.
pub(crate) fn follow_watches(machine: &Machine, vcpu: &mut Vcpu) {
    if vcpu.caches.shadow.take_new_watches() {
        fence_others(machine, vcpu);
    }
}

/// Drops all that a vCPU has of any page, as another one has asked for.
pub(crate) fn drop_all(machine: &Machine, vcpu: &mut Vcpu) {
    let rounds = Arc::clone(machine.code.lock().rounds());
    // What begins after this is not dropped.
    let round = rounds.last();
    vcpu.caches.shadow.clear();
    rounds.answer(vcpu.id, round);
}

#[inline]
fn follow(machine: &Machine, vcpu: &mut Vcpu, address: GuestPhysAddr, change: Change) {
    if change != Change::None {
        let place = (vcpu.context(), vcpu.frame.pc);
        carry_out(machine, vcpu, address, change, place);
    }
}

/// Does what is to be done because the page of `address`, executed at `pc` in `context` where that matters, is mapped otherwise
/// from now on.
#[inline(never)]
fn carry_out(
    machine: &Machine,
    vcpu: &mut Vcpu,
    address: GuestPhysAddr,
    change: Change,
    (context, pc): (ContextKey, u64),
) {
    let (ram, page) = (&machine.ram, address.align_down(PAGE_SIZE));
    let round = match change {
        Change::None => return,
        Change::Remap(round) => {
            let writable = vcpu.frame.fast.filled_writable != 0;
            vcpu.caches.shadow.remap(ram, context, GuestVirtAddr(pc), page, writable);
            round
        }
        Change::Guard(round) => {
            vcpu.caches.shadow.guard(ram, page);
            if round.is_none() {
                return;
            }
            round
        }
        Change::ForgetSites => {
            vcpu.frame.fast.sites.forget_page(page.0 / PAGE_SIZE);
            None
        }
        Change::Drop(host, round) => {
            vcpu.caches.shadow.drop_page(host);
            vcpu.frame.fast.sites.forget_page(page.0 / PAGE_SIZE);
            Some(round)
        }
        Change::DropAll(round) => {
            vcpu.caches.shadow.clear();
            Some(round)
        }
    };
    fence_others(machine, vcpu);
    if let Some(round) = round
        && !machine.code.lock().acknowledge(&machine.ram, vcpu.id, round)
    {
        drop_all(machine, vcpu);
    }
}

/// Whether the instruction at the vCPU's pc may lie in the page of `address`, if only with its last two bytes.
fn is_fetched_from(ram: &GuestRam, vcpu: &Vcpu, address: GuestPhysAddr) -> bool {
    let (context, pc) = (vcpu.context(), vcpu.frame.pc);
    [pc, pc.wrapping_add(2)].into_iter().any(|parcel| {
        fetched_from(ram, context, parcel)
            .is_some_and(|place| place.align_down(PAGE_SIZE) == address.align_down(PAGE_SIZE))
    })
}

fn fetched_from(ram: &GuestRam, context: ContextKey, pc: u64) -> Option<GuestPhysAddr> {
    let found = translate(ram, context.satp, GuestVirtAddr(pc), Access::Fetch, context.view.rights()).ok()?;
    Some(found.address)
}

/// Lets all other harts drop what their shadows have of pages that are mapped otherwise from now on.
fn fence_others(machine: &Machine, vcpu: &Vcpu) {
    let others = machine.links.iter().enumerate().filter(|(hart, _)| *hart != vcpu.id);
    others.for_each(|(_, link)| link.request_fence());
}
