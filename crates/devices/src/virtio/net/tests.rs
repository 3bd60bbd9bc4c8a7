//! Frames both ways, as a driver sees them.

extern crate std;

use std::vec;
use std::vec::Vec;

use super::*;
use crate::virtio::Slot;
use crate::virtio::testing::{
    DATA, Ring, VERSION_1, WRITE, bring_up, bring_up_legacy, get, put, ram, read, write,
};

const MAC: [u8; 6] = [0x52, 0x54, 0, 1, 2, 3];

struct Bench {
    ram: GuestRam,
    slot: Slot,
    receive: Ring,
    transmit: Ring,
}

impl Bench {
    fn new(features: u64) -> Self {
        let mut slot = Slot::Net(Net::new(MAC));
        let mut rings = bring_up(&mut slot, features | VERSION_1, 2, 32);
        let transmit = rings.remove(1);
        Self { ram: ram(), slot, receive: rings.remove(0), transmit }
    }

    fn net(&mut self) -> (&mut Net, &GuestRam) {
        let Self { slot: Slot::Net(net), ram, .. } = self else { panic!("a network interface") };
        (net, ram)
    }

    fn sent(&mut self) -> Option<Vec<u8>> {
        let (net, ram) = self.net();
        let mut frame = [0xee; MAX_FRAME];
        net.transmit(ram, &mut frame).map(|len| frame[..len].to_vec())
    }

    fn give(&mut self, frame: &[u8]) -> Received {
        let (net, ram) = self.net();
        net.receive(ram, frame)
    }

    /// Offers buffers of these sizes, at `DATA` and every 4 KiB behind it.
    fn offer(&mut self, sizes: &[u32]) {
        for (n, size) in sizes.iter().enumerate() {
            let place = DATA + 0x1000 * n as u64;
            self.receive.descriptor(&self.ram, n as u16, (place, *size), WRITE, 0);
            self.receive.offer(&self.ram, n as u16);
        }
    }
}

fn frame(len: usize) -> Vec<u8> {
    (0..len).map(|n| (n * 7 + n / 256) as u8).collect()
}

#[test]
fn a_frame_is_sent_without_its_header_wherever_that_ends() {
    let mut bench = Bench::new(0);
    let frame = frame(1514);
    put(&bench.ram, DATA, &[0; 12]);
    put(&bench.ram, DATA + 12, &frame);
    for (first, parts) in [
        (0, &[(DATA, 12), (DATA + 12, 1514)][..]),
        (4, &[(DATA, 1526)]),
        (8, &[(DATA, 5), (DATA + 5, 20), (DATA + 25, 1501)]),
    ] {
        bench.transmit.offer_chain(&bench.ram, first, parts, &[]);
        assert_eq!(bench.sent(), Some(frame.clone()));
        assert_eq!(bench.transmit.used(&bench.ram), Some((first.into(), 0)));
    }
    assert_eq!(bench.sent(), None);
}

#[test]
fn frames_of_a_wrong_length_are_dropped_and_those_behind_them_are_not() {
    let mut bench = Bench::new(0);
    for (n, len) in [12, 12 + 13, 12 + 14, 12 + 1518, 12 + 1519, 0x10_0000, 12 + 60].into_iter().enumerate() {
        bench.transmit.offer_chain(&bench.ram, n as u16, &[(DATA, len)], &[]);
    }
    assert_eq!(
        [(); 4].map(|()| bench.sent().map(|frame| frame.len())),
        [Some(14), Some(1518), Some(60), None]
    );
    assert_eq!(core::iter::from_fn(|| bench.transmit.used(&bench.ram)).count(), 7);
    assert_eq!(bench.net().0.dropped(), 4);
}

#[test]
fn a_frame_without_a_whole_header_is_dropped() {
    let mut bench = Bench::new(0);
    bench.transmit.offer_chain(&bench.ram, 0, &[(DATA, 11)], &[]);
    assert_eq!((bench.sent(), bench.net().0.dropped()), (None, 1));
    assert_eq!(bench.transmit.used(&bench.ram), Some((0, 0)));
    assert!(!bench.slot.is_broken());
}

#[test]
fn drivers_that_do_not_know_version_1_have_a_short_header_where_they_do_not_merge_buffers() {
    for (is_legacy, features, header) in
        [(true, 0, 10), (true, feature::MRG_RXBUF, 12), (false, 0, 10), (false, feature::MRG_RXBUF, 12)]
    {
        let mut bench = Bench::new(0);
        let mut rings = if is_legacy {
            bring_up_legacy(&mut bench.slot, features as u32, 2, 32)
        } else {
            let _ = write(&mut bench.slot, 0x70, 0);
            bring_up(&mut bench.slot, features, 2, 32)
        };
        bench.transmit = rings.remove(1);
        bench.receive = rings.remove(0);
        for ring in [&bench.transmit, &bench.receive] {
            put(&bench.ram, ring.available, &[0; 4]);
            put(&bench.ram, ring.used, &[0; 4]);
        }
        put(&bench.ram, DATA, &[0xaa; 100]);
        bench.offer(&[100]);
        assert_eq!(bench.give(&frame(60)), Received::Done);
        assert_eq!(bench.receive.used(&bench.ram), Some((0, header + 60)));
        assert_eq!(get(&bench.ram, DATA), [0; 10]);
        let merged = if header == 12 { [1, 0] } else { [frame(60)[0], frame(60)[1]] };
        assert_eq!(get(&bench.ram, DATA + 10), merged);
        assert_eq!(get::<60>(&bench.ram, DATA + u64::from(header)), frame(60)[..]);
        bench.transmit.offer_chain(&bench.ram, 0, &[(DATA, header + 60)], &[]);
        assert_eq!(bench.sent(), Some(frame(60)));
        if header == 10 {
            // A header of its own, as drivers without `ANY_LAYOUT` do it.
            bench.transmit.offer_chain(&bench.ram, 1, &[(DATA, 10), (DATA + 10, 60)], &[]);
            assert_eq!(bench.sent(), Some(frame(60)));
        }
    }
}

#[test]
fn a_header_may_be_torn_into_bytes() {
    let mut bench = Bench::new(feature::MRG_RXBUF);
    let pieces: Vec<_> = (0..12).map(|n| (DATA + 2 * n, 1)).chain([(DATA + 0x100, 60)]).collect();
    put(&bench.ram, DATA, &[0xaa; 24]);
    bench.receive.offer_chain(&bench.ram, 0, &[], &pieces);
    assert_eq!(bench.give(&frame(60)), Received::Done);
    let expected: [u8; 24] = core::array::from_fn(|n| if n % 2 == 1 { 0xaa } else { u8::from(n == 20) });
    assert_eq!(get::<24>(&bench.ram, DATA), expected);
    assert_eq!(get::<60>(&bench.ram, DATA + 0x100), frame(60)[..]);
}

#[test]
fn a_received_frame_has_a_header_that_says_one_buffer() {
    for features in [0, feature::MRG_RXBUF] {
        let mut bench = Bench::new(features);
        bench.offer(&[12 + 60, 2000]);
        put(&bench.ram, DATA, &[0xaa; 80]);
        assert_eq!(bench.give(&frame(60)), Received::Done);
        assert_eq!(bench.receive.used(&bench.ram), Some((0, 72)));
        assert_eq!(get(&bench.ram, DATA), [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0]);
        assert_eq!(get::<60>(&bench.ram, DATA + 12), frame(60)[..]);
        assert_eq!(get(&bench.ram, DATA + 72), [0xaa; 8]);
        assert_eq!(read(&bench.slot, 0x60), 1);
    }
}

#[test]
fn a_frame_is_spread_over_mergeable_buffers_which_are_shown_at_once() {
    let mut bench = Bench::new(feature::MRG_RXBUF);
    bench.offer(&[500, 600]);
    let frame = frame(1514);
    assert_eq!(bench.give(&frame), Received::NoBuffers);
    assert_eq!(bench.receive.used(&bench.ram), None);
    // The same two buffers, and one more.
    bench.receive.descriptor(&bench.ram, 5, (DATA + 0x5000, 2000), WRITE, 0);
    bench.receive.offer(&bench.ram, 5);
    assert_eq!(bench.give(&frame), Received::Done);
    let used: Vec<_> = core::iter::from_fn(|| bench.receive.used(&bench.ram)).collect();
    assert_eq!(used, [(0, 500), (1, 600), (5, 426)]);
    assert_eq!(get(&bench.ram, DATA + 10), [3, 0]);
    let mut back = get::<488>(&bench.ram, DATA + 12).to_vec();
    back.extend(get::<600>(&bench.ram, DATA + 0x1000));
    back.extend(get::<426>(&bench.ram, DATA + 0x5000));
    assert_eq!(back, frame);
    assert_eq!(bench.give(&frame), Received::NoBuffers);
}

#[test]
fn a_frame_that_the_buffers_can_never_hold_is_dropped_and_they_stay() {
    let mut bench = Bench::new(0);
    bench.offer(&[100]);
    assert_eq!(bench.give(&frame(89)), Received::Dropped);
    assert_eq!(bench.receive.used(&bench.ram), None);
    assert_eq!(bench.give(&frame(88)), Received::Done);
    let mut bench = Bench::new(feature::MRG_RXBUF);
    bench.offer(&[12; 32]);
    assert_eq!(bench.give(&frame(1514)), Received::Dropped);
    assert_eq!(bench.give(&frame(15 * 12)), Received::Done);
    assert_eq!(core::iter::from_fn(|| bench.receive.used(&bench.ram)).count(), 16);
}

#[test]
fn a_buffer_without_room_for_a_header_breaks_the_device() {
    for buffers in [&[11][..], &[500, 11, 2000]] {
        let mut bench = Bench::new(feature::MRG_RXBUF);
        bench.offer(buffers);
        assert_eq!(bench.give(&frame(600)), Received::Dropped);
        assert!(bench.slot.is_broken());
        assert_eq!(bench.receive.used(&bench.ram), None);
    }
}

#[test]
fn nothing_is_received_before_the_driver_runs() {
    let mut slot = Slot::Net(Net::new(MAC));
    let Slot::Net(net) = &mut slot else { panic!("a network interface") };
    assert_eq!(net.receive(&ram(), &frame(60)), Received::Dropped);
}

#[test]
fn the_configuration_says_the_address_and_the_state_of_the_link() {
    let mut bench = Bench::new(feature::STATUS);
    assert_eq!((read(&bench.slot, 0x100), read(&bench.slot, 0x104)), (0x0100_5452, 0x0001_0302));
    assert_eq!(read(&bench.slot, 0xfc), 0);
    bench.net().0.set_link(true);
    assert!(!bench.slot.irq_level(), "nothing has changed");
    bench.offer(&[2000]);
    bench.net().0.set_link(false);
    assert_eq!((read(&bench.slot, 0xfc), read(&bench.slot, 0x60)), (1, 3));
    assert_eq!(read(&bench.slot, 0x104), 0x0302);
    assert_eq!(bench.give(&frame(60)), Received::Dropped);
    bench.transmit.offer_chain(&bench.ram, 0, &[(DATA, 100)], &[]);
    assert_eq!((bench.sent(), bench.transmit.used(&bench.ram)), (None, Some((0, 0))));
    let _ = write(&mut bench.slot, 0x64, 3);
    bench.net().0.set_link(true);
    assert_eq!(bench.give(&frame(60)), Received::Done);
}

#[test]
fn one_call_drops_a_bounded_number_of_frames() {
    let mut bench = Bench::new(0);
    let everything = vec![(DATA, 12 + 13); 32];
    for turn in 1..6 {
        for (n, part) in everything.iter().enumerate() {
            bench.transmit.offer_chain(&bench.ram, n as u16, &[*part], &[]);
        }
        assert_eq!((bench.sent(), bench.net().0.dropped()), (None, turn * BATCH as u64));
    }
}
