//! System reset.

use vmm::StopReason;

use super::{INVALID_PARAM, SRST, call, ecall, guest};

#[test]
fn each_reset_type_ends_this_machine_its_own_way() {
    for (kind, expected) in [(0, StopReason::PowerOff), (1, StopReason::Reset), (2, StopReason::Reset)] {
        for reason in [0, 1] {
            assert_eq!(ecall(&mut guest(), SRST, 0, &[kind, reason]), Err(expected));
        }
    }
}

#[test]
fn reset_type_and_reason_are_32_bits_wide() {
    let high = 0xdead_beef << 32;
    assert_eq!(ecall(&mut guest(), SRST, 0, &[high, high]), Err(StopReason::PowerOff));
}

#[test]
fn reserved_types_and_reasons_are_invalid_parameters() {
    for kind in [3, 0xefff_ffff, 0xf000_0000, 0xffff_ffff] {
        assert_eq!(call(&mut guest(), SRST, 0, &[kind, 0]), (INVALID_PARAM, 0), "type {kind:#x}");
    }
    for reason in [2, 0xdfff_ffff, 0xe000_0000, 0xf000_0000, 0xffff_ffff] {
        assert_eq!(call(&mut guest(), SRST, 0, &[0, reason]), (INVALID_PARAM, 0), "reason {reason:#x}");
    }
}
