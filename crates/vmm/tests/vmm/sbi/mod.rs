//! Calls of the SBI, as a guest makes them.

mod console;
mod counters;
mod fences;
mod harts;
mod legacy;
mod steal;
mod system;

use isa::csr::CsrAddr;
use isa::{Exception, Reg};
use vmm::StopReason;

use crate::support::Guest;

const BASE: u64 = 0x10;
const TIME: u64 = 0x5449_4d45;
const IPI: u64 = 0x73_5049;
const RFENCE: u64 = 0x5246_4e43;
const HSM: u64 = 0x48_534d;
const SRST: u64 = 0x5352_5354;
const DBCN: u64 = 0x4442_434e;
const STA: u64 = 0x53_5441;
const PMU: u64 = 0x50_4d55;

const NOT_SUPPORTED: i64 = -2;
const INVALID_PARAM: i64 = -3;
const INVALID_ADDRESS: i64 = -5;
const ALREADY_AVAILABLE: i64 = -6;

/// What a hart mask's base is for all harts.
const ALL: u64 = u64::MAX;

/// The exit that an SBI call makes, at the guest's pc.
fn ecall(guest: &mut Guest, eid: u64, fid: u64, args: &[u64]) -> Result<(), StopReason> {
    for (number, value) in (10..).zip(args) {
        guest.set_reg(number, *value);
    }
    guest.set_reg(16, fid);
    guest.set_reg(17, eid);
    guest.serve(Exception::EcallFromUser.code(), 0)
}

/// A call that returns, and what: a0 and a1. All else must be as it was.
#[track_caller]
fn call(guest: &mut Guest, eid: u64, fid: u64, args: &[u64]) -> (i64, u64) {
    let before = guest.vcpu.frame.clone();
    ecall(guest, eid, fid, args).expect("the call returns");
    assert_eq!(guest.pc(), before.pc.wrapping_add(4), "the call is done");
    for reg in (1..32).map(Reg::new) {
        let expected = match reg.index() {
            10 | 11 => continue,
            16 => fid,
            17 => eid,
            number => args.get(number.wrapping_sub(10)).copied().unwrap_or(before.get(reg)),
        };
        assert_eq!(guest.vcpu.frame.get(reg), expected, "{reg} is preserved");
    }
    (guest.vcpu.frame.get(Reg::A0) as i64, guest.vcpu.frame.get(Reg::A1))
}

/// A guest whose registers all hold something.
fn guest() -> Guest {
    fill(Guest::new())
}

/// A guest with so many harts.
fn guest_with_harts(harts: usize) -> Guest {
    fill(Guest::with_harts(harts))
}

fn fill(mut guest: Guest) -> Guest {
    for number in 1..32 {
        guest.set_reg(number, 0x1111_1111_1111_1111 * u64::from(number % 16));
    }
    guest
}

#[test]
fn an_unknown_extension_or_function_is_not_supported() {
    let mut guest = guest();
    for eid in [9, 0xf, 0x11, 0x4350_5043, 0x5355_5350, 0x4e41_434c, 0xffff_ffff] {
        assert_eq!(call(&mut guest, eid, 0, &[]), (NOT_SUPPORTED, 0), "{eid:#x}");
    }
    for (eid, first) in
        [(BASE, 7), (TIME, 1), (IPI, 1), (RFENCE, 3), (HSM, 4), (SRST, 1), (DBCN, 3), (STA, 1), (PMU, 8)]
    {
        for fid in [first, first + 1, 100, 0xffff_ffff] {
            assert_eq!(call(&mut guest, eid, fid, &[]), (NOT_SUPPORTED, 0), "{eid:#x} {fid}");
        }
    }
}

/// Firmware compares the whole registers: `guests/features`' `sbi` shows it.
#[test]
fn all_bits_of_extension_and_function_ids_count() {
    let mut guest = guest();
    for (eid, fid) in [(1 << 32 | BASE, 0), (BASE, 1 << 32), (1 << 63 | SRST, 0), (SRST, 1 << 32)] {
        assert_eq!(call(&mut guest, eid, fid, &[]), (NOT_SUPPORTED, 0), "{eid:#x} {fid:#x}");
    }
    assert_eq!(call(&mut guest, BASE, 3, &[1 << 32 | TIME]), (0, 0));
}

#[test]
fn the_base_extension_reports_version_2_0_and_an_implementation_of_our_own() {
    let mut guest = guest();
    assert_eq!(call(&mut guest, BASE, 0, &[]), (0, 0x0200_0000));
    let (error, implementation) = call(&mut guest, BASE, 1, &[]);
    assert!(error == 0 && implementation > 0xff, "{implementation:#x} is somebody else's");
    assert_eq!(call(&mut guest, BASE, 2, &[]).0, 0);
    for fid in 4..=6 {
        assert_eq!(call(&mut guest, BASE, fid, &[]), (0, 0), "machine ids are not implemented");
    }
}

#[test]
fn probing_finds_just_the_extensions_that_answer() {
    let mut guest = guest();
    let present = (0..=8).chain([BASE, TIME, IPI, RFENCE, HSM, SRST, DBCN, STA, PMU]);
    for eid in present {
        assert_eq!(call(&mut guest, BASE, 3, &[eid]), (0, 1), "{eid:#x}");
    }
    for eid in [9, 0xf, 0x5355_5350, 0x4350_5043, 0xffff_ffff] {
        assert_eq!(call(&mut guest, BASE, 3, &[eid]), (0, 0), "{eid:#x}");
    }
}

#[test]
fn setting_the_timer_makes_it_pending_exactly_when_its_time_has_come() {
    let mut guest = guest();
    guest.host.now = 1000;
    for (deadline, pending) in [(0, true), (999, true), (1001, false), (1000, true), (u64::MAX, false)] {
        assert_eq!(call(&mut guest, TIME, 0, &[deadline]), (0, 0));
        let sip = guest.csr(CsrAddr::SIP);
        assert_eq!(sip != 0, pending, "{deadline}");
        assert_eq!(guest.vcpu.timer.deadline(), deadline);
    }
    guest.tick(u64::MAX);
    assert_eq!(guest.csr(CsrAddr::SIP), 0, "-1 is never");
    call(&mut guest, TIME, 0, &[u64::MAX - 1]);
    assert_ne!(guest.csr(CsrAddr::SIP), 0, "the last moment but one is past");
}

#[test]
fn a_new_deadline_clears_a_pending_timer_even_when_it_is_masked() {
    let mut guest = guest();
    call(&mut guest, TIME, 0, &[0]);
    guest.set_csr(CsrAddr::SIE, 0);
    call(&mut guest, TIME, 0, &[u64::MAX / 2]);
    assert_eq!(guest.csr(CsrAddr::SIP), 0);
}
