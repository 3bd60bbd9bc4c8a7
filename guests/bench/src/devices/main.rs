//! A bare guest that measures its virtio devices: a read of a disk, and a frame from one network interface to another on
//! the same switch. What counts is what a driver does, and what becomes of that in the hypervisor; not the time that a
//! device of QEMU's takes, which is no instructions.
//!
//! Translation is off, so addresses are physical. Prints as the other benchmark does.
#![no_std]
#![no_main]

mod driver;

use driver::{Driver, SIZE};
use guest_rt::virtio::{self, Memory, Rings, kind};
use guest_rt::{println, time};

guest_rt::entry!(main);

/// Reads, and frames: so many that the clock's ticks of 100 instructions do not matter.
const MANY: u64 = 2000;
/// As many before that.
const WARM_UP: u64 = 2 * BUFFERS as u64;
/// Of a disk that is read in turn.
const SECTORS: u64 = 2048;
/// Bytes of a frame without its header: 1,500 and Ethernet's header.
const FRAME: usize = 1514;
/// Bytes of the header in front of a frame.
const HEADER: usize = 12;
/// Frames that an interface has room for.
const BUFFERS: usize = SIZE;

type Queue = virtio::Queue<SIZE>;

static RINGS: [Memory<Rings<SIZE>>; 5] = [const { Memory::new(Rings::new()) }; 5];
static PAGE: Memory<[u8; 4096]> = Memory::new([0; 4096]);
/// A request's header, and its status.
static REQUEST: Memory<[u64; 3]> = Memory::new([0; 3]);
static SENT: Memory<[u8; HEADER + FRAME]> = Memory::new([0; HEADER + FRAME]);
static RECEIVED: [Memory<[u8; 2048]>; BUFFERS] = [const { Memory::new([0; 2048]) }; BUFFERS];

fn main(_hart: u64, _device_tree: u64) {
    driver::set_up_interrupts();
    match Driver::all(kind::BLOCK).next() {
        Some(disk) => read(disk),
        None => println!("there is no disk"),
    }
    let mut nets = Driver::all(kind::NET);
    match (nets.next(), nets.next()) {
        (Some(one), Some(other)) => send(one, other),
        _ => println!("there are not two interfaces"),
    }
}

/// The ticks of the two halves of `MANY` operations, after some for warming up: `begin` hands them to the device, `end` takes
/// them from it, and in between `is_done` is asked.
fn halves<T>(
    state: &mut T,
    begin: impl Fn(&mut T, u64),
    is_done: impl Fn(&mut T) -> bool,
    end: impl Fn(&mut T),
) -> u64 {
    let mut ticks = 0;
    for n in 0..WARM_UP + MANY {
        if n == WARM_UP {
            ticks = 0;
        }
        let start = time::now();
        begin(state, n);
        let waiting = time::now();
        while !is_done(state) {
            core::hint::spin_loop();
        }
        let back = time::now();
        end(state);
        ticks += waiting - start + (time::now() - back);
    }
    ticks
}

fn report(name: &str, ticks: u64) {
    println!("bench {name} {MANY} {ticks}");
}

/// Reads of 4 KiB, each to its end before the next.
fn read(disk: Driver) {
    let mut queue = disk.queue(0, &RINGS[0]);
    disk.start();
    let request = REQUEST.address();
    let status = (REQUEST.get().cast::<u8>()).wrapping_add(16);
    let begin = |queue: &mut Queue, n| {
        // SAFETY: no request is under way.
        unsafe { *REQUEST.get() = [0, n * 8 % SECTORS, 0xff] };
        queue.offer(&[(request, 16, false), (PAGE.address(), 4096, true), (request + 16, 1, true)]);
        disk.notify(queue);
    };
    let ticks = halves(&mut queue, begin, |queue| queue.ended() != 0, |queue| disk.take(queue));
    report("blk-read-4k", ticks);
    // SAFETY: the device is done.
    if unsafe { status.read_volatile() } != 0 {
        println!("a read failed");
    }
}

/// Frames from one interface to the other, each received before the next is sent.
fn send(one: Driver, other: Driver) {
    let transmit = one.queue(1, &RINGS[1]);
    // Each has both queues, also those that are not used here.
    one.queue(0, &RINGS[2]);
    let mut receive = other.queue(0, &RINGS[3]);
    other.queue(1, &RINGS[4]);
    one.start();
    other.start();
    for buffer in &RECEIVED {
        receive.offer(&[(buffer.address(), 2048, true)]);
    }
    other.notify(&receive);
    let [to, from] = [&other, &one].map(Driver::mac);
    // SAFETY: the device does not have it yet.
    let frame = unsafe { &mut *SENT.get() };
    for (place, byte) in frame[HEADER..].iter_mut().zip(to.into_iter().chain(from).chain([0x88, 0xb5])) {
        *place = byte;
    }
    let begin = |(transmit, _): &mut (Queue, Queue), _| {
        transmit.offer(&[(SENT.address(), (HEADER + FRAME) as u32, false)]);
        one.notify(transmit);
    };
    let is_done = |(transmit, receive): &mut (Queue, Queue)| transmit.ended() != 0 && receive.ended() != 0;
    let end = |(transmit, receive): &mut (Queue, Queue)| {
        let buffer = receive.ended_head();
        one.take(transmit);
        other.take(receive);
        // The buffer goes back; the device looks for it by itself.
        receive.offer(&[(RECEIVED[buffer % BUFFERS].address(), 2048, true)]);
    };
    let ticks = halves(&mut (transmit, receive), begin, is_done, end);
    report("net-frame-1500", ticks);
    // SAFETY: the device is done with what it has written there.
    let arrived = unsafe { &*RECEIVED[0].get() };
    if arrived[HEADER..HEADER + 6] != to {
        println!("a frame did not arrive");
    }
}
