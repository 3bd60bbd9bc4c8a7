//! What a manifest may not say of a guest, rule by rule.

use super::*;
use crate::format::tests::{PAYLOAD, linux_like};
use crate::{InitrdRange, Segment};
use alloc::string::ToString;
use alloc::{format, vec};

fn error_after(change: impl FnOnce(&mut VmConfig)) -> VmError {
    let mut manifest = linux_like();
    change(&mut manifest.vms[0]);
    match manifest.check(PAYLOAD) {
        Err(ManifestError::Vm { error, .. }) => error,
        other => panic!("expected an error in the guest, got {other:?}"),
    }
}

#[test]
fn a_good_manifest_passes() {
    assert_eq!(linux_like().check(PAYLOAD), Ok(()));
}

#[test]
fn memory_is_whole_blocks_up_to_a_terabyte() {
    for bytes in [0, 1, BLOCK_SIZE - 1, BLOCK_SIZE + 4096, MAX_MEMORY + BLOCK_SIZE, u64::MAX] {
        assert_eq!(error_after(|vm| vm.memory = bytes), VmError::Memory(bytes));
    }
}

#[test]
fn sizes_in_messages_have_units() {
    let message = |memory| error_after(|vm| vm.memory = memory).to_string();
    assert!(message(2 << 40).starts_with("memory of 2 TiB is not possible"), "{}", message(2 << 40));
    assert!(message(0).starts_with("memory of 0 bytes "));
    assert_eq!(Bytes(1536 << 20).to_string(), "1536 MiB");
    assert_eq!(Bytes(4097).to_string(), "4097 bytes");
}

#[test]
fn weights_and_caps_have_limits() {
    for weight in [0, 10_001, u32::MAX] {
        assert_eq!(error_after(|vm| vm.weight = weight), VmError::Weight(weight));
    }
    for cap in [0, 101, u32::MAX] {
        assert_eq!(error_after(|vm| vm.cap = Some(cap)), VmError::Cap(cap));
    }
    let delay = crate::MAX_RESTART_DELAY + 1;
    assert_eq!(error_after(|vm| vm.max_restart_delay = delay), VmError::RestartDelay(delay));
}

#[test]
fn there_are_at_most_thirty_two_guests() {
    let mut many = linux_like();
    let guest = |n| VmConfig { name: format!("g{n}"), disks: vec![], nets: vec![], ..many.vms[0].clone() };
    many.vms = (0..32).map(guest).collect();
    assert_eq!(many.check(PAYLOAD), Ok(()));
    many.vms.push(many.vms[0].clone());
    assert_eq!(many.check(PAYLOAD), Err(ManifestError::TooManyVms(33)));
}

#[test]
fn vcpus_are_one_to_eight() {
    assert_eq!(error_after(|vm| vm.vcpus = 0), VmError::Vcpus(0));
    assert_eq!(error_after(|vm| vm.vcpus = 9), VmError::Vcpus(9));
}

#[test]
fn the_entry_is_even_and_in_ram() {
    for address in [0, RAM_BASE - 2, RAM_BASE + 1, RAM_BASE + (512 << 20)] {
        assert!(
            matches!(error_after(|vm| vm.entry = address), VmError::Entry { entry, .. } if entry == address)
        );
    }
}

#[test]
fn names_are_short_printable_and_unique() {
    for name in ["", "a b", "new\nline", &"x".repeat(33)] {
        assert_eq!(error_after(|vm| vm.name = name.into()), VmError::Name);
    }
    let mut twins = linux_like();
    twins.vms.push(twins.vms[0].clone());
    assert_eq!(twins.check(PAYLOAD), Err(ManifestError::DuplicateName("linux".into())));
}

#[test]
fn segments_stay_in_ram_and_payload() {
    let ram_end = RAM_BASE + (512 << 20);
    let at = |address, offset, len| Segment { address, offset, len };
    let wrong = |segment| error_after(|vm| vm.segments[0] = segment);
    assert!(matches!(wrong(at(RAM_BASE - 8, 0, 8)), VmError::OutsideRam { .. }));
    assert!(matches!(wrong(at(ram_end - 8, 0, 16)), VmError::OutsideRam { .. }));
    assert!(matches!(wrong(at(u64::MAX - 7, 0, u64::MAX)), VmError::OutsideRam { .. }));
    assert!(matches!(wrong(at(RAM_BASE, PAYLOAD, 8)), VmError::OutsidePayload(_)));
    assert!(matches!(wrong(at(RAM_BASE, !7, 16)), VmError::OutsidePayload(_)));
    assert!(matches!(wrong(at(RAM_BASE + 4, 0, 8)), VmError::SegmentShape(_)));
    assert!(matches!(wrong(at(RAM_BASE, 4, 8)), VmError::SegmentShape(_)));
    assert!(matches!(wrong(at(RAM_BASE, 0, 0)), VmError::SegmentShape(_)));
}

#[test]
fn nothing_is_loaded_over_anything_else() {
    let over_first = error_after(|vm| vm.segments[1].address = vm.segments[0].address + 8);
    assert!(matches!(over_first, VmError::Overlap { .. }));
    let over_tree = error_after(|vm| vm.segments[0].address = vm.device_tree + DEVICE_TREE_SLOT - 4096);
    assert!(matches!(over_tree, VmError::Overlap { .. }));
}

#[test]
fn a_segment_that_ends_in_a_part_word_occupies_the_whole_word() {
    let error = error_after(|vm| {
        vm.initrd = None;
        vm.segments[0].len = 9;
        vm.segments[1].address = vm.segments[0].address + 8;
    });
    assert!(matches!(error, VmError::Overlap { .. }));
}

#[test]
fn the_ram_disk_is_a_segment() {
    let elsewhere = InitrdRange { address: RAM_BASE, len: 8 };
    assert_eq!(error_after(|vm| vm.initrd = Some(elsewhere)), VmError::Initrd(RAM_BASE));
}

#[test]
fn the_device_tree_slot_is_in_ram() {
    for address in [0, 4, RAM_BASE + (511 << 20), u64::MAX, !7] {
        assert_eq!(error_after(|vm| vm.device_tree = address), VmError::DeviceTree(address));
    }
}

#[test]
fn the_window_is_a_canonical_gigabyte() {
    let with = |window| {
        let mut manifest = linux_like();
        manifest.host.window = Some(window);
        manifest.check(PAYLOAD)
    };
    for good in [0, 1 << 30, 0x3f_c000_0000, 0xffff_ffc0_0000_0000, 0xffff_ffff_c000_0000] {
        assert_eq!(with(good), Ok(()));
    }
    for bad in [4096, 0x40_0000_0000, 0xffff_ff80_0000_0000] {
        assert_eq!(with(bad), Err(ManifestError::Window(bad)));
    }
}
