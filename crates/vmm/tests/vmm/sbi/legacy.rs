//! The legacy extensions: one function each, whatever a6 holds, and the result in a0 alone.

use isa::csr::{CsrAddr, sstatus};
use isa::paging::Pte;
use isa::{Exception, Interrupt};
use memory::PAGE_SIZE;
use vmm::StopReason;

use super::{INVALID_PARAM, ecall, guest, guest_with_harts};
use crate::support::paging::{ASID, RWX, Tables, USED, set_word};
use crate::support::{ENTRY, Guest, HOLE, RAM, RAM_END};

const SET_TIMER: u64 = 0;
const PUTCHAR: u64 = 1;
const GETCHAR: u64 = 2;
const CLEAR_IPI: u64 = 3;
const SEND_IPI: u64 = 4;
const FENCE_I: u64 = 5;
const SFENCE: u64 = 6;
const SFENCE_ASID: u64 = 7;
const SHUTDOWN: u64 = 8;

/// Where the hart mask lies.
const MASK: u64 = RAM + 0x3000;

/// A legacy call that returns, and its result.
#[track_caller]
fn call(guest: &mut Guest, eid: u64, args: &[u64]) -> i64 {
    // a1 is the caller's where the call does not take it.
    guest.set_reg(11, 0x1234);
    let pc = guest.pc();
    ecall(guest, eid, 99, args).expect("the call returns");
    assert_eq!(guest.pc(), pc + 4);
    assert_eq!(guest.reg(11), args.get(1).copied().unwrap_or(0x1234), "a1 is preserved");
    guest.reg(10) as i64
}

#[test]
fn set_timer_is_the_time_extensions() {
    let mut guest = guest();
    assert_eq!(call(&mut guest, SET_TIMER, &[0]), 0);
    assert_eq!(guest.csr(CsrAddr::SIP), Interrupt::Timer.mask());
    assert_eq!(call(&mut guest, SET_TIMER, &[u64::MAX]), 0);
    assert_eq!(guest.csr(CsrAddr::SIP), 0);
}

#[test]
fn putchar_writes_a_byte_and_waits_for_room() {
    let mut guest = guest();
    assert_eq!(call(&mut guest, PUTCHAR, &[0x141]), 0);
    guest.host.room = 0;
    let pc = guest.pc();
    ecall(&mut guest, PUTCHAR, 0, &[0x42]).unwrap();
    assert_eq!(guest.pc(), pc, "made again");
    guest.host.room = 1;
    assert_eq!(call(&mut guest, PUTCHAR, &[0x42]), 0);
    assert_eq!(guest.host.output, b"AB");
}

#[test]
fn getchar_gives_a_byte_or_minus_one() {
    let mut guest = guest();
    assert_eq!(call(&mut guest, GETCHAR, &[]), -1);
    guest.host.input.push_back(0xff);
    assert_eq!(call(&mut guest, GETCHAR, &[]), 255);
    assert_eq!(call(&mut guest, GETCHAR, &[]), -1);
}

#[test]
fn clear_ipi_takes_the_interrupt_back_wherever_it_is_and_says_whether_there_was_one() {
    let mut guest = guest();
    assert_eq!(call(&mut guest, CLEAR_IPI, &[]), 0);
    guest.machine.links[0].send_software_interrupt();
    assert!(call(&mut guest, CLEAR_IPI, &[]) > 0);
    guest.vcpu.set_line(Interrupt::Software, true);
    assert!(call(&mut guest, CLEAR_IPI, &[]) > 0);
    guest.prepare();
    assert_eq!(guest.csr(CsrAddr::SIP), 0);
    assert_eq!(call(&mut guest, CLEAR_IPI, &[]), 0);
}

#[test]
fn send_ipi_reads_its_mask_from_memory() {
    let mut guest = guest_with_harts(3);
    set_word(&mut guest, MASK, 0b101);
    assert_eq!(call(&mut guest, SEND_IPI, &[MASK]), 0);
    let reached = |guest: &Guest| [0, 1, 2].map(|hart| guest.machine.links[hart].take_software_interrupt());
    assert_eq!(reached(&guest), [true, false, true]);
    assert_eq!(call(&mut guest, SEND_IPI, &[0]), 0);
    assert_eq!(reached(&guest), [true, true, true], "a null pointer is everybody");
    set_word(&mut guest, MASK, 0b1000);
    assert_eq!(call(&mut guest, SEND_IPI, &[MASK]), INVALID_PARAM);
    assert_eq!(reached(&guest), [false; 3]);
}

#[test]
fn a_mask_need_not_be_aligned() {
    let mut guest = guest();
    set_word(&mut guest, MASK + 5, 1);
    assert_eq!(call(&mut guest, SEND_IPI, &[MASK + 5]), 0);
    assert!(guest.machine.links[0].take_software_interrupt());
}

#[test]
fn a_mask_pointer_that_is_not_ram_faults_like_a_load() {
    for eid in [SEND_IPI, FENCE_I, SFENCE, SFENCE_ASID] {
        for pointer in [HOLE, RAM - 8, u64::MAX] {
            let mut guest = guest();
            ecall(&mut guest, eid, 0, &[pointer, 0, 0, 0]).unwrap();
            guest.assert_took(Exception::LoadAccessFault, ENTRY, pointer);
        }
    }
}

#[test]
fn a_mask_that_runs_out_of_its_page_faults_where_the_next_begins() {
    let mut guest = guest();
    ecall(&mut guest, SEND_IPI, 0, &[RAM_END - 4]).unwrap();
    guest.assert_took(Exception::LoadAccessFault, ENTRY, RAM_END);
    let mut tables = Tables::new();
    tables.map(&mut guest, 0x7000, MASK, RWX);
    tables.enable(&mut guest);
    guest.vcpu.frame.pc = ENTRY;
    ecall(&mut guest, SEND_IPI, 0, &[0x7ffc]).unwrap();
    guest.assert_took(Exception::LoadPageFault, ENTRY, 0x8000);
}

#[test]
fn a_mask_is_read_through_the_callers_tables_with_its_rights() {
    let mut tables = Tables::new();
    let mut guest = guest();
    set_word(&mut guest, MASK, 1);
    tables.map(&mut guest, 0x7000, MASK, USED | Pte::R);
    tables.map(&mut guest, 0x9000, MASK, USED | Pte::R | Pte::U);
    tables.map(&mut guest, 0xa000, HOLE, USED | Pte::R);
    tables.enable(&mut guest);
    assert_eq!(call(&mut guest, SEND_IPI, &[0x7000]), 0);
    assert!(guest.machine.links[0].take_software_interrupt());
    for (pointer, exception) in [
        (0x9000, Exception::LoadPageFault),
        (0xb000, Exception::LoadPageFault),
        (1 << 50, Exception::LoadPageFault),
        (0xa000, Exception::LoadAccessFault),
    ] {
        guest.vcpu.frame.pc = ENTRY;
        ecall(&mut guest, SEND_IPI, 0, &[pointer]).unwrap();
        guest.assert_took(exception, ENTRY, pointer);
        assert!(!guest.machine.links[0].take_software_interrupt());
    }
    guest.set_csr(CsrAddr::SSTATUS, sstatus::SUM);
    assert_eq!(call(&mut guest, SEND_IPI, &[0x9000]), 0);
}

#[test]
fn legacy_fences_fence() {
    for (eid, args, left) in [
        (SFENCE, [0, 0, 0, 0], 0),
        (SFENCE, [0, 0x7000, PAGE_SIZE, 0], 1),
        (SFENCE_ASID, [0, 0, 0, ASID], 0),
        (SFENCE_ASID, [0, 0, 0, ASID & 0xff], 2),
    ] {
        let mut tables = Tables::new();
        let mut guest = guest();
        for page in [0x7000, 0x8000] {
            tables.map(&mut guest, page, MASK, RWX);
        }
        tables.enable(&mut guest);
        tables.earn_trust(&mut guest);
        for page in [0x7000, 0x8000] {
            guest.raise(Exception::LoadPageFault, page);
            tables.unmap(&mut guest, page);
        }
        assert_eq!(call(&mut guest, eid, &args), 0);
        assert_eq!(guest.shadow_leaves(), left, "{eid} {args:x?}");
    }
}

#[test]
fn the_legacy_fence_i_makes_harts_fetch_afresh() {
    let mut guest = guest();
    let writes = guest.machine.ram.writes();
    assert_eq!(call(&mut guest, FENCE_I, &[0]), 0);
    assert!(guest.machine.ram.writes() > writes);
}

#[test]
fn shutdown_powers_off() {
    assert_eq!(ecall(&mut guest(), SHUTDOWN, 0, &[]), Err(StopReason::PowerOff));
}
