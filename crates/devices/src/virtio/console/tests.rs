//! A terminal, as a driver sees it.

extern crate std;

use std::vec::Vec;

use super::*;
use crate::virtio::Slot;
use crate::virtio::slot::Effect;
use crate::virtio::testing::{DATA, Ring, VERSION_1, bring_up, get, put, ram, read, write};

struct Bench {
    ram: GuestRam,
    slot: Slot,
    receive: Ring,
    transmit: Ring,
}

impl Bench {
    fn new() -> Self {
        let mut slot = Slot::Console(Console::new(Some(Size { columns: 80, rows: 25 })));
        let mut rings = bring_up(&mut slot, VERSION_1 | F_SIZE, 2, 8);
        let transmit = rings.remove(1);
        Self { ram: ram(), slot, receive: rings.remove(0), transmit }
    }

    fn console(&mut self) -> (&mut Console, &GuestRam) {
        let Self { slot: Slot::Console(console), ram, .. } = self else { panic!("a terminal") };
        (console, ram)
    }

    /// What the guest writes to a sink that takes `room` bytes.
    fn output(&mut self, mut room: usize) -> Vec<u8> {
        let (console, ram) = self.console();
        let mut all = Vec::new();
        console.output(ram, |bytes| {
            let count = bytes.len().min(room);
            all.extend_from_slice(&bytes[..count]);
            room -= count;
            count
        });
        all
    }
}

fn text(len: usize) -> Vec<u8> {
    (0..len).map(|n| (n * 11 + n / 256) as u8).collect()
}

#[test]
fn output_comes_in_order_and_its_buffers_go_back() {
    let mut bench = Bench::new();
    put(&bench.ram, DATA, &text(1000));
    bench.transmit.offer_chain(&bench.ram, 0, &[(DATA, 1), (DATA + 1, 599)], &[]);
    bench.transmit.offer_chain(&bench.ram, 4, &[(DATA + 600, 400)], &[]);
    assert_eq!(bench.output(usize::MAX), text(1000));
    let used: Vec<_> = core::iter::from_fn(|| bench.transmit.used(&bench.ram)).collect();
    assert_eq!(used, [(0, 0), (4, 0)]);
}

#[test]
fn a_full_sink_is_given_the_rest_later() {
    let mut bench = Bench::new();
    put(&bench.ram, DATA, &text(1000));
    bench.transmit.offer_chain(&bench.ram, 0, &[(DATA, 1000)], &[]);
    let mut all = Vec::new();
    for room in [0, 1, 255, 256, 300] {
        all.extend(bench.output(room));
        assert_eq!(bench.transmit.used(&bench.ram), None);
        assert!(bench.slot.has_work(&bench.ram));
    }
    all.extend(bench.output(188));
    assert_eq!((all, bench.transmit.used(&bench.ram)), (text(1000), Some((0, 0))));
    assert!(!bench.slot.has_work(&bench.ram));
}

#[test]
fn one_turn_moves_a_limited_number_of_bytes() {
    let mut bench = Bench::new();
    let all = 2 * MAX_BYTES + 100;
    put(&bench.ram, DATA, &text(all));
    bench.transmit.offer_chain(&bench.ram, 0, &[(DATA, MAX_BYTES as u32)], &[]);
    bench.transmit.offer_chain(&bench.ram, 1, &[(DATA + MAX_BYTES as u64, MAX_BYTES as u32 + 100)], &[]);
    let turns: Vec<_> = (0..3).map(|_| bench.output(usize::MAX)).collect();
    assert_eq!([0, 1, 2].map(|turn| turns[turn].len()), [MAX_BYTES, MAX_BYTES, 100]);
    assert_eq!(turns.concat(), text(all));
    assert!(bench.output(usize::MAX).is_empty());
}

#[test]
fn half_written_output_is_forgotten_at_a_reset() {
    let mut bench = Bench::new();
    bench.transmit.offer_chain(&bench.ram, 0, &[(DATA, 100)], &[]);
    bench.output(10);
    assert_eq!(write(&mut bench.slot, 0x70, 0), Effect::Reset);
    assert!(bench.output(usize::MAX).is_empty());
    put(&bench.ram, DATA, b"new");
    put(&bench.ram, bench.transmit.available + 2, &[0, 0]);
    let mut rings = bring_up(&mut bench.slot, VERSION_1, 2, 8);
    bench.transmit = rings.remove(1);
    bench.transmit.offer_chain(&bench.ram, 0, &[(DATA, 3)], &[]);
    assert_eq!(bench.output(usize::MAX), b"new");
}

#[test]
fn input_goes_where_there_is_room() {
    let mut bench = Bench::new();
    let give = |bench: &mut Bench, bytes: &[u8]| {
        let (console, ram) = bench.console();
        console.input(ram, bytes)
    };
    assert_eq!(give(&mut bench, b"x"), 0);
    let has_room = |bench: &mut Bench| {
        let (console, ram) = bench.console();
        console.has_room(ram)
    };
    assert!(!has_room(&mut bench));
    bench.receive.offer_chain(&bench.ram, 0, &[], &[(DATA, 4)]);
    assert!(has_room(&mut bench));
    bench.receive.offer_chain(&bench.ram, 1, &[], &[(DATA + 16, 2), (DATA + 32, 8)]);
    assert_eq!(give(&mut bench, b"abcdefgh"), 8);
    assert_eq!((get(&bench.ram, DATA), get(&bench.ram, DATA + 16)), (*b"abcd", *b"ef"));
    assert_eq!(get(&bench.ram, DATA + 32), *b"gh");
    assert_eq!(bench.receive.used(&bench.ram), Some((0, 4)));
    assert_eq!(bench.receive.used(&bench.ram), Some((1, 4)));
    bench.receive.offer_chain(&bench.ram, 2, &[], &[(DATA, 3)]);
    assert_eq!(give(&mut bench, b"ABCD"), 3);
    bench.receive.offer_chain(&bench.ram, 3, &[(DATA, 3)], &[]);
    assert_eq!(give(&mut bench, b"D"), 0);
    assert!(bench.slot.is_broken(), "no input goes to what the device may only read");
}

#[test]
fn a_new_size_is_told() {
    let mut bench = Bench::new();
    assert_eq!(read(&bench.slot, 0x100), 25 << 16 | 80);
    bench.console().0.resize(Size { columns: 132, rows: 50 });
    assert_eq!((read(&bench.slot, 0x100), read(&bench.slot, 0xfc)), (50 << 16 | 132, 1));
    assert_eq!(read(&bench.slot, 0x60), 3);
    assert_eq!(read(&Slot::Console(Console::new(None)), 0x10) & 1, 0);
}
