//! The registers, as drivers use and abuse them.

extern crate std;

use std::vec;
use std::vec::Vec;

use isa::Width;
use proptest::prelude::*;

use super::*;
use crate::virtio::Slot;
use crate::virtio::block::{Block, Disk};
use crate::virtio::testing::{
    EVENT_IDX, INDIRECT_DESC, RAM, Ring, VERSION_1, bring_up, bring_up_legacy, negotiate, ram, read, write,
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
    assert_eq!(half(&mut slot, 2), 1, "any other number than 0 is 1, as on QEMU");
}

fn transport(slot: &Slot) -> &Transport {
    let Slot::Block(block) = slot else { panic!("a disk") };
    crate::virtio::device::Device::transport(block)
}

#[test]
fn what_was_not_offered_is_left_out_and_version_1_need_not_be_agreed_upon() {
    for features in [0, INDIRECT_DESC, VERSION_1 | 1 << 40, VERSION_1 | 1, VERSION_1 | EVENT_IDX, u64::MAX] {
        let mut slot = slot();
        assert_eq!(negotiate(&mut slot, features), 11, "{features:#x}");
        let agreed = transport(&slot).agreed;
        assert_eq!(agreed, features & transport(&slot).offered());
        assert_eq!(agreed & VERSION_1, features & VERSION_1);
    }
}

#[test]
fn features_are_agreed_upon_by_features_ok_and_stay_until_it_is_set_anew() {
    let mut slot = slot();
    let _ = write(&mut slot, 0x20, EVENT_IDX as u32);
    assert!(!transport(&slot).has(EVENT_IDX));
    let _ = write(&mut slot, STATUS, 11);
    assert!(transport(&slot).has(EVENT_IDX));
    let _ = write(&mut slot, 0x20, INDIRECT_DESC as u32);
    let _ = write(&mut slot, STATUS, 15);
    assert_eq!(transport(&slot).agreed, EVENT_IDX);
    let _ = write(&mut slot, STATUS, 3);
    let _ = write(&mut slot, STATUS, 11);
    assert_eq!(transport(&slot).agreed, INDIRECT_DESC);
    let _ = write(&mut slot, STATUS, 0);
    assert_eq!(transport(&slot).agreed, 0);
}

#[test]
fn the_status_is_what_the_driver_writes() {
    let mut slot = slot();
    bring_up(&mut slot, VERSION_1, 1, 8);
    for (written, status) in [(1, 1), (0xffff_ff4f, 0x4f), (4, 4)] {
        let _ = write(&mut slot, STATUS, written);
        assert_eq!(read(&slot, STATUS), status);
    }
    assert_eq!(write(&mut slot, 0x50, 0), Effect::Notified, "nobody has reset it");
    let _ = write(&mut slot, STATUS, 0x8f);
    assert_eq!(read(&slot, STATUS), 0x8f);
    assert_eq!(write(&mut slot, 0x50, 0), Effect::Nothing, "the driver has given it up");
    assert_eq!(write(&mut slot, STATUS, 0), Effect::Reset);
    assert_eq!((read(&slot, STATUS), read(&slot, READY)), (0, 0));
}

#[test]
fn a_broken_device_stays_so_until_a_reset_whatever_its_status_says() {
    for (features, status, interrupt) in [(VERSION_1, 0x4f, 3), (0, 15, 0)] {
        let mut slot = slot();
        bring_up(&mut slot, features, 1, 8);
        let Slot::Block(block) = &mut slot else { panic!("a disk") };
        crate::virtio::device::Device::transport_mut(block).fail();
        assert_eq!((read(&slot, STATUS), read(&slot, 0x60)), (status, interrupt));
        let _ = write(&mut slot, STATUS, 15);
        assert_eq!((read(&slot, STATUS), slot.is_broken()), (15, true));
        assert_eq!(write(&mut slot, 0x50, 0), Effect::Nothing);
        let _ = write(&mut slot, STATUS, 0);
        assert!(!slot.is_broken());
    }
}

#[test]
fn addresses_count_when_the_queue_becomes_ready_and_its_size_at_once() {
    let mut slot = slot();
    negotiate(&mut slot, VERSION_1);
    let ring = Ring::new(0, 8);
    ring.enable(&mut slot, 0);
    let before = queue(&slot).clone();
    Ring::new(5, 64).place(&mut slot, 0);
    assert_eq!((queue(&slot).parts, queue(&slot).size), (before.parts, 64));
    let _ = write(&mut slot, READY, 0);
    assert_eq!((read(&slot, READY), queue(&slot).is_live()), (0, false));
    let _ = write(&mut slot, READY, 1);
    assert_eq!(queue(&slot).parts, queue(&slot).written);
    assert_ne!(queue(&slot).parts, before.parts);
}

fn queue(slot: &Slot) -> &Queue {
    &transport(slot).queues[0]
}

#[test]
fn a_queue_is_as_long_as_the_driver_says_if_any_queue_is() {
    for (written, size) in [
        (0, 256),
        (1, 1),
        (3, 3),
        (127, 127),
        (256, 256),
        (1024, 1024),
        (1025, 256),
        (0x1_0001, 256),
        (u32::MAX, 256),
    ] {
        let mut slot = slot();
        negotiate(&mut slot, VERSION_1);
        let ring = Ring::new(0, 8);
        for (offset, value) in [(0x38, written), (0x80, ring.at as u32), (READY, 1)] {
            let _ = write(&mut slot, offset, value);
        }
        assert_eq!((queue(&slot).size, read(&slot, READY)), (size, 1), "{written}");
    }
}

#[test]
fn a_queue_is_not_used_before_the_driver_has_said_where_it_is() {
    let mut slot = slot();
    negotiate(&mut slot, VERSION_1);
    let _ = write(&mut slot, READY, 1);
    assert_eq!((read(&slot, READY), write(&mut slot, 0x50, 0)), (1, Effect::Nothing));
    Ring::new(0, 8).place(&mut slot, 0);
    assert_eq!(write(&mut slot, 0x50, 0), Effect::Nothing);
    let _ = write(&mut slot, READY, 1);
    assert_eq!(write(&mut slot, 0x50, 0), Effect::Notified);
}

#[test]
fn a_queue_that_does_not_exist_has_no_size_and_takes_nothing() {
    let mut slot = slot();
    negotiate(&mut slot, VERSION_1);
    for index in [1, 2, 1023] {
        Ring::new(0, 8).enable(&mut slot, index);
        assert_eq!((read(&slot, 0x34), read(&slot, READY)), (0, 0));
        assert_eq!(write(&mut slot, 0x50, index), Effect::Nothing);
    }
    for index in [1024, u32::MAX] {
        let _ = write(&mut slot, 0x30, index);
        assert_eq!(read(&slot, 0x34), 0, "still the one that was selected before");
    }
    let _ = write(&mut slot, 0x30, 0);
    assert_eq!(read(&slot, 0x34), 1024);
}

#[test]
fn a_disk_is_kicked_from_when_it_has_a_queue_and_its_start_is_no_kick() {
    let mut slot = slot();
    assert_eq!(write(&mut slot, 0x50, 0), Effect::Nothing);
    negotiate(&mut slot, VERSION_1);
    assert_eq!(write(&mut slot, 0x50, 0), Effect::Nothing);
    Ring::new(0, 8).enable(&mut slot, 0);
    assert_eq!(write(&mut slot, 0x50, 0), Effect::Notified);
    assert_eq!(write(&mut slot, STATUS, 15), Effect::Nothing);
    assert_eq!(write(&mut slot, 0x50, 0), Effect::Notified);
    let _ = write(&mut slot, STATUS, 0);
    assert_eq!(write(&mut slot, 0x50, 0), Effect::Nothing);
}

#[test]
fn a_source_of_randomness_looks_at_its_queue_at_the_start() {
    let mut slot = Slot::Entropy(crate::virtio::entropy::Entropy::new());
    negotiate(&mut slot, VERSION_1);
    assert_eq!(write(&mut slot, STATUS, 15), Effect::Notified);
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
    assert_eq!((slot.read(0xb0, Width::Word), slot.read(0xb8, Width::Word)), (Ok(0xffff_ffff), Ok(0)));
}

#[test]
fn a_legacy_transport_has_the_legacy_registers_and_no_others() {
    let mut slot = slot();
    let rings = bring_up_legacy(&mut slot, EVENT_IDX as u32, 1, 16);
    assert_eq!((read(&slot, 4), read(&slot, STATUS)), (1, 7));
    assert!(transport(&slot).has(EVENT_IDX) && !transport(&slot).has(VERSION_1));
    assert_eq!(queue(&slot).parts.driver_area.0, rings[0].available);
    assert_eq!(queue(&slot).parts.device_area.0, rings[0].used);
    let before = queue(&slot).clone();
    for offset in [READY, 0x80, 0x84, 0x90, 0x94, 0xa0, 0xa4] {
        let _ = write(&mut slot, offset, 0xffff);
        assert_eq!((read(&slot, offset), queue(&slot).parts), (0, before.parts));
    }
    let _ = write(&mut slot, 0x14, 1);
    assert_eq!(read(&slot, 0x10), 0, "features have 32 bits");
    let _ = write(&mut slot, 0x24, 1);
    let _ = write(&mut slot, 0x20, 0);
    assert!(transport(&slot).has(EVENT_IDX));
    assert_eq!(write(&mut slot, 0x50, 0), Effect::Notified);
    // And a modern one has none of them.
    let mut slot = self::slot();
    for offset in [0x28, 0x3c, 0x40] {
        let _ = write(&mut slot, offset, 0x8_0000);
        assert_eq!((read(&slot, offset), queue(&slot).is_live()), (0, false));
    }
}

#[test]
fn a_legacy_queue_is_put_down_by_its_page_and_taken_away_by_page_0() {
    let mut slot = slot();
    bring_up_legacy(&mut slot, 0, 1, 16);
    assert_eq!(write(&mut slot, 0x40, 0), Effect::Reset);
    assert_eq!((read(&slot, 0x40), read(&slot, STATUS), write(&mut slot, 0x50, 0)), (0, 0, Effect::Nothing));
    // The size is as at first; page size and alignment stay, as on QEMU.
    let _ = write(&mut slot, 0x40, 0x8_0000);
    let Queue { size, parts, .. } = *queue(&slot);
    assert_eq!((size, parts.descriptors.0, parts.device_area.0), (256, RAM, RAM + 256 * 16 + 768));
}

#[test]
fn any_page_size_and_alignment_gives_a_place_that_is_ram_or_breaks_the_device() {
    let sizes = [0, 1, 2, 3, 4096, 6144, 1 << 31, u32::MAX];
    let pages = [1, 0x8_0000, RAM as u32, u32::MAX];
    let memory = ram();
    for (page_size, page, align, size) in sizes.into_iter().flat_map(|page_size| {
        let all = pages.into_iter().flat_map(move |page| sizes.map(|align| (page_size, page, align)));
        all.flat_map(|(page_size, page, align)| {
            [0, 1, 7, 1024, u32::MAX].map(|size| (page_size, page, align, size))
        })
    }) {
        let mut slot = slot();
        slot.set_version(Version::Legacy);
        for (offset, value) in [(0x28, page_size), (0x38, size), (0x3c, align), (0x40, page), (STATUS, 7)] {
            let _ = write(&mut slot, offset, value);
        }
        let shift = if page_size == 0 { 0 } else { page_size.trailing_zeros() };
        let Queue { parts, size, .. } = *queue(&slot);
        assert_eq!(parts.descriptors.0, u64::from(page) << shift);
        assert_eq!(parts.driver_area.0, parts.descriptors.0 + 16 * u64::from(size));
        let end = parts.driver_area.0 + 4 + 2 * u64::from(size);
        let align = if align == 0 { 4096 } else { u64::from(align) };
        assert!(
            parts.device_area.0 >= end
                && parts.device_area.0 - end < align
                && parts.device_area.0 % align == 0
        );
        let fits = memory.contains(parts.descriptors, 16 * u64::from(size))
            && memory.contains(parts.device_area, 4 + 8 * u64::from(size));
        let Slot::Block(block) = &mut slot else { panic!("a disk") };
        let _ = block.has_requests(&memory);
        assert!(fits || slot.is_broken());
    }
}

proptest! {
    #[test]
    fn any_accesses_leave_a_device_that_a_reset_brings_back(
        version in prop::sample::select(vec![Version::Legacy, Version::Modern]),
        steps in prop::collection::vec((0..0x200u64, 0..4u8, prop::option::of(prop_oneof![0..16u64, any::<u64>()])), 0..200),
    ) {
        let mut slot = slot();
        slot.set_version(version);
        let fresh = registers(&slot);
        for (offset, width, value) in steps {
            let width = [Width::Byte, Width::Half, Width::Word, Width::Double][usize::from(width)];
            match value {
                Some(value) => prop_assert!(slot.write(offset, width, value).is_ok()),
                None => {
                    let read = slot.read(offset, width).unwrap();
                    prop_assert!(u128::from(read) < 1 << (8 * width.bytes()));
                }
            }
        }
        // Selectors and the page size are not for a reset to forget.
        prop_assert_eq!(write(&mut slot, STATUS, 0), Effect::Reset);
        let _ = write(&mut slot, 0x14, 0);
        prop_assert_eq!(registers(&slot), fresh);
    }
}

fn registers(slot: &Slot) -> Vec<u32> {
    (0..0x80).map(|word| read(slot, 4 * word)).collect()
}
