//! Hart masks, IPIs and remote fences.

use isa::Exception;
use isa::csr::CsrAddr;
use vmm::vm::Next;

use super::{ALL, INVALID_PARAM, IPI, NOT_SUPPORTED, RFENCE, call, guest, guest_with_harts};
use crate::support::Guest;
use crate::support::paging::{ASID, RWX, Tables};
use crate::support::{ENTRY, RAM};

/// Which harts a call with this mask and base selects, of a machine with `harts`; the error where it fails.
fn selected(harts: usize, mask: u64, base: u64) -> Result<Vec<usize>, i64> {
    let mut guest = guest_with_harts(harts);
    let (error, _) = call(&mut guest, IPI, 0, &[mask, base]);
    let links = &guest.machine.links;
    let reached = (0..harts).filter(|hart| links[*hart].take_software_interrupt()).collect::<Vec<_>>();
    if error == 0 {
        return Ok(reached);
    }
    assert!(reached.is_empty(), "a call that fails does nothing");
    Err(error)
}

#[test]
fn a_mask_selects_its_bits_counted_from_the_base() {
    assert_eq!(selected(4, 0b1010, 0), Ok(vec![1, 3]));
    assert_eq!(selected(4, 0b11, 2), Ok(vec![2, 3]));
    assert_eq!(selected(1, 1, 0), Ok(vec![0]));
    assert_eq!(selected(64, 1, 63), Ok(vec![63]));
    assert_eq!(selected(64, u64::MAX, 0).map(|harts| harts.len()), Ok(64));
}

#[test]
fn a_base_of_minus_one_selects_all_harts_whatever_the_mask() {
    for mask in [0, 1, u64::MAX] {
        assert_eq!(selected(3, mask, ALL), Ok(vec![0, 1, 2]));
    }
}

#[test]
fn an_empty_mask_selects_nobody_at_any_base() {
    for base in [0, 1, 63, 64, 1 << 32, u64::MAX - 1] {
        assert_eq!(selected(1, 0, base), Ok(vec![]));
    }
}

#[test]
fn a_hart_that_does_not_exist_is_an_invalid_parameter() {
    let beyond = [
        (0b10, 0),
        (0b11, 0),
        (1 << 63, 0),
        (1, 1),
        (1, 63),
        (0b10, 63),
        (u64::MAX, 1),
        (1, 64),
        (1, 1 << 32),
        (1, u64::MAX - 1),
        (u64::MAX, u64::MAX - 1),
        (1 << 63, u64::MAX - 62),
    ];
    for (mask, base) in beyond {
        assert_eq!(selected(1, mask, base), Err(INVALID_PARAM), "{mask:#x} {base:#x}");
    }
}

#[test]
fn an_ipi_to_oneself_is_pending_when_the_hart_runs_on() {
    let mut guest = guest();
    assert_eq!(call(&mut guest, IPI, 0, &[1, 0]), (0, 0));
    assert!(matches!(guest.prepare(), Next::Run(_)));
    assert_eq!(guest.csr(CsrAddr::SIP), 2);
}

/// A guest with two pages in its shadow that are gone from its tables.
fn guest_with_two_pages() -> Guest {
    let mut tables = Tables::new();
    let mut guest = guest();
    for page in [0x1000, 0x2000] {
        tables.map(&mut guest, page, RAM, RWX);
    }
    tables.enable(&mut guest);
    tables.earn_trust(&mut guest);
    for page in [0x1000, 0x2000] {
        guest.raise(Exception::LoadPageFault, page);
    }
    assert_eq!((guest.shadow_leaves(), guest.pc()), (2, ENTRY));
    for page in [0x1000, 0x2000] {
        tables.unmap(&mut guest, page);
    }
    guest
}

#[test]
fn a_remote_fence_drops_the_pages_of_its_range() {
    for (start, size, left) in [
        (0, 0, 0),
        (0x1000, u64::MAX, 0),
        (0x1000, 0x1000, 1),
        (0x1fff, 1, 1),
        (0x1fff, 2, 0),
        (0x1000, 0x1001, 0),
        (0x3000, 0x1000, 2),
        (0x2fff, 0x1000, 1),
        // Huge ranges, and those that wrap, fence everything.
        (0x4000, 1 << 40, 0),
        (0x4000, u64::MAX - 1, 0),
        (u64::MAX, u64::MAX, 0),
    ] {
        let mut guest = guest_with_two_pages();
        assert_eq!(call(&mut guest, RFENCE, 1, &[1, 0, start, size]), (0, 0));
        assert_eq!(guest.shadow_leaves(), left, "{start:#x} {size:#x}");
    }
}

#[test]
fn a_remote_fence_of_one_address_space_leaves_the_others() {
    // Bits above the sixteenth do not count.
    for (asid, left) in [(ASID, 0), (0xabcd_0000 | ASID, 0), (ASID & 0xff, 2), (0, 2)] {
        let mut guest = guest_with_two_pages();
        assert_eq!(call(&mut guest, RFENCE, 2, &[1, 0, 0, 0, asid]), (0, 0));
        assert_eq!(guest.shadow_leaves(), left, "{asid:#x}");
    }
}

#[test]
fn a_fence_of_other_harts_waits_in_their_letter_boxes_and_spares_ones_own() {
    let mut guest = guest_with_harts(3);
    guest.raise(Exception::LoadPageFault, RAM);
    assert_eq!(call(&mut guest, RFENCE, 1, &[0b110, 0, 0, 0]), (0, 0));
    assert_eq!([0, 1, 2].map(|hart| guest.machine.links[hart].take_fence()), [false, true, true]);
}

#[test]
fn a_remote_fence_i_makes_harts_fetch_afresh() {
    let mut guest = guest();
    let writes = guest.machine.ram.writes();
    assert_eq!(call(&mut guest, RFENCE, 0, &[1, 0]), (0, 0));
    assert!(guest.machine.ram.writes() > writes);
}

#[test]
fn fences_of_harts_that_do_not_exist_fail_and_those_of_the_hypervisor_extension_are_not_there() {
    let mut guest = guest();
    for fid in 0..=2 {
        assert_eq!(call(&mut guest, RFENCE, fid, &[0b10, 0, 0, 0, 0]), (INVALID_PARAM, 0));
    }
    for fid in 3..=6 {
        assert_eq!(call(&mut guest, RFENCE, fid, &[1, 0, 0, 0, 0]), (NOT_SUPPORTED, 0));
    }
}
