//! The instruction that trapped, read back from memory or taken from stval.

use isa::Exception;
use isa::csr::CsrAddr;
use isa::paging::Pte;
use memory::PAGE_SIZE;

use crate::support::paging::{RWX, Tables, USED};
use crate::support::{ENTRY, Guest, HOLE, RAM_END, asm};

/// csrrs a0, sscratch, zero
const READ_SSCRATCH: u32 = asm::csrrs(10, CsrAddr::SSCRATCH.as_u16(), 0);

fn guest_with_sscratch() -> Guest {
    let mut guest = Guest::new();
    guest.set_csr(CsrAddr::SSCRATCH, 0x77);
    guest
}

#[test]
fn hardware_that_leaves_stval_zero_makes_us_read_the_instruction_at_pc() {
    for pc in [ENTRY, ENTRY + 2, ENTRY + 4, ENTRY + 6] {
        let mut guest = guest_with_sscratch();
        guest.vcpu.frame.pc = pc;
        guest.poke(pc, READ_SSCRATCH);
        guest.raise(Exception::IllegalInstruction, 0);
        assert_eq!((guest.reg(10), guest.pc()), (0x77, pc + 4));
    }
}

#[test]
fn the_bits_that_hardware_reports_are_believed_though_memory_has_changed_since() {
    let mut guest = guest_with_sscratch();
    guest.poke(ENTRY, asm::UNIMP);
    guest.raise(Exception::IllegalInstruction, u64::from(READ_SSCRATCH));
    assert_eq!(guest.reg(10), 0x77);
}

#[test]
fn bits_that_hardware_reports_above_the_instruction_do_not_count() {
    let mut guest = guest_with_sscratch();
    guest.raise(Exception::IllegalInstruction, 0xdead_beef << 32 | u64::from(READ_SSCRATCH));
    assert_eq!(guest.reg(10), 0x77);
    let pc = guest.pc();
    // c.lwsp into x0 is reserved.
    guest.raise(Exception::IllegalInstruction, 0xdead_4002);
    guest.assert_took(Exception::IllegalInstruction, pc, 0x4002);
}

#[test]
fn the_all_zero_instruction_is_illegal_with_stval_zero() {
    let mut guest = Guest::new();
    guest.poke(ENTRY, 0);
    guest.raise(Exception::IllegalInstruction, 0);
    guest.assert_took(Exception::IllegalInstruction, ENTRY, 0);
}

#[test]
fn an_instruction_may_cross_into_a_page_that_lies_elsewhere() {
    let mut tables = Tables::new();
    let mut guest = guest_with_sscratch();
    let [low, high] = [ENTRY + 0x2000, ENTRY + 0x5000];
    tables.map(&mut guest, 0x1000, low, RWX);
    tables.map(&mut guest, 0x2000, high, RWX);
    tables.enable(&mut guest);
    guest.machine.ram.write((low + PAGE_SIZE - 2).into(), &READ_SSCRATCH.to_le_bytes()[..2]).unwrap();
    guest.machine.ram.write(high.into(), &READ_SSCRATCH.to_le_bytes()[2..]).unwrap();
    guest.vcpu.frame.pc = 0x1ffe;
    guest.raise(Exception::IllegalInstruction, 0);
    assert_eq!((guest.reg(10), guest.pc()), (0x77, 0x2002));
}

#[test]
fn an_instruction_whose_second_half_cannot_be_fetched_faults_at_that_half() {
    let mut tables = Tables::new();
    let mut guest = Guest::new();
    tables.map(&mut guest, 0x1000, ENTRY, RWX);
    tables.enable(&mut guest);
    guest.machine.ram.write((ENTRY + PAGE_SIZE - 2).into(), &READ_SSCRATCH.to_le_bytes()[..2]).unwrap();
    guest.vcpu.frame.pc = 0x1ffe;
    guest.raise(Exception::IllegalInstruction, 0);
    guest.assert_took(Exception::InstructionPageFault, 0x1ffe, 0x2000);
}

#[test]
fn a_compressed_instruction_at_the_end_of_ram_needs_nothing_behind_it() {
    let mut guest = Guest::new();
    let pc = RAM_END - 2;
    guest.poke(pc, 0x4002);
    guest.vcpu.frame.pc = pc;
    guest.raise(Exception::IllegalInstruction, 0);
    guest.assert_took(Exception::IllegalInstruction, pc, 0x4002);
}

#[test]
fn a_longer_instruction_at_the_end_of_ram_faults_behind_it() {
    let mut guest = Guest::new();
    let pc = RAM_END - 2;
    guest.machine.ram.write(pc.into(), &[0x73, 0]).unwrap();
    guest.vcpu.frame.pc = pc;
    guest.raise(Exception::IllegalInstruction, 0);
    guest.assert_took(Exception::InstructionAccessFault, pc, RAM_END);
}

#[test]
fn a_page_that_lost_its_execute_right_faults_instead_of_being_read() {
    let mut tables = Tables::new();
    let mut guest = Guest::new();
    tables.map(&mut guest, 0x1000, ENTRY, USED | Pte::R | Pte::W);
    tables.enable(&mut guest);
    guest.poke(ENTRY, READ_SSCRATCH);
    guest.vcpu.frame.pc = 0x1000;
    guest.raise(Exception::IllegalInstruction, 0);
    guest.assert_took(Exception::InstructionPageFault, 0x1000, 0x1000);
}

#[test]
fn a_pc_outside_ram_takes_an_access_fault_of_the_fetch() {
    let mut guest = Guest::new();
    guest.vcpu.frame.pc = HOLE;
    guest.raise(Exception::IllegalInstruction, 0);
    guest.assert_took(Exception::InstructionAccessFault, HOLE, HOLE);
    guest.vcpu.frame.pc = HOLE;
    guest.raise(Exception::LoadPageFault, HOLE + 8);
    guest.assert_took(Exception::InstructionAccessFault, HOLE, HOLE);
}
