//! A virtio console beside the UART: what is written to it is seen, what is typed then arrives there; after the UART has
//! written, typing goes to the UART. Virtio 1.2, "Console Device".
#![no_std]
#![no_main]

use features::arena::{peek, poke};
use features::mmio::{self, VIRTIO, read32, write32};
use features::virtio::register::*;
use guest_rt::paging::{PAGE, frames};
use guest_rt::{check, println, time};

features::feature!(checks);

/// Seconds that somebody has to type something.
const PATIENCE: u64 = 60;

fn checks(_hart: u64, _device_tree: u64) {
    let found = (0..8).map(|slot| VIRTIO + 0x1000 * slot).find(|base| read32(base + DEVICE) == 3);
    check!("there_is_a_console", found.is_some());
    let Some(base) = found else { return };
    let (receive, transmit) = (frames(4), frames(4));
    set_up(base, &[receive, transmit]);
    check!("it_takes_its_driver", read32(base + STATUS), 15_u32);
    // One buffer for what is typed.
    offer(base, 0, receive, 0, 16, 2);
    let text = b"virtio: type something\r\n";
    for (at, byte) in (transmit + 3 * PAGE..).zip(text) {
        mmio::write8(at, *byte);
    }
    offer(base, 1, transmit, 0, text.len() as u32, 0);
    // Says nothing on the UART meanwhile.
    let is_back = time::wait_until(time::FREQUENCY, || used(transmit) == 1);
    let came = time::wait_until(PATIENCE * time::FREQUENCY, || used(receive) == 1);
    check!("what_was_written_is_given_back", is_back);
    let typed = mmio::read8(receive + 3 * PAGE);
    check!("what_was_typed_has_come", (came, typed), (true, b'v'));
    println!("uart: type something");
    let ready = || mmio::read8(mmio::UART + 5) & 1 != 0;
    check!("typing_comes_to_the_uart_again", time::wait_until(PATIENCE * time::FREQUENCY, ready));
    check!("and_is_what_was_typed", mmio::read8(mmio::UART), b'u');
}

fn set_up(base: u64, queues: &[u64; 2]) {
    write32(base + STATUS, 0);
    write32(base + STATUS, 3);
    for half in 0..2 {
        write32(base + DRIVER_FEATURES_SEL, half);
        // VERSION_1.
        write32(base + DRIVER_FEATURES, half);
    }
    write32(base + STATUS, 11);
    for (number, memory) in (0..).zip(queues) {
        write32(base + QUEUE_SEL, number);
        write32(base + QUEUE_NUM, 8);
        for (n, register) in (0..).zip([QUEUE_DESC, QUEUE_DRIVER, QUEUE_DEVICE]) {
            write32(base + register, (memory + n * PAGE) as u32);
            write32(base + register + 4, 0);
        }
        write32(base + QUEUE_READY, 1);
    }
    write32(base + STATUS, 15);
}

/// Offers the fourth page of a queue's memory as a buffer.
fn offer(base: u64, queue: u32, memory: u64, index: u16, len: u32, flags: u64) {
    poke(memory, memory + 3 * PAGE);
    poke(memory + 8, u64::from(len) | flags << 32);
    // No flags, the index, descriptor 0.
    poke(memory + PAGE, u64::from(index + 1) << 16);
    write32(base + QUEUE_NOTIFY, queue);
}

/// How many buffers of a queue were given back.
fn used(memory: u64) -> u64 {
    peek(memory + 2 * PAGE) >> 16 & 0xffff
}
