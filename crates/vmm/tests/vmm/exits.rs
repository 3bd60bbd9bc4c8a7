//! What becomes of each kind of exit, but for instructions that `model` compares and calls that `sbi` makes.

use isa::csr::{CsrAddr, sstatus};
use isa::paging::{Mode, Pte, Satp};
use isa::{Exception, Privilege};
use memory::PAGE_SIZE;
use trace::ExitKind;
use vmm::vm::Next;

use crate::support::paging::{ASID, RWX, Tables, USED};
use crate::support::{ENTRY, Guest, HOLE, RAM, RAM_END, UART, asm};

#[test]
fn an_ecall_from_virtual_supervisor_mode_is_a_call_of_the_sbi() {
    let mut guest = Guest::new();
    guest.set_reg(17, 0x10);
    guest.raise(Exception::EcallFromUser, 0);
    assert_eq!((guest.pc(), guest.csr(CsrAddr::SCAUSE)), (ENTRY + 4, 0));
    assert_eq!(guest.vcpu.exits.get(ExitKind::Sbi), 1);
}

#[test]
fn an_ecall_from_virtual_user_mode_is_the_guest_kernels_business() {
    let mut guest = Guest::new();
    guest.vcpu.frame.privilege = Privilege::User;
    guest.set_reg(17, 0x10);
    guest.raise(Exception::EcallFromUser, 0);
    guest.assert_took(Exception::EcallFromUser, ENTRY, 0);
    assert_eq!(guest.csr(CsrAddr::SSTATUS) & sstatus::SPP, 0);
    assert_eq!(guest.vcpu.exits.get(ExitKind::UserEcall), 1);
}

#[test]
fn the_first_touch_of_a_page_fills_the_shadow_and_the_guest_sees_nothing() {
    let mut guest = Guest::new();
    guest.raise(Exception::InstructionPageFault, ENTRY);
    guest.raise(Exception::LoadPageFault, RAM_END - 1);
    guest.raise(Exception::StorePageFault, RAM);
    assert_eq!((guest.pc(), guest.csr(CsrAddr::SCAUSE)), (ENTRY, 0));
    assert_eq!(guest.vcpu.exits.get(ExitKind::Fill), 3);
    assert_eq!(guest.shadow_leaves(), 1, "bare RAM is mapped by the block");
}

#[test]
fn a_page_fault_of_the_guests_own_tables_is_the_guests() {
    let mut tables = Tables::new();
    let mut guest = Guest::new();
    tables.map(&mut guest, 0x1000, RAM, USED | Pte::R);
    tables.map(&mut guest, 0x2000, RAM, USED | Pte::X);
    tables.enable(&mut guest);
    for (exception, address) in [
        (Exception::StorePageFault, 0x1008),
        (Exception::InstructionPageFault, 0x1000),
        (Exception::LoadPageFault, 0x2000),
        (Exception::LoadPageFault, 0x3000),
        (Exception::LoadPageFault, 1 << 40),
    ] {
        guest.vcpu.frame.pc = ENTRY;
        guest.raise(exception, address);
        guest.assert_took(exception, ENTRY, address);
    }
    assert_eq!(guest.vcpu.exits.get(ExitKind::GuestPageFault), 5);
}

#[test]
fn making_a_page_readable_lets_the_same_load_through() {
    let mut tables = Tables::new();
    let mut guest = Guest::new();
    tables.map(&mut guest, 0x2000, RAM, USED | Pte::X);
    tables.enable(&mut guest);
    guest.set_csr(CsrAddr::SSTATUS, sstatus::MXR);
    guest.raise(Exception::LoadPageFault, 0x2000);
    assert_eq!(guest.pc(), ENTRY, "MXR admits loads of executable pages");
    tables.map(&mut guest, 0x3000, RAM, USED | Pte::R | Pte::U);
    guest.set_csr(CsrAddr::SSTATUS, sstatus::SUM);
    guest.raise(Exception::LoadPageFault, 0x3000);
    assert_eq!(guest.pc(), ENTRY, "SUM admits loads of user pages");
}

#[test]
fn a_fetch_from_a_device_or_a_hole_is_an_access_fault() {
    for address in [UART, HOLE, RAM - 2, RAM_END, !1] {
        let mut guest = Guest::new();
        guest.vcpu.frame.pc = address;
        guest.raise(Exception::InstructionPageFault, address);
        guest.assert_took(Exception::InstructionAccessFault, address, address);
        assert_eq!(guest.vcpu.exits.get(ExitKind::Mmio), 0, "no device is asked");
    }
}

#[test]
fn a_page_table_outside_ram_is_an_access_fault_of_the_accesss_type() {
    let satp = Satp { mode: Mode::Sv39, asid: 0, ppn: HOLE >> 12 }.bits();
    for (fault, expected) in [
        (Exception::InstructionPageFault, Exception::InstructionAccessFault),
        (Exception::LoadPageFault, Exception::LoadAccessFault),
        (Exception::StorePageFault, Exception::StoreAccessFault),
    ] {
        let mut guest = Guest::new();
        guest.set_csr(CsrAddr::SATP, satp);
        guest.raise(fault, 0x5000);
        guest.assert_took(expected, ENTRY, 0x5000);
    }
}

#[test]
fn an_access_fault_at_a_device_is_served_like_a_page_fault() {
    let mut guest = Guest::new();
    guest.set_reg(8, UART);
    guest.touch(asm::load(4, 10, 8, 5), Exception::LoadAccessFault, UART + 5).unwrap();
    assert_eq!(guest.pc(), ENTRY + 4);
    assert_ne!(guest.reg(10), 0, "the line status");
}

#[test]
fn an_access_fault_at_a_device_whose_console_is_full_is_tried_again() {
    let mut guest = Guest::new();
    guest.host.room = 0;
    guest.set_reg(8, UART);
    for _ in 0..100_000 {
        let pc = guest.pc();
        guest.touch(asm::store(0, 10, 8, 0), Exception::StoreAccessFault, UART).unwrap();
        if guest.pc() == pc {
            return;
        }
        guest.vcpu.frame.pc = ENTRY;
    }
    panic!("the port took everything");
}

#[test]
fn linux_turns_its_mmu_on_by_faulting_to_a_virtual_stvec() {
    // relocate_enable_mmu: stvec holds the virtual address of the instruction after the write of satp.
    let mut tables = Tables::new();
    let mut guest = Guest::new();
    const VIRTUAL: u64 = 0xffff_ffc0_0000_1000;
    tables.map(&mut guest, VIRTUAL, ENTRY & !(PAGE_SIZE - 1), RWX);
    guest.set_csr(CsrAddr::STVEC, VIRTUAL + 4);
    guest.set_reg(10, Tables::satp());
    guest.execute(asm::csrrw(0, CsrAddr::SATP.as_u16(), 10));
    assert!(matches!(guest.prepare(), Next::Run(_)));
    assert_eq!(guest.pc(), ENTRY + 4);
    guest.raise(Exception::InstructionPageFault, ENTRY + 4);
    guest.assert_took(Exception::InstructionPageFault, ENTRY + 4, ENTRY + 4);
    guest.raise(Exception::InstructionPageFault, VIRTUAL + 4);
    assert_eq!(guest.pc(), VIRTUAL + 4, "filled");
    assert_eq!(guest.csr(CsrAddr::SEPC), ENTRY + 4, "no second trap");
}

#[test]
fn fences_drop_what_the_shadow_holds() {
    for (bits, left) in [
        (asm::sfence_vma(0, 0), 0),
        (asm::sfence_vma(5, 0), 1),
        (asm::sfence_vma(0, 6), 0),
        (asm::sfence_vma(5, 7), 2),
        (asm::sinval_vma(5, 6), 1),
        (asm::SFENCE_W_INVAL, 2),
        (asm::SFENCE_INVAL_IR, 2),
    ] {
        let mut tables = Tables::new();
        let mut guest = Guest::new();
        for page in [0x1000, 0x2000] {
            tables.map(&mut guest, page, RAM, RWX);
        }
        tables.enable(&mut guest);
        tables.earn_trust(&mut guest);
        guest.raise(Exception::LoadPageFault, 0x1000);
        guest.raise(Exception::LoadPageFault, 0x2000);
        // What is gone from the tables stays in the shadow until it is fenced, and cannot come back.
        tables.unmap(&mut guest, 0x1000);
        tables.unmap(&mut guest, 0x2000);
        // x5: the first page; x6: its ASID, with excess bits; x7: another ASID.
        guest.set_reg(5, 0x1234);
        guest.set_reg(6, 0xabcd_0000 | ASID);
        guest.set_reg(7, ASID & 0xff);
        guest.execute(bits);
        assert_eq!((guest.shadow_leaves(), guest.pc()), (left, ENTRY + 4), "{bits:#x}");
    }
}

#[test]
fn a_fence_that_stands_behind_a_write_of_satp_is_carried_out_with_it() {
    let satp = CsrAddr::SATP.as_u16();
    let write = asm::csrrw(0, satp, 5);
    for (behind, done) in [
        (vec![asm::sfence_vma(0, 0)], 2),
        (vec![asm::sfence_vma(0, 0), write], 3),
        (vec![asm::sfence_vma(0, 0); 8], 4),
        (vec![asm::sfence_vma(5, 0)], 1),
        (vec![asm::csrrw(6, satp, 5)], 1),
        (vec![asm::SRET], 1),
    ] {
        let mut guest = Guest::new();
        for (place, bits) in (ENTRY + 4..).step_by(4).zip(&behind) {
            guest.poke(place, *bits);
        }
        guest.execute(write);
        assert_eq!(guest.pc(), ENTRY + 4 * done, "{behind:x?}");
    }
}

#[test]
fn each_privileged_instruction_is_counted_by_its_kind() {
    let satp = CsrAddr::SATP.as_u16();
    for (bits, kind) in [
        (asm::csrrs(10, satp, 0), ExitKind::CsrRead),
        (asm::csrrw(0, 0x140, 5), ExitKind::CsrWrite),
        (asm::csrrw(0, satp, 0), ExitKind::Satp),
        (asm::SRET, ExitKind::Sret),
        (asm::WFI, ExitKind::Wfi),
        (asm::sfence_vma(0, 0), ExitKind::Fence),
        (asm::MRET, ExitKind::GuestException),
        (asm::UNIMP, ExitKind::GuestException),
    ] {
        let mut guest = Guest::new();
        guest.execute(bits);
        assert_eq!(guest.vcpu.exits.iter().collect::<Vec<_>>(), [(kind, 1)], "{bits:#x}");
    }
}
