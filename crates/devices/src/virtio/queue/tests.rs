//! Rings as drivers keep them, and as they should not.

extern crate std;

use std::vec::Vec;

use memory::BLOCK_SIZE;
use proptest::prelude::*;

use super::*;
use crate::virtio::testing::{DATA, RAM, Ring, WRITE, get, put, ram};

const END: u64 = RAM + 2 * BLOCK_SIZE;
const PLAIN: Rules = Rules { event_index: false };
const EVENTS: Rules = Rules { event_index: true };

/// A queue whose rings are those of `ring`.
fn queue(ring: &Ring) -> Queue {
    let mut queue = Queue::new(MAX_SIZE);
    queue.set_size(ring.size.into());
    queue.written = Parts {
        descriptors: GuestPhysAddr(ring.at),
        driver_area: GuestPhysAddr(ring.available),
        device_area: GuestPhysAddr(ring.used),
    };
    queue.enable();
    queue
}

/// Takes a chain and gives it back; whether there was one, and whether the driver wants an interrupt.
fn turn(queue: &mut Queue, ram: &GuestRam, rules: Rules) -> Option<bool> {
    let mut chain = Chain::new(64);
    if !queue.pop(ram, rules, &mut chain).unwrap() {
        return None;
    }
    queue.fill_used(ram, 0, chain.head, 7).unwrap();
    Some(queue.publish(ram, rules, 1).unwrap())
}

#[test]
fn chains_come_in_the_order_of_the_ring_over_its_end_and_that_of_its_index() {
    runs_around(&ram(), Ring::new(0, 4), 0x2_0005);
    runs_around(&ram(), Ring::new(0, 1024), 3000);
    runs_around(&ram(), Ring::legacy(RAM + 0x1000, 1024, 4096), 3000);
    // What is misaligned works as well, and a size that is no power of two as long as the index does not begin anew.
    runs_around(&ram(), Ring::at(RAM + 3, 4), 300);
    runs_around(&ram(), Ring::new(0, 10), 300);
}

/// Offers `count` chains one after the other, which all come back.
fn runs_around(ram: &GuestRam, mut ring: Ring, count: u32) {
    let mut queue = queue(&ring);
    for n in 0..4 {
        ring.descriptor(ram, n, (DATA, 1), WRITE, 0);
    }
    for n in 0..count {
        let head = (n * 3 % 4) as u16;
        ring.offer(ram, head);
        assert_eq!(turn(&mut queue, ram, PLAIN), Some(true));
        assert_eq!(ring.used(ram), Some((head.into(), 7)));
        if n % 0x1000 == 0 {
            assert_eq!(turn(&mut queue, ram, PLAIN), None);
        }
    }
}

#[test]
fn an_index_further_ahead_than_the_queue_is_long_breaks_it() {
    for (index, verdict) in [(4u16, Ok(true)), (5, Err(Broken)), (0xffff, Err(Broken)), (0x8000, Err(Broken))]
    {
        let ram = ram();
        let ring = Ring::new(0, 4);
        ring.descriptor(&ram, 0, (DATA, 1), WRITE, 0);
        put(&ram, RAM + 0x1002, &index.to_le_bytes());
        assert_eq!(queue(&ring).pop(&ram, PLAIN, &mut Chain::new(64)), verdict);
    }
}

#[test]
fn a_head_that_is_no_descriptor_breaks_it() {
    let ram = ram();
    let mut ring = Ring::new(0, 4);
    ring.offer(&ram, 4);
    assert_eq!(queue(&ring).pop(&ram, PLAIN, &mut Chain::new(64)), Err(Broken));
}

#[test]
fn rings_lie_in_ram_to_their_last_byte() {
    // Sizes for four entries: 64, 12 or 14, 36 or 38 bytes.
    for (part, address, plain, events) in [
        (0, END - 64, true, true),
        (0, END - 48, false, false),
        (1, END - 12, true, false),
        (1, END - 14, true, true),
        (1, END - 10, false, false),
        (2, END - 36, true, false),
        (2, END - 40, true, true),
        (2, END - 32, false, false),
        (0, 16, false, false),
        (1, u64::MAX - 1, false, false),
        (2, u64::MAX - 3, false, false),
        (0, RAM - 16, false, false),
    ] {
        for (rules, expected) in [(PLAIN, plain), (EVENTS, events)] {
            let ram = ram();
            let mut queue = queue(&Ring::new(0, 4));
            let Parts { descriptors, driver_area, device_area } = &mut queue.written;
            *[descriptors, driver_area, device_area][part] = GuestPhysAddr(address);
            queue.enable();
            assert!(queue.is_ready());
            assert_eq!(queue.has_available(&ram, rules).is_ok(), expected, "{part} {address:#x}");
        }
    }
}

#[test]
fn a_driver_may_ask_for_no_interrupts() {
    let ram = ram();
    let mut ring = Ring::new(0, 4);
    let mut queue = queue(&ring);
    ring.descriptor(&ram, 0, (DATA, 1), WRITE, 0);
    for flags in [1u16, 0] {
        put(&ram, RAM + 0x1000, &flags.to_le_bytes());
        ring.offer(&ram, 0);
        assert_eq!(turn(&mut queue, &ram, PLAIN), Some(flags == 0));
    }
}

#[test]
fn with_an_event_index_the_interrupt_comes_when_it_is_passed() {
    let ram = ram();
    let mut ring = Ring::new(0, 4);
    let mut queue = queue(&ring);
    ring.descriptor(&ram, 0, (DATA, 1), WRITE, 0);
    // Flags do not count then.
    put(&ram, RAM + 0x1000, &1u16.to_le_bytes());
    let event = |ram: &GuestRam, index: u16| put(ram, RAM + 0x100c, &index.to_le_bytes());
    event(&ram, 2);
    let mut wanted = Vec::new();
    for _ in 0..5 {
        ring.offer(&ram, 0);
        wanted.push(turn(&mut queue, &ram, EVENTS).unwrap());
    }
    assert_eq!(wanted, [false, false, true, false, false]);
    // Several at once: the event lies among them.
    event(&ram, 6);
    for rule in [true, false] {
        for ahead in 0..3 {
            queue.fill_used(&ram, ahead, 0, 0).unwrap();
        }
        assert_eq!(queue.publish(&ram, EVENTS, 3), Ok(rule));
    }
}

#[test]
fn a_device_that_goes_idle_says_from_where_on_it_wants_a_kick() {
    let ram = ram();
    let mut ring = Ring::new(0, 4);
    let mut queue = queue(&ring);
    ring.descriptor(&ram, 0, (DATA, 1), WRITE, 0);
    let event = |ram: &GuestRam| u16::from_le_bytes(get(ram, RAM + 0x2000 + 4 + 32));
    for n in 0..6 {
        ring.offer(&ram, 0);
        assert!(turn(&mut queue, &ram, EVENTS).is_some());
        assert_eq!(event(&ram), n, "it is not idle yet");
        assert_eq!(turn(&mut queue, &ram, EVENTS), None);
        assert_eq!(event(&ram), n + 1);
    }
}

#[test]
fn used_chains_are_seen_all_at_once() {
    let ram = ram();
    let mut ring = Ring::new(0, 4);
    let mut queue = queue(&ring);
    for (ahead, head) in [(0, 3), (1, 1), (2, 2)] {
        queue.fill_used(&ram, ahead, head, 100 + u32::from(head)).unwrap();
        assert_eq!(ring.used(&ram), None);
    }
    queue.publish(&ram, PLAIN, 3).unwrap();
    let used: Vec<_> = core::iter::from_fn(|| ring.used(&ram)).collect();
    assert_eq!(used, [(3, 103), (1, 101), (2, 102)]);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(300) })]

    /// Whatever the rings hold, a chain lies in RAM and is no longer than the queue, or the queue is broken.
    #[test]
    fn random_rings_give_checked_chains_or_none(
        size in 1..9u16,
        rings in prop::collection::vec(prop_oneof![
            3 => (0..8u64, 0..64u32, 0..8u16, 0..9u16)
                .prop_map(|(block, len, flags, next)| (RAM + 0x4000 * block, len, flags, next)),
            1 => any::<(u64, u32, u16, u16)>(),
        ], 16),
        heads in prop::collection::vec(0..9u16, 8),
        index in prop_oneof![4 => 0..9u16, 1 => any::<u16>()],
        placed in prop_oneof![4 => Just(RAM), 1 => END - 0x2040..END, 1 => any::<u64>()],
    ) {
        let ram = ram();
        let ring = Ring::at(placed, size);
        // Rings may lie anywhere.
        let write = |address: u64, bytes: &[u8]| {
            let _ = ram.write(GuestPhysAddr(address), bytes);
        };
        for (n, (address, len, flags, next)) in rings.iter().enumerate() {
            let bytes = crate::virtio::testing::descriptor((*address, *len), *flags, *next);
            // In the queue's table, and where indirect tables may be.
            write(ring.at.wrapping_add(16 * n as u64), &bytes);
            write(RAM + 0x4000 * (n as u64 % 8) + 16 * n as u64, &bytes);
        }
        for (n, head) in heads.iter().enumerate() {
            write(ring.available.wrapping_add(4 + 2 * n as u64), &head.to_le_bytes());
        }
        write(ring.available.wrapping_add(2), &index.to_le_bytes());
        let mut queue = queue(&ring);
        let mut chain = Chain::new(64);
        for turn in 0..=ring.size {
            match queue.pop(&ram, EVENTS, &mut chain) {
                Ok(true) => {
                    prop_assert!(turn < ring.size, "more chains than the queue is long");
                    prop_assert!(chain.head < ring.size);
                    let segments = chain.readable().iter().chain(chain.writable());
                    prop_assert!((1..=64).contains(&segments.clone().count()));
                    for segment in segments {
                        prop_assert!(segment.len > 0 && ram.contains(segment.address, segment.len.into()));
                    }
                }
                Ok(false) | Err(Broken) => break,
            }
        }
    }
}
