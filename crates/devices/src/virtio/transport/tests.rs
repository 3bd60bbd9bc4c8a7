//! The registers, as drivers use and abuse them.

extern crate std;

use std::vec::Vec;

use proptest::prelude::*;

use super::*;
use crate::virtio::Slot;
use crate::virtio::block::{Block, Disk};
use crate::virtio::testing::{
    EVENT_IDX, INDIRECT_DESC, RAM, Ring, VERSION_1, bring_up, negotiate, read, write,
};

const STATUS: u64 = 0x70;
const READY: u64 = 0x44;

fn slot() -> Slot {
    Slot::Block(Block::new(Disk { sectors: 100, ..Disk::default() }))
}

#[test]
fn a_device_identifies_itself_and_offers_both_halves_of_its_features() {
    let mut slot = slot();
    assert_eq!([0, 4, 8, 12].map(|offset| read(&slot, offset)), [0x7472_6976, 2, 2, 0x554d_4551]);
    let half = |slot: &mut Slot, which| {
        let _ = write(slot, 0x14, which);
        read(slot, 0x10)
    };
    assert_eq!(half(&mut slot, 0) >> 28, 3, "indirect descriptors and event index");
    assert_eq!(half(&mut slot, 1), 1, "version 1");
    assert_eq!(half(&mut slot, 2), 0);
}

#[test]
fn features_are_refused_without_version_1_or_with_what_was_not_offered() {
    for features in [0, INDIRECT_DESC, VERSION_1 | 1 << 40, VERSION_1 | 1, VERSION_1 | 1 << 34] {
        let mut slot = slot();
        assert_eq!(negotiate(&mut slot, features), 3, "{features:#x}");
        let _ = write(&mut slot, STATUS, 15);
        assert_eq!(read(&slot, STATUS), 3, "a driver that goes on does not run");
    }
    assert_eq!(negotiate(&mut slot(), VERSION_1 | EVENT_IDX), 11);
}

#[test]
fn features_are_frozen_once_they_are_accepted() {
    let mut slot = slot();
    negotiate(&mut slot, VERSION_1);
    let _ = write(&mut slot, 0x24, 0);
    let _ = write(&mut slot, 0x20, EVENT_IDX as u32);
    let Slot::Block(block) = &slot else { panic!("a disk") };
    assert!(!crate::virtio::slot::Device::transport(block).has(EVENT_IDX));
}

#[test]
fn status_bits_are_cleared_by_a_reset_alone() {
    let mut slot = slot();
    bring_up(&mut slot, VERSION_1, 1, 8);
    let _ = write(&mut slot, STATUS, 1);
    assert_eq!(read(&slot, STATUS), 15);
    let _ = write(&mut slot, STATUS, 0xffff_ff40);
    assert_eq!(read(&slot, STATUS), 15, "these are not the driver's");
    let _ = write(&mut slot, STATUS, 0x80);
    assert_eq!(read(&slot, STATUS), 0x8f);
    assert_eq!(write(&mut slot, 0x50, 0), Effect::Nothing, "it has failed");
    assert_eq!(write(&mut slot, STATUS, 0), Effect::Reset);
    assert_eq!((read(&slot, STATUS), read(&slot, READY)), (0, 0));
}

#[test]
fn a_queue_is_frozen_while_it_is_ready() {
    let mut slot = slot();
    negotiate(&mut slot, VERSION_1);
    let ring = Ring::new(0, 8);
    ring.enable(&mut slot, 0);
    let before = queue(&slot).clone();
    Ring::new(5, 64).place(&mut slot, 0);
    let after = queue(&slot);
    assert_eq!(
        (before.size, before.descriptors, before.driver_area, before.device_area),
        (after.size, after.descriptors, after.driver_area, after.device_area)
    );
    let _ = write(&mut slot, READY, 0);
    assert_eq!(read(&slot, READY), 0);
    let _ = write(&mut slot, 0x38, 64);
    assert_eq!(queue(&slot).size, 64);
}

fn queue(slot: &Slot) -> &Queue {
    let Slot::Block(block) = slot else { panic!("a disk") };
    &crate::virtio::slot::Device::transport(block).queues[0]
}

#[test]
fn a_queue_of_a_wrong_size_or_alignment_does_not_become_ready() {
    for size in [0, 3, 127, 129, 256, 0x1_0000, 0x8000_0000, u32::MAX] {
        let mut slot = slot();
        negotiate(&mut slot, VERSION_1);
        Ring::new(0, 8).place(&mut slot, 0);
        let _ = write(&mut slot, 0x38, size);
        let _ = write(&mut slot, READY, 1);
        assert_eq!(read(&slot, READY), 0, "{size}");
    }
    for (register, misaligned) in [(0x80, 8), (0x90, 1), (0xa0, 2)] {
        let mut slot = slot();
        negotiate(&mut slot, VERSION_1);
        Ring::new(0, 8).place(&mut slot, 0);
        let _ = write(&mut slot, register, RAM as u32 + misaligned);
        let _ = write(&mut slot, READY, 1);
        assert_eq!(read(&slot, READY), 0, "{register:#x}");
    }
}

#[test]
fn a_queue_that_does_not_exist_has_no_size_and_takes_nothing() {
    let mut slot = slot();
    negotiate(&mut slot, VERSION_1);
    for index in [1, 2, 0x1_0000, u32::MAX] {
        Ring::new(0, 8).enable(&mut slot, index);
        assert_eq!((read(&slot, 0x34), read(&slot, READY)), (0, 0));
        assert_eq!(write(&mut slot, 0x50, index), Effect::Nothing);
    }
    let _ = write(&mut slot, 0x30, 0);
    assert_eq!(read(&slot, 0x34), 128);
}

#[test]
fn kicks_count_while_the_driver_runs_and_its_start_is_one() {
    let mut slot = slot();
    assert_eq!(write(&mut slot, 0x50, 0), Effect::Nothing);
    negotiate(&mut slot, VERSION_1);
    assert_eq!(write(&mut slot, 0x50, 0), Effect::Nothing);
    assert_eq!(write(&mut slot, STATUS, 15), Effect::Notified);
    assert_eq!(write(&mut slot, 0x50, 0), Effect::Notified);
    assert_eq!(write(&mut slot, STATUS, 15), Effect::Nothing);
}

#[test]
fn registers_have_32_bits_and_the_configuration_bytes() {
    let slot = slot();
    for width in [Width::Byte, Width::Half] {
        assert_eq!(slot.read(0, width), Ok(0));
        assert_eq!(slot.read(8, width), Ok(0));
    }
    assert_eq!(slot.read(0, Width::Double), Ok(2 << 32 | 0x7472_6976));
    assert_eq!(slot.read(0x100, Width::Byte), Ok(100));
    assert_eq!(slot.read(0x10d, Width::Byte), Ok(0));
    assert_eq!(slot.read(0x114, Width::Half), Ok(512));
    assert_eq!(slot.read(0x115, Width::Byte), Ok(2));
    assert_eq!(slot.read(0x110, Width::Double), Ok(512 << 32));
    for (width, ones) in [(Width::Byte, 0xff), (Width::Half, 0xffff), (Width::Word, 0xffff_ffff)] {
        assert_eq!(slot.read(0x1f8, width), Ok(ones));
    }
    assert_eq!(
        (slot.read(0xb0, Width::Word), slot.read(0xb8, Width::Word)),
        (Ok(0xffff_ffff), Ok(0xffff_ffff))
    );
}

proptest! {
    #[test]
    fn any_accesses_leave_a_device_that_a_reset_brings_back(
        steps in prop::collection::vec((0..0x200u64, 0..4u8, prop::option::of(prop_oneof![0..16u64, any::<u64>()])), 0..200),
    ) {
        let fresh = registers(&slot());
        let mut slot = slot();
        for (offset, width, value) in steps {
            let width = [Width::Byte, Width::Half, Width::Word, Width::Double][usize::from(width)];
            match value {
                Some(value) => prop_assert!(slot.write(offset, width, value).is_ok()),
                None => {
                    let read = slot.read(offset, width).unwrap();
                    prop_assert!(u128::from(read) < 1 << (8 * width.bytes()));
                }
            }
            let status = read(&slot, STATUS);
            prop_assert!(status & 4 == 0 || status & 8 != 0, "runs without features");
        }
        prop_assert_eq!(write(&mut slot, STATUS, 0), Effect::Reset);
        prop_assert_eq!(registers(&slot), fresh);
    }
}

fn registers(slot: &Slot) -> Vec<u32> {
    (0..0x80).map(|word| read(slot, 4 * word)).collect()
}
