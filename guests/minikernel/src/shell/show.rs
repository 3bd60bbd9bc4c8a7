//! The commands that only show something: `ps`, `cpu`, `mem` and `uptime`.

use crate::firmware::{EXTENSIONS, Firmware};
use crate::kernel::Kernel;
use crate::memory::PAGE;
use crate::memory::table::Census;
use core::ops::Range;
use guest_rt::{csr_read, image, print, println, sbi};

/// `ps`.
pub fn processes(kernel: &Kernel) {
    println!("  PID  STATE     ASID  PAGES   CPU ms     CALLS  PROGRAM");
    for (process, state) in kernel.processes() {
        println!(
            "{:5}  {state:8}  {:4}  {:5}  {:7}  {:8}  {}",
            process.pid,
            process.space.asid(),
            process.space.census().leaves[0],
            kernel.microseconds(process.run_time) / 1000,
            process.calls,
            process.program.name
        );
    }
    if kernel.processes().next().is_none() {
        println!("  none; `run primes &` starts one in the background");
    }
}

/// `uptime`.
pub fn uptime(kernel: &Kernel) {
    let milliseconds = kernel.uptime() / 1000;
    let (seconds, rest) = (milliseconds / 1000, milliseconds % 1000);
    let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
    println!(
        "up {hours}:{minutes:02}:{:02}.{rest:03}; processes: {}",
        seconds % 60,
        kernel.processes().count()
    );
}

/// `cpu`.
pub fn hart(kernel: &Kernel) {
    let machine = &kernel.machine;
    println!("hart        {} of {} on {}", machine.hart, machine.harts, machine.model);
    println!("isa         {}", machine.isa);
    println!("mmu         {}; Sv39 in use, {} ASID bits", machine.mmu, kernel.asid_bits);
    println!("timebase    {} Hz", machine.timebase);
    println!("firmware    {}", Firmware::ask());
    print!("extensions ");
    for (name, number) in EXTENSIONS {
        if sbi::probe(number) {
            print!(" {name}");
        }
    }
    println!("\n");
    let csrs = [
        ("sstatus", csr_read!(SSTATUS)),
        ("sie", csr_read!(SIE)),
        ("sip", csr_read!(SIP)),
        ("stvec", csr_read!(STVEC)),
        ("sscratch", csr_read!(SSCRATCH)),
        ("sepc", csr_read!(SEPC)),
        ("scause", csr_read!(SCAUSE)),
        ("stval", csr_read!(STVAL)),
        ("scounteren", csr_read!(SCOUNTEREN)),
        ("satp", csr_read!(SATP)),
    ];
    for (name, value) in csrs {
        println!("{name:11} {value:#018x}");
    }
}

/// `mem`.
pub fn memory(kernel: &Kernel) {
    let ram = &kernel.machine.memory;
    let kib = |range: &Range<u64>| (range.end - range.start) / 1024;
    println!("ram       {:#x}..{:#x}  {} MiB", ram.start, ram.end, kib(ram) / 1024);
    for (name, range, access) in [
        ("code", image::text(), "r-x"),
        ("constants", image::rodata(), "r--"),
        ("data", image::data(), "rw-"),
    ] {
        println!("{name:9} {:#x}..{:#x}  {access}  {} KiB", range.start, range.end, kib(&range));
    }
    for range in &kernel.machine.reserved {
        println!("reserved  {:#x}..{:#x}  {} KiB", range.start, range.end, kib(range).max(1));
    }
    let (used, total) = (kernel.frames.used(), kernel.frames.total());
    let free = total - used;
    println!("frames    {used} used, {free} free of {total} ({} MiB free)", (free as u64 * PAGE) >> 20);
    println!();
    println!("TABLE             TABLES  4 KiB  2 MiB  1 GiB  SATP");
    let line = |pid: u32, name: &str, census: Census, satp: u64| {
        let [small, large, huge] = census.leaves;
        println!("{pid:5} {name:10}  {:6}  {small:5}  {large:5}  {huge:5}  {satp:#018x}", census.tables);
    };
    line(0, "kernel", kernel.table.census(false), kernel.table.satp(0));
    for (process, _) in kernel.processes() {
        line(process.pid, process.program.name, process.space.census(), process.space.satp());
    }
}
