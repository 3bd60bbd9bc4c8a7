//! What QEMU lets drivers of virtio devices do, on both transports: queues as long as it says, kicks before a driver is
//! ready, no version 1, features that were not offered, and each header of a network interface.
#![no_std]
#![no_main]

use core::slice;

use guest_rt::mmio::{VIRTIO, read8, read32, write32};
use guest_rt::virtio::{Device, Memory, Piece, Queue, Rings, SLOTS, VERSION_1, kind, register, status};
use guest_rt::{check, csr_write, time};

features::feature!(checks);

/// Slots: the disk, the network interface, the entropy device, and others that are empty.
const DISK: u64 = 0;
const NET: u64 = 1;
const ENTROPY: u64 = 2;

const SECTOR: usize = 512;
/// As many as a queue can have.
const LONG: usize = 1024;
/// Receive buffers are merged.
const MRG_RXBUF: u64 = 1 << 15;

static LONG_RINGS: Memory<Rings<LONG>> = Memory::new(Rings::new());
static RINGS: [Memory<Rings<8>>; 2] = [const { Memory::new(Rings::new()) }; 2];
static HEADER: Memory<[u64; 2]> = Memory::new([0; 2]);
static BUFFER: Memory<[u8; 2048]> = Memory::new([0; 2048]);
static STATUS: Memory<u8> = Memory::new(0);
static FRAME: Memory<[u8; 72]> = Memory::new([0; 72]);

fn checks(_hart: u64, _device_tree: u64) {
    csr_write!(SIE, 0);
    shows_one_version();
    serves_a_long_queue();
    serves_before_the_driver_is_ready();
    begins_nothing_when_the_driver_is_ready();
    serves_without_version_1();
    takes_what_a_driver_writes();
    gives_random_bytes();
    for features in [0, MRG_RXBUF, VERSION_1, VERSION_1 | MRG_RXBUF] {
        asks_for_an_address(features);
    }
}

fn shows_one_version() {
    let version = |slot| read32(VIRTIO + 0x1000 * slot + register::VERSION);
    check!("all_slots_have_one_version", (1..SLOTS).all(|slot| version(slot) == version(0)));
    let disk = VIRTIO + 0x1000 * DISK;
    write32(disk + register::QUEUE_SEL, 0);
    check!("a_queue_has_up_to_1024_descriptors", read32(disk + register::QUEUE_NUM_MAX), 1024_u32);
}

/// What a sector of the disk holds: xtask/src/test/disks.rs.
fn content(sector: usize) -> [u8; SECTOR] {
    core::array::from_fn(|at| (sector * 7 + at + 31) as u8)
}

/// What a device may have written: the compiler must not know what it holds.
fn bytes(count: usize) -> &'static [u8] {
    // SAFETY: as long as it is, and no device writes it any more.
    unsafe { slice::from_raw_parts(core::hint::black_box(BUFFER.address()) as *const u8, count) }
}

/// Offers a read of a sector.
fn offer_read<const N: usize>(queue: &mut Queue<N>, sector: u64) {
    // SAFETY: the device has none of these.
    unsafe {
        HEADER.get().write_volatile([0, sector]);
        STATUS.get().write_volatile(0xff);
        BUFFER.get().write([0; 2048]);
    }
    let pieces: [Piece; 3] =
        [(HEADER.address(), 16, false), (BUFFER.address(), SECTOR as u32, true), (STATUS.address(), 1, true)];
    queue.offer(&pieces);
}

/// Whether the read of a sector comes to its end, and well.
fn is_read<const N: usize>(queue: &mut Queue<N>, sector: usize) -> bool {
    let ended = time::wait_until(time::FREQUENCY, || queue.ended() == 1);
    queue.take(queue.ended());
    ended && read8(STATUS.address()) == 0 && *bytes(SECTOR) == content(sector)
}

fn serves_a_long_queue() {
    let Some(disk) = Device::open(DISK, kind::BLOCK, 0) else {
        check!("there_is_a_disk", false);
        return;
    };
    let queue = disk.queue(0, &LONG_RINGS);
    check!("a_queue_may_be_as_long", queue.is_some());
    let Some(mut queue) = queue else { return };
    disk.start();
    // Three descriptors each: twice around the table, and once around the rings.
    let all = (0..1100).all(|n| {
        offer_read(&mut queue, n % 100);
        disk.notify(&queue);
        is_read(&mut queue, n as usize % 100)
    });
    check!("a_long_queue_is_served_around_its_end", all);
}

fn serves_before_the_driver_is_ready() {
    let Some(disk) = Device::open(DISK, kind::BLOCK, 0) else { return };
    let Some(mut queue) = disk.queue(0, &RINGS[0]) else { return };
    offer_read(&mut queue, 3);
    disk.notify(&queue);
    check!("a_disk_is_read_before_its_driver_is_ready", is_read(&mut queue, 3));
    check!("and_interrupts", disk.acknowledge(), 1_u32);
    disk.start();
    offer_read(&mut queue, 4);
    disk.notify(&queue);
    check!("and_goes_on_when_it_is", is_read(&mut queue, 4));
}

fn begins_nothing_when_the_driver_is_ready() {
    let Some(disk) = Device::open(DISK, kind::BLOCK, 0) else { return };
    let Some(mut queue) = disk.queue(0, &RINGS[0]) else { return };
    offer_read(&mut queue, 5);
    disk.start();
    let began = time::wait_until(time::FREQUENCY / 50, || queue.ended() != 0);
    check!("what_was_not_kicked_is_not_begun", began, false);
    disk.notify(&queue);
    check!("but_when_it_is", is_read(&mut queue, 5));
    // A reset takes the queue away.
    offer_read(&mut queue, 6);
    write32(disk.base() + register::STATUS, 0);
    let is_reset = time::wait_until(time::FREQUENCY, || disk.status() == 0);
    disk.notify(&queue);
    disk.start();
    let began = time::wait_until(time::FREQUENCY / 50, || queue.ended() != 0);
    check!("nothing_of_before_a_reset_is_begun", (is_reset, began), (true, false));
}

fn serves_without_version_1() {
    let opened = Device::open_with(DISK, kind::BLOCK, 0);
    check!("a_driver_need_not_know_version_1", opened.is_some());
    let Some(disk) = opened else { return };
    let Some(mut queue) = disk.queue(0, &RINGS[0]) else { return };
    disk.start();
    offer_read(&mut queue, 7);
    disk.notify(&queue);
    check!("and_is_served", is_read(&mut queue, 7));
}

fn takes_what_a_driver_writes() {
    use status::*;
    let Some(disk) = Device::open(DISK, kind::BLOCK, 0) else { return };
    let write = |offset, value| write32(disk.base() + offset, value);
    write(register::STATUS, ACKNOWLEDGE);
    check!("a_driver_may_clear_bits_of_the_status", disk.status(), ACKNOWLEDGE);
    for half in [0, 1] {
        write(register::DRIVER_FEATURES_SEL, half);
        write(register::DRIVER_FEATURES, 0x0400_0001 | half);
    }
    write(register::STATUS, ACKNOWLEDGE | DRIVER | FEATURES_OK);
    let expected = ACKNOWLEDGE | DRIVER | FEATURES_OK;
    check!("features_that_were_not_offered_are_passed_over", disk.status(), expected);
    let Some(mut queue) = disk.queue(0, &RINGS[0]) else { return };
    // Not even this is needed of the status.
    write(register::STATUS, DRIVER_OK);
    offer_read(&mut queue, 8);
    disk.notify(&queue);
    check!("and_such_a_driver_is_served", is_read(&mut queue, 8));
}

fn gives_random_bytes() {
    let Some(source) = Device::open(ENTROPY, kind::ENTROPY, 0) else {
        check!("there_is_a_source_of_randomness", false);
        return;
    };
    let Some(mut queue) = source.queue(0, &RINGS[0]) else { return };
    // SAFETY: no device has it.
    unsafe { BUFFER.get().write([0; 2048]) };
    queue.offer(&[(BUFFER.address(), 32, true)]);
    // It looks by itself when the driver is ready.
    source.start();
    let came = time::wait_until(5 * time::FREQUENCY, || queue.ended() == 1);
    check!("random_bytes_come", came && bytes(32).iter().any(|byte| *byte != 0));
}

/// Asks QEMU's network who has 10.0.2.2, and gets an answer.
fn asks_for_an_address(features: u64) {
    let Some(net) = Device::open_with(NET, kind::NET, features) else {
        check!("there_is_a_network_interface", false);
        return;
    };
    let (Some(mut receive), Some(mut transmit)) = (net.queue(0, &RINGS[0]), net.queue(1, &RINGS[1])) else {
        return;
    };
    net.start();
    let header = if net.features == 0 { 10 } else { 12 };
    let mac: [u8; 6] = core::array::from_fn(|n| read8(net.config() + n as u64));
    // Ethernet to everybody, ARP; a request from 10.0.2.15.
    let mut request = [0; 60];
    request[..6].fill(0xff);
    request[6..12].copy_from_slice(&mac);
    request[12..22].copy_from_slice(&[8, 6, 0, 1, 8, 0, 6, 4, 0, 1]);
    request[22..28].copy_from_slice(&mac);
    request[28..32].copy_from_slice(&[10, 0, 2, 15]);
    request[38..42].copy_from_slice(&[10, 0, 2, 2]);
    // SAFETY: no device has these.
    unsafe {
        BUFFER.get().write([0xee; 2048]);
        let frame = &mut *FRAME.get();
        frame.fill(0);
        frame[header..header + 60].copy_from_slice(&request);
    }
    receive.offer(&[(BUFFER.address(), 2048, true)]);
    net.notify(&receive);
    transmit.offer(&[(FRAME.address(), header as u32 + 60, false)]);
    net.notify(&transmit);
    let came = time::wait_until(10 * time::FREQUENCY, || receive.ended() == 1 && transmit.ended() == 1);
    let answer = &bytes(header + 42)[header..];
    let is_right = answer[..6] == mac && answer[12..14] == [8, 6] && answer[20..22] == [0, 2];
    check!("a_frame_goes_out_and_one_comes_in", came);
    check!("right_behind_the_header", is_right && answer[28..32] == [10, 0, 2, 2]);
    check!("which_is_empty", bytes(10).iter().all(|byte| *byte == 0));
}
