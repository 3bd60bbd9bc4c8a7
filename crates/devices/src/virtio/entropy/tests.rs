//! Random bytes, as a driver asks for them.

extern crate std;

use std::vec::Vec;

use super::*;
use crate::virtio::Slot;
use crate::virtio::testing::{DATA, Ring, VERSION_1, bring_up, get, put, ram};

fn bench() -> (Slot, GuestRam, Ring) {
    let mut slot = Slot::Entropy(Entropy::new());
    let ring = bring_up(&mut slot, VERSION_1, 1, 32).remove(0);
    (slot, ram(), ring)
}

/// Serves the guest with numbers that count up; says how many bytes it was.
fn serve(slot: &mut Slot, ram: &GuestRam) -> usize {
    let Slot::Entropy(entropy) = slot else { panic!("a source of randomness") };
    let mut given = 0;
    entropy.serve(ram, |bytes| {
        for byte in bytes {
            given += 1;
            *byte = given as u8;
        }
    });
    given
}

#[test]
fn a_buffer_is_filled_and_nothing_beside_it() {
    let (mut slot, ram, mut ring) = bench();
    put(&ram, DATA, &[0xaa; 16]);
    ring.offer_chain(&ram, 3, &[], &[(DATA + 1, 3), (DATA + 8, 4)]);
    assert_eq!(serve(&mut slot, &ram), 7);
    assert_eq!(get(&ram, DATA), [0xaa, 1, 2, 3, 0xaa, 0xaa, 0xaa, 0xaa, 4, 5, 6, 7, 0xaa, 0xaa, 0xaa, 0xaa]);
    assert_eq!(ring.used(&ram), Some((3, 7)));
    assert!(slot.irq_level());
}

#[test]
fn one_turn_has_a_limit_and_what_is_left_shows() {
    let (mut slot, ram, mut ring) = bench();
    for n in 0..32 {
        ring.offer_chain(&ram, n, &[], &[(DATA, 0x10_0000)]);
    }
    assert_eq!(serve(&mut slot, &ram), MAX_BYTES);
    assert_eq!(
        core::iter::from_fn(|| ring.used(&ram)).collect::<Vec<_>>(),
        (0..16).map(|n| (n, 256)).collect::<Vec<_>>()
    );
    assert!(slot.has_work(&ram));
    assert_eq!(serve(&mut slot, &ram), MAX_BYTES);
    assert!(!slot.has_work(&ram));
}

#[test]
fn a_buffer_that_cannot_be_written_to_breaks_the_device() {
    let (mut slot, ram, mut ring) = bench();
    ring.offer_chain(&ram, 0, &[(DATA, 8)], &[]);
    serve(&mut slot, &ram);
    assert!(slot.is_broken());
    assert_eq!(ring.used(&ram), None);
}
