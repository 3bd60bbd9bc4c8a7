//! Prints what it was given of randomness, and starts again: the device tree's `rng-seed` and what a virtio-rng device
//! gives. Whether the values are as different as they should be, only somebody who sees several lives can tell.
#![no_std]
#![no_main]

use features::tree;
use guest_rt::sbi;
use guest_rt::virtio::{Device, Memory, Rings, SLOTS, kind};
use guest_rt::{check, finisher, mmio, println, time};

guest_rt::entry!(main);

/// The type of a reset. SBI spec, "System Reset Extension".
const COLD_REBOOT: u64 = 1;
/// Bytes of each source that are shown.
const SHOWN: usize = 16;

static RINGS: Memory<Rings<8>> = Memory::new(Rings::new());
static BUFFER: Memory<[u8; SHOWN]> = Memory::new([0; SHOWN]);

fn main(_hart: u64, device_tree: u64) {
    let seed = tree::property(device_tree, "rng-seed");
    check!("there_is_a_seed_of_64_bytes", seed.len(), 64);
    let from_device = read_device();
    check!("the_device_gives_random_bytes", from_device.is_some());
    if !check::summary("features/randomness") {
        finisher::fail(finisher::CHECKS_FAILED);
    }
    println!("seed {:032x}", u128::from_be_bytes(seed[..SHOWN].try_into().unwrap_or_default()));
    println!("device {:032x}", from_device.unwrap_or_default());
    sbi::system_reset(COLD_REBOOT, 0);
}

fn read_device() -> Option<u128> {
    let device = (0..SLOTS).find_map(|slot| Device::open(slot, kind::ENTROPY, 0))?;
    let mut queue = device.queue(0, &RINGS)?;
    device.start();
    queue.offer(&[(BUFFER.address(), SHOWN as u32, true)]);
    device.notify(&queue);
    let given = time::wait_until(10 * time::FREQUENCY, || queue.ended() == 1);
    let byte = |n: usize| mmio::read8(BUFFER.address() + n as u64);
    given.then(|| u128::from_be_bytes(core::array::from_fn(byte)))
}
