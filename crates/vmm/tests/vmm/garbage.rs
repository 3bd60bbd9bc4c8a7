//! Whatever a guest does, it is served: nothing panics, and what comes out is a legal state.

use isa::csr::CsrAddr;
use isa::paging::Satp;
use isa::{Interrupt, Privilege};
use proptest::prelude::*;
use vmm::StopReason;
use vmm::outcome::Fatal;
use vmm::vm::{self, Next};

use crate::support::paging::{RWX, Tables};
use crate::support::{ENTRY, Guest, HOLE, RAM, RAM_END, UART, asm};

/// Addresses that lead somewhere more often than random ones do.
fn address() -> impl Strategy<Value = u64> {
    let places =
        [0, RAM, ENTRY, RAM_END, UART, HOLE, 0x0c00_0000, 0x0010_0000, 0x0010_1000, 0x1000_1000, 0x5000];
    prop_oneof![
        (prop::sample::select(places.to_vec()), -16..16_i64)
            .prop_map(|(place, off)| place.wrapping_add_signed(off)),
        any::<u64>(),
        Just(u64::MAX),
    ]
}

/// An instruction: anything, or of an opcode that is looked into.
fn instruction() -> impl Strategy<Value = u32> {
    let opcodes = [0x73, 0x03, 0x23, 0x07, 0x27, 0x2f, 0x0f];
    prop_oneof![
        any::<u32>(),
        (any::<u32>(), prop::sample::select(opcodes.to_vec()))
            .prop_map(|(bits, opcode)| bits & !0x7f | opcode),
        any::<u16>().prop_map(u32::from),
        Just(asm::SRET),
        Just(asm::ECALL),
    ]
}

/// Extension ids: anything, or one that exists.
fn eid() -> impl Strategy<Value = u64> {
    let known = [0x10, 0x5449_4d45, 0x0073_5049, 0x5246_4e43, 0x0048_534d, 0x5352_5354, 0x4442_434e];
    prop_oneof![any::<u64>(), 0..16_u64, prop::sample::select(known.to_vec())]
}

/// One exit.
#[derive(Clone, Debug)]
struct Step {
    instruction: u32,
    cause: u64,
    value: u64,
    registers: Vec<u64>,
    eid: u64,
    fid: u64,
    pc: Option<u64>,
    /// What happens before the guest runs on: the clock moves by so much.
    elapsed: u64,
}

fn step() -> impl Strategy<Value = Step> {
    let cause = prop_oneof![0..16_u64, Just(2), Just(8), Just(13), Just(15)];
    let registers = prop::collection::vec(address(), 31);
    let pc = prop::option::of(address());
    (instruction(), cause, address(), registers, eid(), 0..8_u64, pc, any::<u32>()).prop_map(
        |(instruction, cause, value, registers, eid, fid, pc, elapsed)| Step {
            instruction,
            cause,
            value,
            registers,
            eid,
            fid,
            pc: pc.map(|pc| pc & !1),
            elapsed: u64::from(elapsed),
        },
    )
}

fn take(guest: &mut Guest, step: &Step) -> Result<(), StopReason> {
    for (number, value) in (1..).zip(&step.registers) {
        guest.set_reg(number, *value);
    }
    guest.set_reg(16, step.fid);
    guest.set_reg(17, step.eid);
    if let Some(pc) = step.pc {
        guest.vcpu.frame.pc = pc;
    }
    // Where pc is RAM, the instruction lies there; stval has its bits for an illegal one.
    let _ = guest.machine.ram.write(guest.pc().into(), &step.instruction.to_le_bytes());
    let value = if step.cause == 2 { u64::from(step.instruction) } else { step.value };
    guest.serve(step.cause, value)
}

fn assert_legal(guest: &Guest) -> Result<(), TestCaseError> {
    prop_assert_eq!(guest.pc() & 1, 0);
    let satp = Satp::from_bits(guest.csr(CsrAddr::SATP));
    let widest = guest.vcpu.frame.csr.features().widest_mode;
    prop_assert!(satp.is_some_and(|satp| satp.mode <= widest));
    prop_assert!(guest.csr(CsrAddr::STVEC) & 3 < 2);
    prop_assert_eq!(guest.csr(CsrAddr::SEPC) & 1, 0);
    prop_assert_eq!(guest.reg(0), 0);
    prop_assert!(mmu::check::check(&guest.vcpu.caches.shadow, &guest.machine.ram).is_ok());
    Ok(())
}

/// A guest with a page that every address in the first gigabyte of `address` may hit.
fn paged_guest() -> Guest {
    let mut tables = Tables::new();
    let mut guest = Guest::new();
    for (page, physical) in [(0x5000, UART), (0x4000, RAM), (ENTRY, ENTRY)] {
        tables.map(&mut guest, page, physical, RWX);
    }
    tables.enable(&mut guest);
    guest
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// *no-guest-panic*
    #[test]
    fn a_guest_that_does_anything_at_all_is_served_or_stopped(
        steps in prop::collection::vec(step(), 1..24),
        paged in any::<bool>(),
        typed in prop::collection::vec(any::<u8>(), 0..40),
        room in 0..200_usize,
    ) {
        let mut guest = if paged { paged_guest() } else { Guest::new() };
        guest.host.input.extend(typed);
        guest.host.room = room;
        for step in &steps {
            if let Err(reason) = take(&mut guest, step) {
                let ours = matches!(reason, StopReason::Fatal(Fatal::UnexpectedTrap { cause, .. })
                    if [9, 10, 11, 14].contains(&cause) && cause == step.cause);
                let theirs = !matches!(reason, StopReason::Fatal(Fatal::UnexpectedTrap { .. }));
                prop_assert!(ours || theirs, "{:?}", reason);
                prop_assert!(!reason.to_string().is_empty());
                break;
            }
            assert_legal(&guest)?;
            let now = guest.host.now.saturating_add(step.elapsed);
            guest.tick(now);
            if guest.prepare() == Next::Idle {
                prop_assert!(!guest.vcpu.frame.csr.wakes(), "a waiting hart has nothing that wakes it");
            }
            assert_legal(&guest)?;
            prop_assert!(vm::deadline(&guest.machine, &guest.vcpu) > guest.host.now);
        }
    }

    #[test]
    fn an_unprivileged_guest_never_becomes_supervisor_without_entering_its_kernel(
        step in step(),
        stvec in (0..RAM_END).prop_map(|address| address & !3),
    ) {
        let mut guest = Guest::new();
        guest.set_csr(CsrAddr::STVEC, stvec);
        guest.vcpu.frame.privilege = Privilege::User;
        if take(&mut guest, &step).is_ok() && guest.vcpu.frame.privilege == Privilege::Supervisor {
            prop_assert_eq!(guest.pc(), stvec);
            prop_assert_eq!(guest.csr(CsrAddr::SSTATUS) & isa::csr::sstatus::SPP, 0);
        }
        prop_assert_eq!(guest.csr(CsrAddr::SIE) | guest.csr(CsrAddr::SATP) | guest.csr(CsrAddr::SSCRATCH), 0);
    }

    #[test]
    fn an_interrupt_at_any_time_leads_to_the_trap_vector(
        step in step(),
        lines in 0..8_u8,
    ) {
        let mut guest = Guest::new();
        guest.set_csr(CsrAddr::SIE, !0);
        if take(&mut guest, &step).is_ok() {
            for (n, interrupt) in (0..).zip(Interrupt::BY_PRIORITY) {
                guest.vcpu.set_line(interrupt, lines >> n & 1 != 0);
            }
            let privilege = guest.vcpu.frame.privilege;
            let expected = guest.vcpu.frame.csr.deliverable(privilege);
            guest.vcpu.take_interrupt();
            if let Some(interrupt) = expected {
                prop_assert_eq!(guest.csr(CsrAddr::SCAUSE), interrupt.cause());
            }
            assert_legal(&guest)?;
        }
    }
}
