//! The other one of the two guests of `attack`, where it needs page tables or code made at run time, for which it takes some
//! megabytes: the guests of `attack` start quickly.
#![no_std]
#![no_main]

use features::{exec, role};
use guest_rt::paging::{self, Mode, PAGE, Pte, Tables};
use guest_rt::println;

guest_rt::entry!(main);

fn main(_hart: u64, device_tree: u64) {
    match role(device_tree, "attack=") {
        "fences" => fence_changed_tables(),
        "complaints" => complain(),
        other => panic!("attack={other} is no role"),
    }
}

/// Tables whose entries a fence compares, in each of the spaces that are entered in turn.
const TABLES: u64 = 128;
const SPACES: u64 = 3;

/// Changes all tables of large address spaces without ASIDs and fences, again and again: nothing of what was known before may
/// be used without a look at it.
fn fence_changed_tables() -> ! {
    let page = paging::frame();
    let spaces = [(); SPACES as usize].map(|()| Tables::with_kernel(Mode::Sv39));
    let pages = || (0..TABLES * 512).map(|number| MAPPED + number * PAGE);
    for space in &spaces {
        pages().for_each(|address| space.map(address, page, 0, paging::RW));
    }
    println!("fences: begin");
    for round in 0_u64.. {
        for space in &spaces {
            space.activate(0);
            pages().for_each(|address| {
                // SAFETY: mapped, and nothing of Rust's lies there.
                unsafe { (address as *const u64).read_volatile() };
            });
            // One of the bits that are left to software, in one entry of each table.
            for address in pages().step_by(512) {
                let entry = space.get(address, 0);
                space.set(address, 0, Pte(entry.0 ^ 1 << 8));
            }
            paging::fence_all();
        }
        if round == 0 {
            println!("fences: again");
        }
    }
    unreachable!("there is no end of it")
}

/// Where the spaces of `fence_changed_tables` have their pages.
const MAPPED: u64 = 0x10_0000_0000;

/// Makes firmware that complains of instructions print.
fn complain() -> ! {
    println!("complaints: begin");
    let mut count = 0_u32;
    loop {
        // SYSTEM with funct3 = 0 and rd = x1: reserved. Another one each time.
        let refused = exec::run(&[0x73 | 1 << 7 | count << 20], 0);
        assert!(refused.is_err(), "it is illegal");
        count = count.wrapping_add(1) % (1 << 12);
    }
}
