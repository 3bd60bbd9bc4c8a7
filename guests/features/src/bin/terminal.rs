//! One of several guests on one terminal. Its kernel command line says which: `terminal=ask` sends all that a terminal would
//! answer, and a line in another guest's name; `terminal=hide` hides what will be said of its end, and ends;
//! `terminal=listen` says how much was typed to it.
#![no_std]
#![no_main]

use core::arch::asm;
use features::role;
use guest_rt::{console, csr_write, finisher, mmio, print, println, time};

guest_rt::entry!(main);

/// What terminals answer: reports, ENQ, settings, checksums, what is kept in them; in all ways of writing it.
const QUESTIONS: &[&[u8]] = &[
    b"\x1b[6n",
    b"\x1b[c",
    b"\x1b[>c",
    b"\x1b[?6n",
    b"\x1b[18t",
    b"\x1b[21t",
    b"\x1b[?u",
    b"\x1b[>q",
    b"\x1b[?2026$p",
    b"\x1b[1;1;1;1;1;1*y",
    b"\x1b[?1;1;0S",
    b"\x1b[1x",
    b"\x1b[?4m",
    b"\x1bZ",
    b"\x05",
    b"\x1b]4;1;?\x07",
    b"\x1b]10;?\x1b\\",
    b"\x1b]52;c;?\x07",
    b"\x1bP$qm\x1b\\",
    b"\x1bP+q544e\x1b\\",
    b"\x1b]2;poweroff\x07",
    b"\xc2\x9b6n",
    b"\xc2\x90$qm\x1b\\",
    b"\x9b6n",
    b"\x1b[6\x08n",
];
/// Rewrites another guest's line, by the cursor and at the end of a row.
const FORGERY: &[u8] = b"\x1b[2J\x1b[1;1Hlisten| forged\x1b[A\rlisten| forged\r\x1b7\x1b8\x1bM";
/// The key that ends the guest that listens.
const END: u8 = b'q';

fn main(_hart: u64, device_tree: u64) {
    match role(device_tree, "terminal=") {
        "ask" => ask(),
        "hide" => hide(),
        "listen" => listen(),
        role => panic!("terminal={role} is no role"),
    }
    finisher::pass();
}

fn ask() {
    for question in QUESTIONS {
        question.iter().for_each(|byte| console::put(*byte));
        println!("asked");
    }
    FORGERY.iter().for_each(|byte| console::put(*byte));
    (0..76).for_each(|_| console::put(b' '));
    println!("listen| forged");
    println!("ask: end");
    typed();
}

fn hide() {
    println!("hide: ready");
    typed();
    print!("login: \x1b[8m\x1b]0;");
    csr_write!(STVEC, 0x4000u64);
    // SAFETY: never comes back.
    unsafe { asm!("ebreak") };
}

fn listen() {
    // The others have written by then.
    time::spin(time::FREQUENCY / 5);
    println!("listen: ready");
    let mut bytes = 0;
    while typed() != END {
        bytes += 1;
    }
    println!("listen: {bytes} bytes");
}

/// Waits for a byte.
fn typed() -> u8 {
    while mmio::read8(mmio::UART + 5) & 1 == 0 {}
    mmio::read8(mmio::UART)
}
