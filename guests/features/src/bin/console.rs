//! A virtio console beside the UART: what is written to it is seen, what is typed then arrives there; after the UART has
//! written, typing goes to the UART. Virtio 1.2, "Console Device".
#![no_std]
#![no_main]

use guest_rt::mmio;
use guest_rt::virtio::{Device, Memory, Rings, SLOTS, kind, status, to_read};
use guest_rt::{check, println, time};

features::feature!(checks);

/// Seconds that somebody has to type something.
const PATIENCE: u64 = 60;

static RINGS: [Memory<Rings<8>>; 2] = [const { Memory::new(Rings::new()) }; 2];
static TYPED: Memory<[u8; 16]> = Memory::new([0; 16]);

fn checks(_hart: u64, _device_tree: u64) {
    let found = (0..SLOTS).find_map(|slot| Device::open(slot, kind::CONSOLE, 0));
    check!("there_is_a_console", found.is_some());
    let Some(console) = found else { return };
    let [mut receive, mut transmit] = [0, 1].map(|number| {
        console.queue(number, &RINGS[number as usize]).expect("it has room for so short a queue")
    });
    console.start();
    let agreed = if console.is_legacy() { 0 } else { status::FEATURES_OK };
    check!("it_takes_its_driver", console.status(), 7 | agreed);
    // One buffer for what is typed.
    receive.offer(&[(TYPED.address(), 16, true)]);
    console.notify(&receive);
    transmit.offer(&[to_read(b"virtio: type something\r\n")]);
    console.notify(&transmit);
    // Says nothing on the UART meanwhile.
    let is_back = time::wait_until(time::FREQUENCY, || transmit.ended() == 1);
    let came = time::wait_until(PATIENCE * time::FREQUENCY, || receive.ended() == 1);
    check!("what_was_written_is_given_back", is_back);
    let typed = mmio::read8(TYPED.address());
    check!("what_was_typed_has_come", (came, typed), (true, b'v'));
    println!("uart: type something");
    let ready = || mmio::read8(mmio::UART + 5) & 1 != 0;
    check!("typing_comes_to_the_uart_again", time::wait_until(PATIENCE * time::FREQUENCY, ready));
    check!("and_is_what_was_typed", mmio::read8(mmio::UART), b'u');
}
