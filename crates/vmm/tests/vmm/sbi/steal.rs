//! Steal-time accounting.

use memory::GuestPhysAddr;
use vmm::sbi::sta;

use super::{HSM, INVALID_ADDRESS, INVALID_PARAM, NOT_SUPPORTED, STA, call, ecall, guest};
use crate::support::{Guest, HOLE, RAM, RAM_END};

const AREA: u64 = RAM + 0x4_0000;
const NEVER: u64 = u64::MAX;

fn words(guest: &Guest) -> [u64; 8] {
    guest.machine.ram.read_words(GuestPhysAddr(AREA)).expect("RAM")
}

fn report(guest: &mut Guest, waited: u64) {
    sta::report(&guest.machine, &mut guest.vcpu, waited);
}

/// Nanoseconds of a tick on the machine of the tests.
fn tick(guest: &Guest) -> u64 {
    guest.machine.nanoseconds(1)
}

#[test]
fn the_time_stolen_since_the_call_is_written_under_an_even_sequence() {
    let mut guest = guest();
    report(&mut guest, 100);
    guest.machine.ram.write(GuestPhysAddr(AREA), &[0xaa; 128]).unwrap();
    assert_eq!(call(&mut guest, STA, 0, &[AREA, 0, 0]), (0, 0));
    assert_eq!(words(&guest), [0; 8], "all 64 bytes are zeroed");
    assert_eq!(guest.machine.ram.read_word(GuestPhysAddr(AREA + 64)), Some(0xaaaa_aaaa_aaaa_aaaa));
    report(&mut guest, 107);
    assert_eq!(words(&guest), [2, 7 * tick(&guest), 0, 0, 0, 0, 0, 0]);
    report(&mut guest, 107);
    assert_eq!(words(&guest)[0], 2, "nothing new");
    report(&mut guest, 1100);
    assert_eq!(words(&guest)[..2], [4, 1000 * tick(&guest)]);
}

#[test]
fn it_stops_when_asked_to_when_the_hart_stops_and_at_a_reset() {
    let stops: [fn(&mut Guest); 3] = [
        |guest| assert_eq!(call(guest, STA, 0, &[NEVER, NEVER, 0]), (0, 0)),
        |guest| assert!(ecall(guest, HSM, 1, &[]).is_err(), "no hart is left"),
        |guest| guest.vcpu.reset(),
    ];
    for stop in stops {
        let mut guest = guest();
        assert_eq!(call(&mut guest, STA, 0, &[AREA, 0, 0]), (0, 0));
        report(&mut guest, 5);
        let before = words(&guest);
        stop(&mut guest);
        report(&mut guest, 500);
        assert_eq!(words(&guest), before);
    }
}

#[test]
fn wrong_arguments_are_refused_and_change_nothing() {
    let mut guest = guest();
    assert_eq!(call(&mut guest, STA, 0, &[AREA, 0, 0]), (0, 0));
    for (arguments, error) in [
        ([AREA + 64, 0, 1], INVALID_PARAM),
        ([NEVER, NEVER, 1], INVALID_PARAM),
        ([AREA + 8, 0, 0], INVALID_PARAM),
        ([AREA + 32, 0, 0], INVALID_PARAM),
        ([AREA, 1, 0], INVALID_ADDRESS),
        ([HOLE & !63, 0, 0], INVALID_ADDRESS),
        ([RAM_END, 0, 0], INVALID_ADDRESS),
        ([RAM - 64, 0, 0], INVALID_ADDRESS),
        ([u64::MAX - 63, 0, 0], INVALID_ADDRESS),
        ([u64::MAX - 63, NEVER, 0], INVALID_ADDRESS),
    ] {
        assert_eq!(call(&mut guest, STA, 0, &arguments), (error, 0), "{arguments:x?}");
    }
    assert_eq!(call(&mut guest, STA, 1, &[]), (NOT_SUPPORTED, 0));
    report(&mut guest, 3);
    assert_eq!(words(&guest)[..2], [2, 3 * tick(&guest)], "it goes on where it was");
    assert_eq!(call(&mut guest, STA, 0, &[RAM_END - 64, 0, 0]), (0, 0), "the last 64 bytes will do");
}
