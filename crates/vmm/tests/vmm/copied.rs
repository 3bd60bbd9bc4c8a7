//! Pages whose code is fetched from copies: how they are read, and when that ends them.

use isa::csr::CsrAddr;
use isa::paging::Pte;
use isa::{Exception, Privilege};
use memory::GuestPhysAddr;
use trace::ExitKind;

use crate::support::paging::{RWX, Tables};
use crate::support::{ENTRY, Guest, HANDLER, asm};

const A0: u32 = 10;
const S0: u32 = 8;
/// A constant in the page of the code.
const CONSTANT: u64 = ENTRY + 0x800;
/// csrrw zero, sscratch, s0
const SITE: u32 = asm::csrrw(0, CsrAddr::SSCRATCH.as_u16(), S0);
/// ld a0, 0(s0), in another page.
const LOAD: u64 = HANDLER + 0x100;

/// A guest in Sv39 with a privileged instruction at `ENTRY`, where its page has a copy.
fn guest_with_a_copy() -> Guest {
    let mut tables = Tables::new();
    let mut guest = Guest::with_copies();
    guest.poke(ENTRY, SITE);
    guest.poke(LOAD, asm::load(3, A0, S0, 0));
    guest.machine.ram.write(GuestPhysAddr(CONSTANT), &42_u64.to_le_bytes()).unwrap();
    guest.set_reg(S0, CONSTANT);
    for page in [ENTRY, HANDLER] {
        tables.map(&mut guest, page, page, RWX);
    }
    tables.enable(&mut guest);
    let traps = (1..).find(|_| {
        trap(&mut guest);
        is_copied(&guest)
    });
    assert_eq!(traps, Some(32));
    guest.shadow_leaves();
    guest
}

fn is_copied(guest: &Guest) -> bool {
    guest.machine.ram.overlay().copy_of(GuestPhysAddr(ENTRY)).is_some()
}

fn run_at(guest: &mut Guest, pc: u64) {
    guest.vcpu.frame.pc = pc;
    guest.prepare();
}

/// The privileged instruction traps by way of the firmware.
fn trap(guest: &mut Guest) {
    run_at(guest, ENTRY);
    guest.execute(SITE);
    assert_eq!(guest.pc(), ENTRY + 4);
}

/// The breakpoint in its place traps.
fn hit(guest: &mut Guest) {
    run_at(guest, ENTRY);
    guest.raise(Exception::Breakpoint, ENTRY);
    assert_eq!((guest.pc(), guest.csr(CsrAddr::SSCRATCH)), (ENTRY + 4, CONSTANT));
}

/// The load traps; says whether it was carried out.
fn load(guest: &mut Guest) -> bool {
    run_at(guest, LOAD);
    guest.set_reg(A0, 0);
    guest.raise(Exception::LoadPageFault, CONSTANT);
    let is_done = guest.pc() == LOAD + 4;
    assert_eq!(guest.reg(A0), if is_done { 42 } else { 0 });
    is_done
}

fn is_known_to_the_assembly(guest: &mut Guest) -> bool {
    let tag = guest.vcpu.frame.fast.roots.tag;
    guest.vcpu.frame.fast.sites.find(ENTRY, tag).is_some()
}

#[test]
fn a_load_from_a_copied_page_reads_ram_each_time() {
    let mut guest = guest_with_a_copy();
    for nth in 1..8 {
        assert!(load(&mut guest));
        assert_eq!(guest.vcpu.exits.get(ExitKind::Overlay), nth);
    }
    guest.machine.ram.write_beneath(GuestPhysAddr(CONSTANT), &43_u64.to_le_bytes()).unwrap();
    run_at(&mut guest, LOAD);
    guest.raise(Exception::LoadPageFault, CONSTANT);
    assert_eq!(guest.reg(A0), 43);
}

#[test]
fn loads_are_the_hardwares_again_once_they_have_ended_the_copy() {
    let mut guest = guest_with_a_copy();
    hit(&mut guest);
    assert!(is_known_to_the_assembly(&mut guest));
    let loads = (1..).find(|_| {
        assert!(load(&mut guest));
        !is_copied(&guest)
    });
    assert_eq!(loads, Some(128), "64, and 64 that it was weighed by");
    assert!(!is_known_to_the_assembly(&mut guest));
    guest.shadow_leaves();
    assert!(!load(&mut guest), "the shadow was filled");
    guest.shadow_leaves();
}

#[test]
fn a_page_that_is_read_no_longer_is_copied_again_and_its_sites_served_by_the_assembly() {
    let mut guest = guest_with_a_copy();
    while is_copied(&guest) {
        load(&mut guest);
    }
    let traps = (1..).find(|_| {
        trap(&mut guest);
        is_copied(&guest)
    });
    assert_eq!(traps, Some(64));
    for _ in 1..64 {
        hit(&mut guest);
        assert!(is_copied(&guest) && !is_known_to_the_assembly(&mut guest), "it is being weighed");
    }
    hit(&mut guest);
    assert!(is_copied(&guest));
    hit(&mut guest);
    assert!(is_known_to_the_assembly(&mut guest));
    guest.shadow_leaves();
}

/// HLV.D x0, (a0), which there is without H as little as anything else that has funct3 = 4.
const HLV: u32 = 0x6c05_4073;
const SRET: u32 = 0x1020_0073;

#[test]
fn what_a_program_makes_the_firmware_complain_of_is_illegal_by_a_breakpoint_from_then_on() {
    for bits in [SRET, HLV] {
        let mut guest = Guest::with_copies();
        guest.machine.ram.overlay().require_scan();
        let mut tables = Tables::new();
        guest.poke(ENTRY, bits);
        tables.map(&mut guest, ENTRY, ENTRY, RWX | Pte::U);
        tables.map(&mut guest, HANDLER, HANDLER, RWX);
        tables.enable(&mut guest);
        guest.vcpu.frame.privilege = Privilege::User;
        run_at(&mut guest, ENTRY);
        guest.execute(bits);
        assert!(is_copied(&guest), "{bits:#x}");
        for _ in 0..2 {
            guest.assert_took(Exception::IllegalInstruction, ENTRY, bits.into());
            guest.vcpu.frame.privilege = Privilege::User;
            run_at(&mut guest, ENTRY);
            guest.raise(Exception::InstructionPageFault, ENTRY);
            guest.raise(Exception::Breakpoint, ENTRY);
        }
        // A breakpoint of its own is its own.
        guest.vcpu.frame.privilege = Privilege::User;
        run_at(&mut guest, ENTRY + 8);
        guest.raise(Exception::Breakpoint, ENTRY + 8);
        guest.assert_took(Exception::Breakpoint, ENTRY + 8, ENTRY + 8);
    }
}

#[test]
fn what_the_firmware_complains_of_is_replaced_whatever_is_in_front_of_it() {
    const SFENCE_VMA: u32 = 0x1200_0073;
    for (complains, is_exact) in [(false, false), (true, false), (true, true)] {
        let mut guest = Guest::with_copies();
        if complains {
            guest.machine.ram.overlay().require_scan();
        }
        guest.machine.code.lock().set_exact(is_exact);
        // The first half of an instruction, as far as one can see.
        guest.poke(ENTRY, 0x0001);
        guest.poke(ENTRY + 2, 0x0003);
        guest.poke(ENTRY + 4, SFENCE_VMA);
        for _ in 0..100 {
            run_at(&mut guest, ENTRY + 4);
            guest.execute(SFENCE_VMA);
        }
        assert_eq!(is_copied(&guest), complains, "exact: {is_exact}");
    }
}

#[test]
fn an_amo_is_carried_out_beside_what_the_firmware_complains_of() {
    const SFENCE_VMA: u32 = 0x1200_0073;
    /// amoswap.d a0, s0, (s0), in the page of the instruction, and in another.
    const SWAP: u32 = 1 << 27 | S0 << 20 | S0 << 15 | 3 << 12 | A0 << 7 | 0x2f;
    let faults = [Exception::StorePageFault, Exception::LoadPageFault];
    for (pc, fault) in [ENTRY + 8, LOAD].into_iter().flat_map(|pc| faults.map(|fault| (pc, fault))) {
        let mut guest = Guest::with_copies();
        guest.machine.ram.overlay().require_scan();
        guest.poke(ENTRY, SFENCE_VMA);
        guest.poke(pc, SWAP);
        guest.machine.ram.write(GuestPhysAddr(CONSTANT), &42_u64.to_le_bytes()).unwrap();
        run_at(&mut guest, ENTRY);
        guest.raise(Exception::InstructionPageFault, ENTRY);
        assert!(is_copied(&guest));
        for (address, old, is_done) in
            [(CONSTANT, 42, true), (CONSTANT, CONSTANT, true), (CONSTANT + 4, 0, false)]
        {
            guest.set_reg(S0, address);
            guest.set_reg(A0, 0);
            run_at(&mut guest, pc);
            guest.raise(fault, address);
            assert_eq!((guest.pc() == pc + 4, is_copied(&guest)), (is_done, is_done), "{address:#x}");
            assert_eq!(guest.reg(A0), old);
        }
    }
}
