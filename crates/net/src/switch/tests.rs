use alloc::format;
use alloc::vec;

use proptest::prelude::*;

use super::*;
use crate::WAITING;

const A: Mac = [2, 0, 0, 0, 0, 0xa];
const B: Mac = [2, 0, 0, 0, 0, 0xb];
const C: Mac = [2, 0, 0, 0, 0, 0xc];
const HOST: Mac = [2, 0, 0, 0, 0, 1];
const FAR: Mac = [2, 0, 0, 0, 0, 0xf];
const ALL: Mac = [0xff; 6];

fn frame(to: Mac, from: Mac, len: usize) -> Vec<u8> {
    let mut frame = [to, from].concat();
    frame.resize(len, 0x55);
    frame
}

/// Three guests, and the host's interface at port 3.
fn lab() -> Switch {
    let mut switch = Switch::new("lab".into());
    for (name, mac) in [("a", A), ("b", B), ("c", C)] {
        switch.connect(name.into(), PortKind::Guest(mac), None);
    }
    switch.connect("uplink".into(), PortKind::Uplink(HOST), None);
    switch
}

/// The ports at which something waits, emptied.
fn reached(switch: &mut Switch) -> Vec<usize> {
    let reached = (0..switch.ports().len()).filter(|port| switch.waiting(*port).is_some()).collect();
    for port in 0..switch.ports().len() {
        while switch.waiting(port).is_some() {
            switch.delivered(port, true);
        }
    }
    reached
}

#[test]
fn a_frame_goes_where_its_address_is_and_nowhere_else() {
    let mut switch = lab();
    for (from, source, to, out, ports) in [
        (0, A, B, Out::Stays, vec![1]),
        (2, C, A, Out::Stays, vec![0]),
        (0, A, FAR, Out::Uplink, vec![]),
        (0, A, ALL, Out::Uplink, vec![1, 2]),
        (1, B, [0x33, 0x33, 0, 0, 0, 1], Out::Uplink, vec![0, 2]),
        // To oneself.
        (0, A, A, Out::Stays, vec![]),
        (3, FAR, B, Out::Stays, vec![1]),
        (3, FAR, ALL, Out::Stays, vec![0, 1, 2]),
        (3, FAR, [2, 9, 9, 9, 9, 9], Out::Stays, vec![]),
    ] {
        assert_eq!(switch.forward(from, &frame(to, source, 60), 0), out, "{to:x?} from {source:x?}");
        assert_eq!(reached(&mut switch), ports, "{to:x?} from {source:x?}");
    }
}

#[test]
fn nobody_sends_under_anothers_address_or_a_frame_of_no_proper_length() {
    let mut switch = lab();
    for forged in [
        frame(B, C, 60),
        frame(ALL, FAR, 60),
        frame(B, A, 1519),
        frame(B, A, 13),
        frame(B, A, 12)[..5].to_vec(),
        vec![],
    ] {
        assert_eq!(switch.forward(0, &forged, 0), Out::Stays);
        assert_eq!(reached(&mut switch), [0; 0]);
    }
    let counters = switch.ports()[0].counters;
    assert_eq!((counters.sent, counters.dropped), (0, 6));
    assert_eq!(switch.forward(9, &frame(B, A, 60), 0), Out::Stays);
}

#[test]
fn nobody_outside_poses_as_a_guest() {
    let mut switch = lab();
    for to in [A, C, ALL] {
        assert_eq!(switch.forward(3, &frame(to, B, 60), 0), Out::Stays);
        assert_eq!(reached(&mut switch), [0; 0]);
    }
    assert_eq!(switch.ports()[3].counters.dropped, 3);
}

#[test]
fn a_guest_that_has_the_uplink_to_itself_uses_what_addresses_it_likes() {
    let mut switch = Switch::new("nic".into());
    switch.connect("router".into(), PortKind::Whole(A), None);
    switch.connect("nic".into(), PortKind::Uplink(HOST), None);
    assert_eq!(switch.forward(0, &frame(FAR, C, 60), 0), Out::Uplink);
    assert_eq!(switch.forward(0, &frame(ALL, B, 60), 0), Out::Uplink);
    assert_eq!(reached(&mut switch), [0; 0]);
    for to in [A, B, FAR, ALL] {
        assert_eq!(switch.forward(1, &frame(to, FAR, 60), 0), Out::Stays);
        assert_eq!(reached(&mut switch), [0]);
    }
}

#[test]
fn what_a_guest_has_no_room_for_waits_up_to_a_bound_and_is_counted() {
    let mut switch = lab();
    for n in 0..WAITING + 5 {
        let _ = switch.forward(0, &frame(B, A, 60 + n), 0);
    }
    for n in 0..WAITING {
        assert_eq!(switch.waiting(1).map(<[u8]>::len), Some(60 + n));
        switch.delivered(1, n != 0);
    }
    assert!(switch.waiting(1).is_none() && !switch.has_waiting());
    switch.delivered(1, true);
    let bytes = (1..WAITING as u64).map(|n| 60 + n).sum();
    let expected =
        Counters { received: WAITING as u64 - 1, received_bytes: bytes, dropped: 6, ..Counters::default() };
    assert_eq!(switch.ports()[1].counters, expected);
    assert_eq!(switch.ports()[0].counters.sent, WAITING as u64 + 5);
}

#[test]
fn a_port_sends_no_more_than_its_rate() {
    let mut switch = Switch::default();
    let limit = Limiter::new(1000, 1000, 0);
    switch.connect("a".into(), PortKind::Guest(A), Some(limit));
    switch.connect("b".into(), PortKind::Guest(B), None);
    let sent = (0..100).filter(|_| {
        let _ = switch.forward(0, &frame(B, A, MAX_FRAME), 0);
        reached(&mut switch) == [1]
    });
    assert_eq!(sent.count(), 4);
    assert_eq!(switch.ports()[0].counters.dropped, 96);
}

#[test]
fn what_goes_out_is_counted_at_the_uplink() {
    let mut switch = lab();
    assert_eq!(switch.uplink(), Some(3));
    switch.sent_out(100, true);
    switch.sent_out(100, false);
    let expected = Counters { received: 1, received_bytes: 100, dropped: 1, ..Counters::default() };
    assert_eq!(switch.ports()[3].counters, expected);
    Switch::default().sent_out(1, true);
}

proptest! {
    /// Whatever guests send: what reaches one is addressed to it or to a group, and says truly whom it is from.
    #[test]
    fn no_frame_reaches_whom_it_is_not_for(
        frames in prop::collection::vec((0usize..5, prop::collection::vec(any::<u8>(), 0..40), 0u8..6, 0u8..6), 1..200)
    ) {
        let macs = [A, B, C, HOST, FAR, ALL];
        let mut switch = lab();
        for (from, mut bytes, to, source) in frames {
            for (place, mac) in [(0, to), (6, source)] {
                if let Some(place) = bytes.get_mut(place..place + 6) {
                    place.copy_from_slice(&macs[usize::from(mac)]);
                }
            }
            let _ = switch.forward(from, &bytes, 0);
            for port in 0..3 {
                while let Some(frame) = switch.waiting(port) {
                    let (to, source): (Mac, Mac) =
                        (frame[..6].try_into().unwrap(), frame[6..12].try_into().unwrap());
                    prop_assert!(to == macs[port] || to[0] & 1 != 0, "{}", format!("{frame:x?}"));
                    let is_true = if from == 3 { !macs[..3].contains(&source) } else { source == macs[from] };
                    prop_assert!(is_true);
                    prop_assert!(port != from);
                    switch.delivered(port, true);
                }
            }
            prop_assert!(switch.waiting(3).is_none());
        }
    }
}
