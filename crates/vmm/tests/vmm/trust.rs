//! Kernels that write satp or SUM and fence less than they change, and what the assembly may do for them.

use isa::csr::{CsrAddr, sstatus};
use isa::paging::Satp;
use isa::{Exception, Privilege};
use memory::GuestPhysAddr;

use crate::support::paging::{RWX, Tables, USED};
use crate::support::{ENTRY, Guest, RAM, asm};
use isa::paging::Pte;

const VA: u64 = 0x1000;

/// The same tables under other ASIDs.
fn satp(asid: u16) -> u64 {
    Satp::from_bits(Tables::satp()).map(|satp| Satp { asid, ..satp }.bits()).expect("Sv39")
}

/// A kernel of which nothing is known, that has used a page at `VA`.
fn unknown(asid: u16) -> (Guest, Tables) {
    let (mut guest, mut tables) = (Guest::new(), Tables::new());
    tables.map(&mut guest, ENTRY, ENTRY, RWX);
    tables.map(&mut guest, VA, RAM, RWX);
    write_satp(&mut guest, satp(asid));
    guest.raise(Exception::LoadPageFault, VA);
    assert_eq!(guest.shadow_leaves(), 1);
    (guest, tables)
}

fn write_satp(guest: &mut Guest, value: u64) {
    guest.set_reg(5, value);
    execute(guest, asm::csrrw(0, CsrAddr::SATP.as_u16(), 5));
}

fn switch_sum(guest: &mut Guest) {
    guest.set_reg(5, guest.csr(CsrAddr::SSTATUS) ^ sstatus::SUM);
    execute(guest, asm::csrrw(0, CsrAddr::SSTATUS.as_u16(), 5));
}

/// Executes one instruction, which stays where the kernel begins.
fn execute(guest: &mut Guest, bits: u32) {
    guest.vcpu.frame.pc = ENTRY;
    guest.execute(bits);
    guest.prepare();
}

/// Whether the assembly may write satp, and whether it may change SUM.
fn may_switch(guest: &Guest) -> (bool, bool) {
    let roots = &guest.vcpu.frame.fast.roots;
    assert_eq!(guest.vcpu.frame.privilege, Privilege::Supervisor);
    let satp = guest.csr(CsrAddr::SATP);
    let both = roots.supervisor.is_some() && roots.supervisor_sum.is_some();
    (guest.vcpu.frame.fast.spaces.get(satp).is_some(), both)
}

/// Uses the page at `VA` and fences everything, until the tables are found to stay as they are.
fn settle(guest: &mut Guest) {
    for _ in 0..64 {
        guest.raise(Exception::LoadPageFault, VA);
        execute(guest, asm::sfence_vma(0, 0));
    }
    assert_ne!(guest.vcpu.caches.shadow.settled(), u64::MAX);
}

#[test]
fn what_changed_before_a_write_of_satp_is_gone_after_it() {
    for asid in [0, 7] {
        let (mut guest, mut tables) = unknown(asid);
        write_satp(&mut guest, satp(asid + 1));
        tables.unmap(&mut guest, VA);
        write_satp(&mut guest, satp(asid));
        assert_eq!(guest.shadow_leaves(), 0);
    }
}

#[test]
fn what_changed_before_a_change_of_sum_or_mxr_is_gone_after_it() {
    for bit in [sstatus::SUM, sstatus::MXR] {
        let (mut guest, mut tables) = unknown(7);
        tables.unmap(&mut guest, VA);
        guest.set_reg(5, bit);
        // CSRRS, CSRRC.
        for form in [2, 3] {
            execute(&mut guest, asm::csr(form, 0, CsrAddr::SSTATUS.as_u16(), 5));
        }
        assert_eq!(guest.shadow_leaves(), 0);
    }
}

#[test]
fn a_write_of_satp_or_sstatus_that_changes_no_translation_is_no_fence() {
    let (mut guest, mut tables) = unknown(7);
    tables.unmap(&mut guest, VA);
    write_satp(&mut guest, satp(7));
    guest.set_reg(5, sstatus::SIE | sstatus::SPP);
    execute(&mut guest, asm::csrrs(0, CsrAddr::SSTATUS.as_u16(), 5));
    assert_eq!(guest.shadow_leaves(), 1);
}

#[test]
fn the_assembly_switches_for_an_unknown_kernel_only_while_nothing_has_to_be_fenced() {
    let (mut guest, mut tables) = unknown(7);
    switch_sum(&mut guest);
    guest.raise(Exception::LoadPageFault, VA);
    guest.prepare();
    assert_eq!(may_switch(&guest), (false, false));
    switch_sum(&mut guest);
    // A store to a watched table: by the kernel, and by a device.
    for by_device in [false, true] {
        settle(&mut guest);
        // Rust finds the roots.
        switch_sum(&mut guest);
        switch_sum(&mut guest);
        write_satp(&mut guest, satp(8));
        write_satp(&mut guest, satp(7));
        assert_eq!(may_switch(&guest), (true, true));
        let root = GuestPhysAddr(Satp::from_bits(satp(7)).expect("Sv39").ppn << 12);
        if by_device {
            guest.machine.ram.device_write(root, &[0; 8]).expect("RAM");
        } else {
            guest.vcpu.caches.shadow.unwatch(&guest.machine.ram, root);
        }
        guest.prepare();
        assert_eq!(may_switch(&guest), (false, false), "{by_device}");
        tables.map(&mut guest, VA, RAM, RWX);
    }
}

#[test]
fn the_assembly_switches_for_a_kernel_that_is_trusted() {
    let (mut guest, mut tables) = unknown(7);
    tables.earn_trust(&mut guest);
    switch_sum(&mut guest);
    switch_sum(&mut guest);
    assert_eq!(may_switch(&guest), (false, true), "it has shown nothing of its switches");
    for asid in (8..28).chain([7]) {
        write_satp(&mut guest, satp(asid));
    }
    assert!(guest.vcpu.caches.shadow.trusts_switches());
    assert_eq!(may_switch(&guest), (true, true));
    guest.vcpu.reset();
    assert!(!guest.vcpu.caches.shadow.trusts_fences() && !guest.vcpu.caches.shadow.trusts_switches());
}

#[test]
fn a_kernel_without_asids_is_never_trusted_to_fence_where_it_writes_satp() {
    let (mut guest, mut tables) = unknown(0);
    tables.earn_trust(&mut guest);
    for round in 0..40 {
        write_satp(&mut guest, if round % 2 == 0 { 0 } else { satp(0) });
    }
    guest.raise(Exception::LoadPageFault, VA);
    let before = guest.shadow_leaves();
    tables.map(&mut guest, VA, RAM, USED | Pte::X);
    write_satp(&mut guest, 0);
    write_satp(&mut guest, satp(0));
    assert_eq!(guest.shadow_leaves(), before - 1);
}
