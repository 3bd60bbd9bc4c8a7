//! Trap entry, SRET and the choice of interrupts.

use isa::csr::{CsrAddr, sstatus};
use isa::{Exception, Interrupt, Privilege};
use vmm::Outcome;

use super::{HARTS, Model, State, scramble};
use crate::support::asm::SRET;
use crate::support::random::Random;
use crate::support::{Guest, HANDLER};

const PRIVILEGES: [Privilege; 2] = [Privilege::User, Privilege::Supervisor];

#[test]
fn every_exception_enters_the_handler_with_the_state_that_the_specification_says() {
    let mut random = Random::new();
    for features in HARTS {
        let (mut guest, mut model) = (Guest::with_features(features), Model::new(features));
        for exception in (0..64).filter_map(Exception::from_code) {
            for round in 0..500_u64 {
                scramble(&mut guest, &mut random);
                guest.vcpu.frame.privilege = PRIVILEGES[round as usize % 2];
                let vector = random.word() & !3;
                guest.set_csr(CsrAddr::STVEC, vector | (round / 2 % 2));
                let (before, value) = (State::of(&guest), random.word());
                model.mirror(&guest);
                model.raise(exception.code(), value);
                guest.vcpu.apply(Outcome::Inject(exception, value)).expect("not a loop");
                assert_eq!(State::of(&guest), model.state(), "\n{exception:?} {value:#x} from\n{before:?}");
            }
        }
    }
}

#[test]
fn each_combination_of_pending_and_enabled_interrupts_leads_to_the_one_that_the_specification_takes() {
    let mut random = Random::new();
    let (mut guest, mut model) = (Guest::new(), Model::new(HARTS[0]));
    for combination in 0..256_u64 {
        for mode in [0, 1] {
            scramble(&mut guest, &mut random);
            let nth = |n: u64| combination >> n & 1 != 0;
            for (n, interrupt) in (0..).zip(Interrupt::BY_PRIORITY) {
                guest.vcpu.set_line(interrupt, nth(n));
            }
            let enabled = (3..).zip(Interrupt::BY_PRIORITY).filter(|(n, _)| nth(*n));
            guest.set_csr(CsrAddr::SIE, enabled.fold(0, |sie, (_, interrupt)| sie | interrupt.mask()));
            let status = guest.csr(CsrAddr::SSTATUS) & !sstatus::SIE;
            guest.set_csr(CsrAddr::SSTATUS, if nth(6) { status | sstatus::SIE } else { status });
            guest.vcpu.frame.privilege = PRIVILEGES[usize::from(nth(7))];
            guest.set_csr(CsrAddr::STVEC, HANDLER | mode);
            let before = State::of(&guest);
            model.mirror(&guest);
            model.take_interrupt();
            guest.vcpu.take_interrupt();
            assert_eq!(State::of(&guest), model.state(), "\nfrom {before:?}");
        }
    }
}

#[test]
fn sret_returns_as_the_specification_says_and_is_illegal_in_user_mode() {
    let mut random = Random::new();
    let (mut guest, mut model) = (Guest::new(), Model::new(HARTS[0]));
    for _ in 0..5000 {
        scramble(&mut guest, &mut random);
        let before = State::of(&guest);
        model.mirror(&guest);
        model.execute(SRET);
        guest.execute(SRET);
        assert_eq!(State::of(&guest), model.state(), "\nfrom {before:?}");
    }
}

#[test]
fn a_random_walk_through_traps_and_returns_never_parts_from_the_model() {
    let mut random = Random::new();
    let (mut guest, mut model) = (Guest::new(), Model::new(HARTS[0]));
    scramble(&mut guest, &mut random);
    model.mirror(&guest);
    for _ in 0..5000 {
        match random.below(4) {
            0 => {
                model.execute(SRET);
                guest.execute(SRET);
            }
            1 => {
                let exception = EXCEPTIONS[random.below(4) as usize];
                model.raise(exception.code(), 7);
                // The same exception at the handler again would end the machine, but enters the trap all the same.
                let _ = guest.vcpu.apply(Outcome::Inject(exception, 7));
            }
            2 => {
                model.take_interrupt();
                guest.vcpu.take_interrupt();
            }
            _ => {
                // The outside world: lines move, and the kernel loads its CSRs and goes elsewhere.
                let privilege = guest.vcpu.frame.privilege;
                scramble(&mut guest, &mut random);
                guest.vcpu.frame.privilege = privilege;
                model.mirror(&guest);
            }
        }
        assert_eq!(State::of(&guest), model.state());
        // Reading the model's CSRs leaves it in supervisor mode.
        model.mirror(&guest);
    }
}

const EXCEPTIONS: [Exception; 4] = [
    Exception::Breakpoint,
    Exception::EcallFromUser,
    Exception::LoadPageFault,
    Exception::InstructionAddressMisaligned,
];
