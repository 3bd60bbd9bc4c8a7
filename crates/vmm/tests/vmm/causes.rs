//! What becomes of each exception that a host may report: nothing that code of a guest's can raise stops its machine, for
//! then a program in it without privileges could. All causes are here, in both virtual modes.

use isa::csr::CsrAddr;
use isa::{Exception, Interrupt, Privilege};
use memory::GuestPhysAddr;
use trace::ExitKind;
use vmm::StopReason;
use vmm::outcome::Fatal;

use crate::support::paging::{RWX, Tables, USED};
use crate::support::{ENTRY, Guest, HOLE, RAM, asm};
use isa::paging::Pte;

/// What becomes of an exception with an stval in RAM that the guest maps, at an instruction that is not privileged.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fate {
    /// The guest's kernel gets it as it is.
    Guests,
    /// The shadow gets the page, and the guest tries again.
    Filled,
    /// The SBI is called.
    Sbi,
    /// No code in user mode can raise it: the machine is stopped.
    Stopped,
}

/// By cause, in virtual user mode and in virtual supervisor mode. Priv. spec, "Supervisor Cause Register".
const FATES: [(u64, Fate, Fate); 16] = [
    (0, Fate::Guests, Fate::Guests), // instruction address misaligned: harts without C
    (1, Fate::Guests, Fate::Guests), // instruction access fault: the hart refuses the place
    (2, Fate::Guests, Fate::Guests), // illegal instruction: this one is no privileged one that we carry out
    (3, Fate::Guests, Fate::Guests), // breakpoint: none of ours
    (4, Fate::Guests, Fate::Guests), // load address misaligned: LR, and loads where the host has no others
    (5, Fate::Guests, Fate::Guests), // load access fault: the same, on other hosts
    (6, Fate::Guests, Fate::Guests), // store or AMO address misaligned
    (7, Fate::Guests, Fate::Guests), // store or AMO access fault
    (8, Fate::Guests, Fate::Sbi),    // environment call from user mode
    (9, Fate::Stopped, Fate::Stopped), // environment call from supervisor mode: the guest is never there
    (10, Fate::Stopped, Fate::Stopped), // reserved
    (11, Fate::Stopped, Fate::Stopped), // environment call from machine mode
    (12, Fate::Filled, Fate::Filled), // instruction page fault
    (13, Fate::Filled, Fate::Filled), // load page fault
    (14, Fate::Stopped, Fate::Stopped), // reserved
    (15, Fate::Filled, Fate::Filled), // store or AMO page fault
];

/// A guest in one of the virtual modes, with a page of its own that it may do everything with.
fn guest_in(privilege: Privilege) -> Guest {
    let mut tables = Tables::new();
    let mut guest = Guest::new();
    let user = if privilege == Privilege::User { Pte::U } else { 0 };
    tables.map(&mut guest, ENTRY, ENTRY, RWX | user);
    tables.map(&mut guest, 0x5000, RAM, RWX | user);
    tables.map(&mut guest, 0x6000, RAM, USED | Pte::R | user);
    tables.map(&mut guest, 0x7000, HOLE, RWX | user);
    tables.enable(&mut guest);
    guest.vcpu.frame.privilege = privilege;
    guest.poke(ENTRY, asm::amoadd_w(10, 8, 11));
    guest
}

/// *guests-exception*
#[test]
fn each_cause_has_its_fate() {
    for (cause, in_user, in_supervisor) in FATES {
        for (privilege, fate) in [(Privilege::User, in_user), (Privilege::Supervisor, in_supervisor)] {
            let mut guest = guest_in(privilege);
            // An illegal instruction's bits, and an address that is not aligned.
            let value = if cause == 2 { 0 } else { 0x5002 };
            let served = guest.serve(cause, value);
            let what = format!("cause {cause} in {privilege:?}");
            if fate == Fate::Stopped {
                let fatal = Fatal::UnexpectedTrap { cause, value };
                assert_eq!(served, Err(StopReason::Fatal(fatal)), "{what}");
                continue;
            }
            assert_eq!(served, Ok(()), "{what}");
            match fate {
                Fate::Guests => {
                    let stval = if cause == 2 { u64::from(asm::amoadd_w(10, 8, 11)) } else { value };
                    guest.assert_took(Exception::from_code(cause).expect(&what), ENTRY, stval);
                }
                Fate::Filled => assert_eq!((guest.pc(), guest.csr(CsrAddr::SCAUSE)), (ENTRY, 0), "{what}"),
                Fate::Sbi => assert_eq!(guest.pc(), ENTRY + 4, "{what}"),
                Fate::Stopped => {}
            }
        }
    }
}

#[test]
fn a_cause_that_no_guest_can_raise_stops_the_machine() {
    let timer = Interrupt::Timer.cause();
    for cause in (16..=64).chain([u64::MAX, 1 << 63, timer]) {
        for privilege in [Privilege::User, Privilege::Supervisor] {
            let mut guest = guest_in(privilege);
            let fatal = Fatal::UnexpectedTrap { cause, value: 7 };
            assert_eq!(guest.serve(cause, 7), Err(StopReason::Fatal(fatal)));
        }
    }
}

#[test]
fn a_misaligned_atomic_is_the_guests_whatever_the_host_raises_for_it() {
    // LR, SC and an AMO, at addresses that are mapped, were never touched, were touched, are read-only, and are no RAM.
    for (bits, causes) in
        [(asm::lr_w(10, 8), [4, 5]), (asm::sc_w(10, 8, 11), [6, 7]), (asm::amoadd_w(10, 8, 11), [6, 7])]
    {
        for cause in causes {
            for (address, is_touched) in [(0x5002, false), (0x5002, true), (0x6002, true), (0x7002, false)] {
                let mut guest = guest_in(Privilege::User);
                if is_touched {
                    guest.raise(Exception::LoadPageFault, address);
                }
                guest.set_reg(8, address);
                guest.touch(bits, Exception::from_code(cause).expect("a cause"), address).unwrap();
                // The walk comes before the access where the guest's own tables refuse.
                let is_refused = address == 0x6002 && cause == 7;
                let expected = if is_refused { Exception::StorePageFault.code() } else { cause };
                guest.assert_took(Exception::from_code(expected).expect("a cause"), ENTRY, address);
                assert_eq!(guest.machine.ram.read_word(GuestPhysAddr(RAM)), Some(0), "nothing is written");
                assert_eq!(guest.reg(10), 0);
            }
        }
    }
}

#[test]
fn a_misaligned_atomic_in_a_watched_page_ends_the_watch_and_is_the_guests() {
    let mut guest = guest_in(Privilege::User);
    assert!(guest.machine.ram.watch_page(GuestPhysAddr(RAM)));
    guest.set_reg(8, 0x5002);
    let bits = asm::amoadd_w(10, 8, 11);
    guest.touch(bits, Exception::StoreAccessFault, 0x5002).unwrap();
    assert_eq!(guest.pc(), ENTRY, "tried again");
    guest.touch(bits, Exception::StoreAccessFault, 0x5002).unwrap();
    guest.assert_took(Exception::StoreAccessFault, ENTRY, 0x5002);
    assert_eq!(guest.vcpu.exits.get(ExitKind::GuestException), 1);
}
