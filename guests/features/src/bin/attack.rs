//! One of two guests on a hart. The `healthy` one looks at the clock all the time and says how long it once did not have the
//! hart, for so many milliseconds. The other one does something by which a guest could hold up others: it fills consoles, resets or dies again and
//! again, writes to a full disk, or ends while a disk works for it. The command line says which: `attack=ROLE`, and
//! `looks=MILLISECONDS` for the healthy one.
#![no_std]
#![no_main]

use core::arch::asm;
use features::disk::{self, Disk, kind};
use features::role;
use guest_rt::console::put;
use guest_rt::mmio::{read8, write8};
use guest_rt::time::{FREQUENCY, now, spin};
use guest_rt::virtio::{self, Device, Memory, Rings};
use guest_rt::{console, csr_write, println, sbi};

guest_rt::entry!(main);

/// Requests under way, and bytes of each: some seconds' work for the slow disk.
const REQUESTS: u64 = 8;
const REQUEST: u32 = 512 << 10;
/// Where they are written from: RAM that the program does not use.
const DATA: u64 = 0x8080_0000;
/// Bytes of a flood by the SBI or the virtio console: the most that one call or buffer moves at once, and more.
const FLOOD: usize = 64 << 10;

fn main(_hart: u64, device_tree: u64) {
    match role(device_tree, "attack=") {
        "healthy" => {
            let milliseconds: u64 = role(device_tree, "looks=").parse().expect("looks= is a number");
            look(milliseconds * (FREQUENCY / 1000));
        }
        "disk-resets" => {
            let _disk = work_for_a_disk();
            reset();
        }
        "disk-crashes" => {
            let _disk = work_for_a_disk();
            crash();
        }
        "device-resets" => loop {
            // Opening it again resets the device.
            let _disk = work_for_a_disk();
            println!("device-resets: again");
        },
        "disk-full" => write_to_a_full_disk(),
        "resets" => reset(),
        "crashes" => crash(),
        "flood" => loop {
            put(b'.');
        },
        "flood-resets" => {
            fill_uart();
            reset();
        }
        "flood-crashes" => {
            fill_uart();
            crash();
        }
        "sbi-flood" => {
            let text = text();
            loop {
                sbi::call(sbi::DBCN, 0, [text.len() as u64, text.as_ptr() as u64, 0, 0, 0, 0]);
            }
        }
        "virtio-flood" => flood_virtio(true),
        "virtio-flood-resets" => {
            flood_virtio(false);
            reset();
        }
        "deaf" => {
            println!("deaf: type something");
            spin(1000 * FREQUENCY);
        }
        other => panic!("attack={other} is no role"),
    }
}

/// Says how long it was once away, and ends the run, for a reset does that.
fn look(ticks: u64) {
    let start = now();
    let (mut last, mut longest, mut looks) = (start, 0, 0_u64);
    while last.wrapping_sub(start) < ticks {
        let now = now();
        longest = now.wrapping_sub(last).max(longest);
        last = now;
        looks += 1;
    }
    println!("healthy: at most {} us away in {looks} looks", longest / (FREQUENCY / 1_000_000));
    reset();
}

fn reset() -> ! {
    sbi::system_reset(1, 0);
    panic!("the reset has failed");
}

/// Ends up in a trap vector that cannot be fetched.
fn crash() -> ! {
    csr_write!(STVEC, 0x4000u64);
    // SAFETY: never comes back.
    unsafe { asm!("ebreak", options(noreturn)) }
}

/// Lets the disk write for some seconds.
fn work_for_a_disk() -> Disk {
    static MEMORY: disk::Memory = disk::Memory::new();
    let mut disk = Disk::open(0, &MEMORY).expect("there is a disk");
    for number in 0..REQUESTS {
        let piece = (DATA + number * u64::from(REQUEST) / 4, REQUEST, false);
        disk.submit(kind::WRITE, number * u64::from(REQUEST) / 512, &[piece]);
    }
    disk.notify();
    // They are on their way.
    spin(FREQUENCY / 20);
    println!("{REQUESTS} requests are under way");
    disk
}

/// Writes to a disk that refuses it, as fast as it does. A real driver gives up; this one does not.
fn write_to_a_full_disk() -> ! {
    static MEMORY: disk::Memory = disk::Memory::new();
    let mut disk = Disk::open(0, &MEMORY).expect("there is a disk");
    loop {
        let status = disk.run(kind::WRITE, 0, &[(DATA, 4096, false)]);
        assert_eq!(status, 1, "the disk fails");
        println!("disk-full: refused");
    }
}

/// Writes until the console takes no more, and fills the UART, without a look whether it takes it.
fn fill_uart() {
    let is_busy = || read8(console::UART + 5) & 0x20 == 0;
    for number in 0..40_000_u32 {
        write8(console::UART, if number % 64 == 63 { b'\n' } else { b'.' });
        if number % 64 == 63 && is_busy() {
            break;
        }
    }
    (0..200).for_each(|_| write8(console::UART, b'x'));
}

fn text() -> &'static [u8; FLOOD] {
    static TEXT: Memory<[u8; FLOOD]> = Memory::new([b'v'; FLOOD]);
    // SAFETY: it is only read.
    unsafe { &*TEXT.get() }
}

/// Offers a virtio console as much as its ring takes: once, or again and again.
fn flood_virtio(for_ever: bool) {
    static RINGS: [Memory<Rings<64>>; 2] = [const { Memory::new(Rings::new()) }; 2];
    let console = Device::open(0, virtio::kind::CONSOLE, 0).expect("there is a console");
    let [_, mut transmit] = [0, 1]
        .map(|number| console.queue(number, &RINGS[number as usize]).expect("it has room for the ring"));
    console.start();
    let piece = virtio::to_read(text());
    (0..64).for_each(|_| transmit.offer(&[piece]));
    console.notify(&transmit);
    if !for_ever {
        return;
    }
    loop {
        let ended = transmit.ended();
        transmit.take(ended);
        (0..ended).for_each(|_| transmit.offer(&[piece]));
        console.notify(&transmit);
    }
}
