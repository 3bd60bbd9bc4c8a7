//! Hart state management.

use isa::csr::{CsrAddr, sstatus};
use isa::{Interrupt, Privilege, Reg};
use vhart::units::SINGLE_ZERO;
use vmm::StopReason;
use vmm::link::HartState;
use vmm::outcome::Fatal;
use vmm::vcpu::RunState;
use vmm::vm::Next;

use super::{ALREADY_AVAILABLE, HSM, INVALID_ADDRESS, INVALID_PARAM, call, ecall, guest, guest_with_harts};
use crate::support::paging::Tables;
use crate::support::{ENTRY, HANDLER, HOLE, RAM, RAM_END};

const START: u64 = 0;
const STOP: u64 = 1;
const STATUS: u64 = 2;
const SUSPEND: u64 = 3;

const RETENTIVE: u64 = 0;
const NON_RETENTIVE: u64 = 0x8000_0000;

#[test]
fn starting_the_hart_that_runs_is_already_done() {
    assert_eq!(call(&mut guest(), HSM, START, &[0, RAM, 7]), (ALREADY_AVAILABLE, 0));
}

#[test]
fn starting_needs_a_hart_that_exists_and_an_address_in_ram() {
    for hart in [1, 64, 1 << 32, u64::MAX] {
        assert_eq!(call(&mut guest(), HSM, START, &[hart, RAM, 0]), (INVALID_PARAM, 0), "{hart:#x}");
    }
    for address in [0, HOLE, RAM - 2, RAM_END - 1, RAM_END, u64::MAX] {
        assert_eq!(call(&mut guest(), HSM, START, &[0, address, 0]), (INVALID_ADDRESS, 0), "{address:#x}");
    }
}

#[test]
fn the_status_of_each_hart_is_reported() {
    let mut guest = guest_with_harts(2);
    assert_eq!(call(&mut guest, HSM, STATUS, &[0]), (0, 0), "started");
    assert_eq!(call(&mut guest, HSM, STATUS, &[1]), (0, 1), "stopped");
    guest.machine.links[1].set_state(HartState::Suspended);
    assert_eq!(call(&mut guest, HSM, STATUS, &[1]), (0, 4), "suspended");
    for hart in [2, 1 << 32, u64::MAX] {
        assert_eq!(call(&mut guest, HSM, STATUS, &[hart]), (INVALID_PARAM, 0));
    }
}

#[test]
fn the_last_hart_that_stops_ends_the_machine() {
    let mut guest = guest();
    let end = ecall(&mut guest, HSM, STOP, &[]);
    assert_eq!(end, Err(StopReason::Fatal(Fatal::NoHartLeft)));
}

#[test]
fn a_hart_that_stops_while_another_runs_stays_stopped() {
    let mut guest = guest_with_harts(2);
    guest.machine.links[1].set_state(HartState::Started);
    ecall(&mut guest, HSM, STOP, &[]).unwrap();
    assert_eq!(guest.vcpu.state, RunState::Stopped);
    assert_eq!(guest.machine.links[0].state(), HartState::Stopped);
    guest.set_csr(CsrAddr::SIE, Interrupt::Timer.mask());
    guest.vcpu.set_line(Interrupt::Timer, true);
    assert_eq!(guest.prepare(), Next::Idle);
}

#[test]
fn a_retentive_suspension_returns_success_after_the_next_interrupt() {
    for kind in [RETENTIVE, RETENTIVE | 0xffff_ffff << 32] {
        let mut guest = guest();
        guest.set_csr(CsrAddr::SIE, Interrupt::Timer.mask());
        ecall(&mut guest, HSM, SUSPEND, &[kind, HOLE, 0]).unwrap();
        assert_eq!(guest.prepare(), Next::Idle);
        guest.vcpu.set_line(Interrupt::Timer, true);
        assert!(matches!(guest.prepare(), Next::Run(_)));
        assert_eq!((guest.pc(), guest.reg(10), guest.reg(11)), (ENTRY + 4, 0, 0));
    }
}

#[test]
fn a_non_retentive_suspension_resumes_at_its_address_with_the_state_of_a_start() {
    for kind in [NON_RETENTIVE, NON_RETENTIVE | 0xffff_ffff << 32] {
        let mut guest = guest();
        guest.set_csr(CsrAddr::SIE, Interrupt::Timer.mask());
        guest.set_csr(CsrAddr::SSTATUS, sstatus::SIE | sstatus::SUM);
        guest.set_csr(CsrAddr::SATP, Tables::satp());
        guest.set_csr(CsrAddr::SSCRATCH, 0x55);
        guest.set_csr(CsrAddr::SCOUNTEREN, 0);
        guest.set_csr(CsrAddr::STVEC, RAM);
        guest.set_csr(CsrAddr::SEPC, 0x44);
        guest.vcpu.frame.units.float[7] = 7;
        guest.vcpu.frame.guarded = 0;
        ecall(&mut guest, HSM, SUSPEND, &[kind, HANDLER, 0x77]).unwrap();
        assert_eq!(guest.prepare(), Next::Idle);
        guest.vcpu.set_line(Interrupt::Timer, true);
        assert!(matches!(guest.prepare(), Next::Run(_)));
        let a0_a1 = (guest.vcpu.frame.get(Reg::A0), guest.vcpu.frame.get(Reg::A1));
        assert_eq!((guest.pc(), a0_a1), (HANDLER, (0, 0x77)));
        assert_eq!(guest.csr(CsrAddr::SATP), 0);
        let units = sstatus::SD | sstatus::FS_DIRTY | sstatus::VS_DIRTY;
        assert_eq!(guest.csr(CsrAddr::SSTATUS), sstatus::UXL_64 | units);
        assert_eq!((guest.csr(CsrAddr::SIE), guest.csr(CsrAddr::SSCRATCH)), (0, 0));
        assert_eq!((guest.csr(CsrAddr::STVEC), guest.csr(CsrAddr::SCOUNTEREN)), (HANDLER, 7));
        assert_eq!(guest.csr(CsrAddr::SEPC), 0x44, "what the last trap has left stays");
        assert_eq!(guest.csr(CsrAddr::SIP), Interrupt::Timer.mask());
        let units = &guest.vcpu.frame.units;
        assert_eq!((units.float, units.fcsr), ([SINGLE_ZERO; 32], 0));
        assert_ne!(guest.vcpu.frame.guarded & sstatus::FS, 0, "the hart is to load them");
        assert_eq!(guest.vcpu.frame.guarded & sstatus::VS, 0, "it holds the vector registers");
        assert_eq!(guest.vcpu.frame.privilege, Privilege::Supervisor);
    }
}

#[test]
fn an_odd_resume_address_loses_its_last_bit_as_sepc_does() {
    let mut guest = guest();
    guest.set_csr(CsrAddr::SIE, Interrupt::Timer.mask());
    guest.vcpu.set_line(Interrupt::Timer, true);
    ecall(&mut guest, HSM, SUSPEND, &[NON_RETENTIVE, HANDLER + 1, 0]).unwrap();
    assert!(matches!(guest.prepare(), Next::Run(_)));
    assert_eq!(guest.pc(), HANDLER);
}

#[test]
fn a_suspension_of_another_type_or_to_an_address_outside_ram_is_refused() {
    for kind in [1, 0x0fff_ffff, 0x1000_0000, 0x7fff_ffff, 0x8000_0001, 0x9000_0000, 0xffff_ffff] {
        assert_eq!(call(&mut guest(), HSM, SUSPEND, &[kind, RAM, 0]), (INVALID_PARAM, 0), "{kind:#x}");
    }
    for address in [0, HOLE, RAM_END - 1, u64::MAX] {
        let mut guest = guest();
        assert_eq!(call(&mut guest, HSM, SUSPEND, &[NON_RETENTIVE, address, 0]), (INVALID_ADDRESS, 0));
        assert_eq!(guest.vcpu.state, RunState::Running);
    }
}
