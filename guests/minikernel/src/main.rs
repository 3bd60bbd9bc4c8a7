//! minikernel: a small kernel to read, and Hypocaust's demo.
//!
//! It runs in supervisor mode on QEMU's `virt` machine with any SBI firmware, or as a guest of Hypocaust, and is
//! entered at 0x8020_0000 with the hart's id in a0 and the device tree's address in a1 (`guest_rt`'s entry).
//! This file is the way from there to the shell's prompt. README.md is a tour of the rest.
#![no_std]
#![no_main]

mod firmware;
mod input;
mod kernel;
mod machine;
mod memory;
mod plic;
mod process;
mod programs;
mod screen;
mod shell;
mod syscall;
mod timer;
mod trap;

use firmware::Firmware;
use guest_rt::isa::csr::scounteren;
use guest_rt::{csr_write, image, println};
use kernel::Kernel;
use machine::Machine;
use memory::frames::Frames;
use memory::table::PageTable;

guest_rt::entry!(main);

fn main(hart: u64, device_tree: u64) {
    // SAFETY: these are the firmware's a0 and a1, and nothing was written to memory but our own data.
    let machine = match unsafe { Machine::read(device_tree, hart) } {
        Ok(machine) => machine,
        Err(missing) => panic!("the device tree lacks {}", missing.0),
    };
    // SAFETY: what follows the image is nobody's but for the reserved ranges, and the kernel's table, built
    // next, maps all of it one to one.
    let mut frames = unsafe { Frames::new(image::data().end..machine.memory.end, machine.reserved.clone()) };
    let table =
        PageTable::kernel(&mut frames, &machine).expect("there is memory for the kernel's page tables");
    print_banner(&machine, &frames);

    let kernel = Kernel::new(machine, frames, table);
    input::install(&kernel.machine);
    // Programs may read the clock themselves, but no other counter.
    csr_write!(SCOUNTEREN, scounteren::TM);
    trap::install();
    shell::run(kernel)
}

fn print_banner(machine: &Machine, frames: &Frames) {
    let firmware = Firmware::ask();
    let mib = |bytes: u64| bytes >> 20;
    let memory = &machine.memory;
    println!();
    println!("minikernel {} on {}", env!("CARGO_PKG_VERSION"), machine.model);
    println!();
    println!("  firmware   {firmware}");
    println!("  hart       {} of {}, {}", machine.hart, machine.harts, machine.mmu);
    println!("  isa        {}", machine.isa);
    println!("  timebase   {} Hz", machine.timebase);
    println!(
        "  memory     {} MiB at {:#x}, {} MiB free",
        mib(memory.end - memory.start),
        memory.start,
        mib((frames.total() - frames.used()) as u64 * memory::PAGE)
    );
    println!();
    println!("Type `help` for the commands, or try `run hello`.");
}
