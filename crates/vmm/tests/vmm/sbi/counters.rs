//! The PMU extension: which counters there are, what they count, and the order of their states.

use isa::csr::CsrAddr;
use memory::GuestPhysAddr;
use trace::ExitKind;
use vmm::pmu::HartCounters;

use super::*;
use crate::support::{Guest, HOLE, RAM};

const ALREADY_STARTED: i64 = -7;
const ALREADY_STOPPED: i64 = -8;
const NO_SHARED_MEMORY: i64 = -9;

const CYCLES: u64 = 1;
const INSTRUCTIONS: u64 = 2;
const CACHE_MISSES: u64 = 4;
const FIRMWARE: u64 = 15 << 16;
const SET_TIMER: u64 = FIRMWARE | 5;
const IPI_SENT: u64 = FIRMWARE | 6;
const PLATFORM: u64 = FIRMWARE | 0xffff;
const COUNTERS: u64 = 19;
const ALL_COUNTERS: u64 = (1 << COUNTERS) - 1;

const SKIP_MATCH: u64 = 1;
const CLEAR: u64 = 2;
const AUTO_START: u64 = 4;

fn pmu(guest: &mut Guest, fid: u64, args: &[u64]) -> (i64, u64) {
    call(guest, PMU, fid, args)
}

fn configure(guest: &mut Guest, flags: u64, event: u64, data: u64) -> (i64, u64) {
    pmu(guest, 2, &[0, ALL_COUNTERS, flags, event, data])
}

fn start(guest: &mut Guest, counter: u64, value: u64) -> i64 {
    pmu(guest, 3, &[counter, 1, 1, value]).0
}

fn stop(guest: &mut Guest, counter: u64, flags: u64) -> i64 {
    pmu(guest, 4, &[counter, 1, flags]).0
}

/// What `csrr a5, counter` gives.
fn read(guest: &mut Guest, counter: CsrAddr) -> u64 {
    guest.execute(u32::from(counter.as_u16()) << 20 | 2 << 12 | 15 << 7 | 0x73);
    guest.reg(15)
}

/// The guest runs for so many cycles and instructions, and somebody else for many more.
fn run(guest: &mut Guest, cycle: u64, instret: u64) {
    let host = &mut guest.host;
    let now = |host: &crate::support::FakeHost| HartCounters { cycle: host.cycle, instret: host.instret };
    let before = now(host);
    (host.cycle, host.instret) = (host.cycle + cycle, host.instret + instret);
    guest.vcpu.pmu.ran(before, now(host));
    (host.cycle, host.instret) = (host.cycle + 1_000_000, host.instret + 1_000_000);
}

#[test]
fn the_counters_are_numbered_as_opensbi_numbers_them() {
    let mut guest = Guest::new();
    assert_eq!(pmu(&mut guest, 0, &[]), (0, COUNTERS));
    assert_eq!(pmu(&mut guest, 1, &[0]), (0, 63 << 12 | 0xc00));
    assert_eq!(pmu(&mut guest, 1, &[1]), (INVALID_PARAM, 0), "time is no counter");
    assert_eq!(pmu(&mut guest, 1, &[2]), (0, 63 << 12 | 0xc02));
    for counter in 3..COUNTERS {
        assert_eq!(pmu(&mut guest, 1, &[counter]), (0, 1 << 63 | 63 << 12));
    }
    for counter in [COUNTERS, 64, u64::MAX] {
        assert_eq!(pmu(&mut guest, 1, &[counter]), (INVALID_PARAM, 0));
    }
    assert_eq!(pmu(&mut guest, 8, &[]), (NOT_SUPPORTED, 0));
}

#[test]
fn cycles_and_instructions_are_the_guests_own() {
    let mut guest = Guest::new();
    (guest.host.cycle, guest.host.instret) = (5_000, 7_000);
    assert_eq!(read(&mut guest, CsrAddr::CYCLE), 5_000, "not programmed: the hart's");
    assert_eq!(configure(&mut guest, CLEAR, CYCLES, 0), (0, 0));
    assert_eq!(configure(&mut guest, CLEAR | AUTO_START, INSTRUCTIONS, 0), (0, 2));
    run(&mut guest, 300, 100);
    assert_eq!(read(&mut guest, CsrAddr::CYCLE), 0, "not started");
    assert_eq!(start(&mut guest, 0, 40), 0);
    run(&mut guest, 300, 100);
    assert_eq!((read(&mut guest, CsrAddr::CYCLE), read(&mut guest, CsrAddr::INSTRET)), (340, 200));
    assert_eq!(stop(&mut guest, 0, 0), 0);
    run(&mut guest, 300, 100);
    assert_eq!((read(&mut guest, CsrAddr::CYCLE), read(&mut guest, CsrAddr::INSTRET)), (340, 300));
    assert_eq!(pmu(&mut guest, 3, &[0, 1, 0, 99]).0, 0);
    run(&mut guest, 5, 5);
    assert_eq!(read(&mut guest, CsrAddr::CYCLE), 345, "goes on from where it stopped");
    assert_eq!(stop(&mut guest, 0, 1), 0);
    let hart = guest.host.cycle;
    assert_eq!(read(&mut guest, CsrAddr::CYCLE), hart, "the hart's again");
}

#[test]
fn user_mode_reads_a_programmed_counter_by_a_trap() {
    let mut guest = Guest::new();
    let native = |guest: &Guest| guest.vcpu.frame.csr.native_counters();
    guest.set_csr(CsrAddr::SCOUNTEREN, 7);
    assert_eq!(native(&guest), 7);
    configure(&mut guest, 0, INSTRUCTIONS, 0);
    assert_eq!(native(&guest), 3);
    configure(&mut guest, 0, CYCLES, 0);
    assert_eq!(native(&guest), 2);
    stop(&mut guest, 0, 1);
    stop(&mut guest, 2, 1);
    assert_eq!(native(&guest), 7);
}

#[test]
fn firmware_events_are_counted() {
    let mut guest = Guest::new();
    let (error, timers) = configure(&mut guest, AUTO_START, SET_TIMER, 0);
    assert_eq!((error, timers), (0, 3));
    let (_, ipis) = configure(&mut guest, AUTO_START, IPI_SENT, 0);
    let kind = ExitKind::ALL.iter().position(|kind| *kind == ExitKind::Sbi).unwrap() as u64;
    let (_, calls) = configure(&mut guest, AUTO_START, PLATFORM, kind);
    for _ in 0..3 {
        call(&mut guest, TIME, 0, &[u64::MAX]);
    }
    call(&mut guest, IPI, 0, &[1, 0]);
    assert_eq!(pmu(&mut guest, 5, &[timers]), (0, 3));
    assert_eq!(pmu(&mut guest, 6, &[timers]), (0, 0));
    assert_eq!(pmu(&mut guest, 5, &[ipis]), (0, 1));
    let (before, after) = (pmu(&mut guest, 5, &[calls]).1, pmu(&mut guest, 5, &[calls]).1);
    assert_eq!(after, before + 1);
    for counter in [0, 1, 6, COUNTERS, u64::MAX] {
        assert_eq!(pmu(&mut guest, 5, &[counter]), (INVALID_PARAM, 0), "{counter} has no such event");
    }
}

#[test]
fn what_cannot_be_counted_is_refused() {
    let mut guest = Guest::new();
    for event in
        [0, CACHE_MISSES, 1 << 16, 2 << 16, FIRMWARE, FIRMWARE | 14, FIRMWARE | 256, 16 << 16, u64::MAX]
    {
        assert_eq!(configure(&mut guest, 0, event, 0), (NOT_SUPPORTED, 0), "{event:#x}");
    }
    let kinds = ExitKind::ALL.len() as u64;
    for (kind, place) in ExitKind::ALL.iter().zip(0..) {
        let refused = matches!(kind, ExitKind::HostTimer | ExitKind::HostInterrupt);
        assert_eq!(configure(&mut Guest::new(), 0, PLATFORM, place).0 == NOT_SUPPORTED, refused, "{kind:?}");
    }
    assert_eq!(configure(&mut guest, 0, PLATFORM, kinds), (NOT_SUPPORTED, 0));
    assert_eq!(configure(&mut guest, 1 << 8, CYCLES, 0), (INVALID_PARAM, 0));
    assert_eq!(pmu(&mut guest, 2, &[3, 1, 0, CYCLES, 0]), (NOT_SUPPORTED, 0), "no counter for it");
    for (base, mask) in [(COUNTERS, 1), (u64::MAX, 1), (0, 1 << COUNTERS), (COUNTERS - 1, 2), (63, u64::MAX)]
    {
        for function in [2, 3, 4] {
            assert_eq!(pmu(&mut guest, function, &[base, mask, 0, CYCLES, 0]).0, INVALID_PARAM);
        }
    }
    for _ in 0..16 {
        assert_eq!(configure(&mut guest, 0, SET_TIMER, 0).0, 0);
    }
    assert_eq!(configure(&mut guest, 0, SET_TIMER, 0).0, NOT_SUPPORTED, "all are taken");
}

#[test]
fn a_counter_starts_once_and_stops_once() {
    let mut guest = Guest::new();
    assert_eq!(start(&mut guest, 0, 0), INVALID_PARAM, "it has no event");
    assert_eq!(configure(&mut guest, SKIP_MATCH, CYCLES, 0), (INVALID_PARAM, 0));
    configure(&mut guest, 0, CYCLES, 0);
    assert_eq!(stop(&mut guest, 0, 0), ALREADY_STOPPED);
    assert_eq!(start(&mut guest, 0, 0), 0);
    assert_eq!(start(&mut guest, 0, 0), ALREADY_STARTED);
    assert_eq!(configure(&mut guest, SKIP_MATCH, 0, 0), (0, 0));
    // As Linux does at its start: all counters, also the one that is none.
    assert_eq!(pmu(&mut guest, 4, &[0, ALL_COUNTERS, 1]).0, 0);
    assert_eq!(pmu(&mut guest, 4, &[0, ALL_COUNTERS, 1]).0, ALREADY_STOPPED);
    assert_eq!(pmu(&mut guest, 3, &[0, 1, 4, 0]).0, INVALID_PARAM);
    assert_eq!(pmu(&mut guest, 4, &[0, 1, 4, 0]).0, INVALID_PARAM);
}

#[test]
fn a_snapshot_has_the_values_of_what_is_stopped() {
    let mut guest = Guest::new();
    let page = RAM + 0x3000;
    configure(&mut guest, 0, CYCLES, 0);
    configure(&mut guest, AUTO_START, INSTRUCTIONS, 0);
    assert_eq!(pmu(&mut guest, 4, &[0, 1, 2]).0, NO_SHARED_MEMORY);
    assert_eq!(pmu(&mut guest, 3, &[0, 1, 2]).0, NO_SHARED_MEMORY);
    for (args, error) in [
        ([page + 8, 0, 0], INVALID_PARAM),
        ([page, 0, 1], INVALID_PARAM),
        ([page, 1, 0], INVALID_ADDRESS),
        ([HOLE, 0, 0], INVALID_ADDRESS),
        ([u64::MAX - 0xfff, 0, 0], INVALID_ADDRESS),
        ([page, 0, 0], 0),
    ] {
        assert_eq!(pmu(&mut guest, 7, &args).0, error, "{args:x?}");
    }
    let word = |guest: &Guest, n: u64| guest.machine.ram.read_word(GuestPhysAddr(page + 8 * n));
    run(&mut guest, 10, 7);
    assert_eq!(pmu(&mut guest, 4, &[0, 0b101, 2]).0, 0);
    assert_eq!((word(&guest, 0), word(&guest, 1), word(&guest, 3)), (Some(0), Some(0), Some(7)));
    guest.machine.ram.write_word(GuestPhysAddr(page + 8), 1000).unwrap();
    assert_eq!(pmu(&mut guest, 3, &[2, 1, 2, 0]).0, 0, "places are counted from the base");
    run(&mut guest, 1, 1);
    assert_eq!(read(&mut guest, CsrAddr::INSTRET), 1001);
    assert_eq!(pmu(&mut guest, 7, &[u64::MAX, u64::MAX, 0]).0, 0);
    assert_eq!(pmu(&mut guest, 4, &[2, 1, 2]).0, NO_SHARED_MEMORY);
}

#[test]
fn a_reset_takes_all_events_away() {
    let mut guest = Guest::new();
    configure(&mut guest, AUTO_START, CYCLES, 0);
    guest.vcpu.reset();
    assert!(!guest.vcpu.pmu.follows_hart());
    guest.set_csr(CsrAddr::SCOUNTEREN, 7);
    assert_eq!(guest.vcpu.frame.csr.native_counters(), 7);
}
