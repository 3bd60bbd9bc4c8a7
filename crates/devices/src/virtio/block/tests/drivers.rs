//! Drivers that do what QEMU allows: long queues, kicks before they are ready, the legacy interface.

use super::*;

#[test]
fn a_queue_of_1024_descriptors_is_served() {
    let mut slot = Slot::Block(Block::new(disk()));
    let mut ring = bring_up(&mut slot, VERSION_1, 1, 1024).remove(0);
    // The rings of so long a queue take more room than a test's usual ones have.
    (ring.available, ring.used) = (ring.at + 0x8000, ring.at + 0xa000);
    ring.enable(&mut slot, 0);
    let mut bench = Bench { ram: ram(), slot, ring };
    put(&bench.ram, bench.ring.available, &[0; 4]);
    put(&bench.ram, bench.ring.used, &[0; 4]);
    for n in 0..3000u32 {
        let first = (n * 3 % 1021) as u16;
        bench.offer(first, IN, 7, &[], &[(DATA, 512)]);
        let got = bench.next().unwrap();
        bench.complete(got.token, Status::Ok);
        assert_eq!(bench.ring.used(&bench.ram), Some((first.into(), 513)));
    }
}

#[test]
fn a_request_is_served_when_it_is_kicked_and_not_when_the_driver_is_ready() {
    let mut slot = Slot::Block(Block::new(disk()));
    negotiate(&mut slot, VERSION_1);
    let mut bench = Bench { ram: ram(), slot, ring: Ring::new(0, 128) };
    for address in [bench.ring.available, bench.ring.used] {
        put(&bench.ram, address, &[0; 4]);
    }
    bench.ring.enable(&mut bench.slot, 0);
    bench.offer(0, IN, 3, &[], &[(DATA, 512)]);
    assert_eq!(write(&mut bench.slot, 0x50, 0), Effect::Notified);
    let got = bench.next().unwrap();
    bench.complete(got.token, Status::Ok);
    assert_eq!((bench.status(), bench.ring.used(&bench.ram)), (0, Some((0, 513))));
    // What nobody kicked is not begun by that the driver is ready, or was before a reset.
    bench.offer(0, IN, 3, &[], &[(DATA, 512)]);
    assert_eq!(write(&mut bench.slot, 0x70, 15), Effect::Nothing);
    for (register, value) in [(0x44, 0), (0x70, 0)] {
        let _ = write(&mut bench.slot, register, value);
        assert_eq!(write(&mut bench.slot, 0x50, 0), Effect::Nothing);
        assert_eq!((bench.next(), bench.status()), (None, 0xff));
    }
}

#[test]
fn a_legacy_driver_is_served_and_told_nothing_when_it_breaks_its_ring() {
    let mut slot = Slot::Block(Block::new(disk()));
    let ring = bring_up_legacy(&mut slot, 0, 1, 64).remove(0);
    let mut bench = Bench { ram: ram(), slot, ring };
    put(&bench.ram, bench.ring.at, &[0; 0x2000]);
    for n in 0..200u16 {
        bench.offer(n % 60, IN, 7, &[], &[(DATA, 512)]);
        let got = bench.next().unwrap();
        bench.complete(got.token, Status::Ok);
        assert_eq!(bench.ring.used(&bench.ram), Some((u32::from(n) % 60, 513)));
    }
    assert_eq!(read(&bench.slot, 0x60), 1);
    // PFN 0 is a reset, which waits.
    bench.offer(0, IN, 7, &[], &[(DATA, 512)]);
    let got = bench.next().unwrap();
    assert_eq!(write(&mut bench.slot, 0x40, 0), Effect::Draining);
    bench.complete(got.token, Status::Ok);
    assert_eq!(write(&mut bench.slot, 0x40, 0), Effect::Reset);
    assert_eq!((read(&bench.slot, 0x70), read(&bench.slot, 0x40)), (0, 0));
    let _ = bring_up_legacy(&mut bench.slot, 0, 1, 64);
    put(&bench.ram, bench.ring.available + 2, &[99, 0]);
    assert_eq!(bench.next(), None);
    assert_eq!((bench.slot.is_broken(), read(&bench.slot, 0x70), read(&bench.slot, 0x60)), (true, 7, 0));
}
