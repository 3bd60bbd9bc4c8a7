//! Says what it was given, for the harness to compare: `inputs=code` where it runs and what its code and constants are,
//! `inputs=disk` its RAM disk, `inputs=typed` what is typed to it.
#![no_std]
#![no_main]

use features::{role, tree};
use guest_rt::{image, mmio, println, time};

guest_rt::entry!(main);

/// Bytes that somebody has to type.
const TYPED: usize = 4096;
/// Ticks that the next one may take.
const PATIENCE: u64 = 60 * time::FREQUENCY;
/// The byte of the operator's escape key.
const ESCAPE: u8 = 0x1d;
/// Bytes of a RAM disk of which one is looked at.
const PAGE: usize = 4096;
const EDGE: usize = 8;

const FCR: u64 = mmio::UART + 2;
const LSR: u64 = mmio::UART + 5;

fn main(_hart: u64, device_tree: u64) {
    match role(device_tree, "inputs=") {
        "code" => code(),
        "disk" => disk(device_tree),
        "typed" => typed(),
        role => panic!("inputs={role} is no role"),
    }
}

fn code() {
    let (start, end) = (image::text().start, image::rodata().end);
    println!("inputs: {start:#x} to {end:#x}, sum {:016x}", sum(bytes(start, end)));
}

fn disk(device_tree: u64) {
    let address =
        |name| tree::property(device_tree, name).iter().fold(0, |all, byte| all << 8 | u64::from(*byte));
    let (start, end) = (address("linux,initrd-start"), address("linux,initrd-end"));
    let disk = bytes(start, end);
    let (first, last) = (&disk[..EDGE], &disk[disk.len() - EDGE..]);
    println!("inputs: {} bytes, first {first:02x?}, last {last:02x?}", disk.len());
    println!("inputs: sum of pages {:016x}", sum(disk.iter().step_by(PAGE)));
}

fn typed() {
    // FIFOs on and empty.
    mmio::write8(FCR, 7);
    println!("inputs: type {TYPED} bytes");
    let mut all = [0; TYPED];
    let mut len = 0;
    while len < TYPED && time::wait_until(PATIENCE, || mmio::read8(LSR) & 1 != 0) {
        all[len] = mmio::read8(mmio::UART);
        len += 1;
    }
    let all = &all[..len];
    let escapes = all.iter().filter(|byte| **byte == ESCAPE).count();
    println!("inputs: {len} bytes, {escapes} of them {ESCAPE:#x}, sum {:016x}", sum(all));
}

fn bytes(start: u64, end: u64) -> &'static [u8] {
    // SAFETY: RAM that holds what this guest was started with, which nobody writes.
    unsafe { core::slice::from_raw_parts(start as *const u8, (end - start) as usize) }
}

/// FNV-1a.
fn sum<'a>(bytes: impl IntoIterator<Item = &'a u8>) -> u64 {
    let mix = |sum: u64, byte: &u8| (sum ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    bytes.into_iter().fold(0xcbf2_9ce4_8422_2325, mix)
}
