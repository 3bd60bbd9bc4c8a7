//! A guest that traps at its own trap vector for good is stopped; one that only looks so is not.

use isa::csr::CsrAddr;
use isa::{Exception, Privilege};
use vmm::StopReason;
use vmm::outcome::Fatal;

use crate::support::asm::UNIMP;
use crate::support::{ENTRY, Guest, HANDLER, HOLE};

fn stopped(cause: Exception, address: u64) -> Result<(), StopReason> {
    Err(StopReason::Fatal(Fatal::TrapVectorUnreachable { cause: cause.code(), address }))
}

#[test]
fn a_guest_whose_trap_vector_is_not_memory_is_stopped_at_the_third_trap() {
    let mut guest = Guest::new();
    guest.set_csr(CsrAddr::STVEC, HOLE);
    guest.raise(Exception::Breakpoint, ENTRY);
    guest.raise(Exception::InstructionPageFault, HOLE);
    guest.assert_took(Exception::InstructionAccessFault, HOLE, HOLE);
    let end = guest.serve(Exception::InstructionPageFault.code(), HOLE);
    assert_eq!(end, stopped(Exception::InstructionAccessFault, HOLE));
}

#[test]
fn a_user_program_cannot_be_taken_for_a_trap_vector() {
    let mut guest = Guest::new();
    for _ in 0..10 {
        guest.vcpu.frame.privilege = Privilege::User;
        guest.vcpu.frame.pc = HANDLER;
        guest.raise(Exception::Breakpoint, HANDLER);
    }
    guest.assert_took(Exception::Breakpoint, HANDLER, HANDLER);
}

#[test]
fn a_handler_that_faults_once_at_its_first_instruction_goes_on() {
    let mut guest = Guest::new();
    guest.raise(Exception::Breakpoint, ENTRY);
    guest.execute(UNIMP);
    guest.assert_took(Exception::IllegalInstruction, HANDLER, u64::from(UNIMP));
    // Another cause at the same place is no loop yet.
    guest.raise(Exception::Breakpoint, HANDLER);
    guest.assert_took(Exception::Breakpoint, HANDLER, HANDLER);
    let end = guest.serve(Exception::Breakpoint.code(), HANDLER);
    assert_eq!(end, stopped(Exception::Breakpoint, HANDLER));
}

#[test]
fn a_kernel_that_faults_again_and_again_elsewhere_is_not_stopped() {
    let mut guest = Guest::new();
    for _ in 0..10 {
        guest.vcpu.frame.pc = ENTRY;
        guest.execute(UNIMP);
        guest.assert_took(Exception::IllegalInstruction, ENTRY, u64::from(UNIMP));
    }
}

#[test]
fn filling_the_shadow_at_the_trap_vector_is_not_a_trap_of_the_guest() {
    let mut guest = Guest::new();
    guest.raise(Exception::Breakpoint, ENTRY);
    for _ in 0..10 {
        guest.raise(Exception::InstructionPageFault, HANDLER);
    }
    guest.assert_took(Exception::Breakpoint, ENTRY, ENTRY);
}
