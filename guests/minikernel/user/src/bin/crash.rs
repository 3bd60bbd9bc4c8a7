//! Fails in the way that its number says; the kernel must end it and live on. Exits with 0 only if nothing
//! stopped it. The shell's `fault` runs it once for each entry of `FAULTS`.
#![no_std]
#![no_main]

use core::arch::asm;
use core::hint::black_box;
use user::abi::HEAP_BASE;
use user::cases::{FAULTS, Fault};
use user::println;

user::program!(main);

fn main(argument: usize) -> usize {
    let Some(&(fault, _)) = FAULTS.get(argument) else {
        println!("crash: give a number below {}", FAULTS.len());
        return 1;
    };
    let code = main as *const () as usize;
    match fault {
        Fault::ReadNull => load(0),
        // SAFETY: none; the store must not succeed.
        Fault::WriteCode => unsafe { asm!("sb zero, 0({})", in(reg) code) },
        // SAFETY: none; the jump must not succeed.
        Fault::RunHeap => unsafe { asm!("jr {}", in(reg) HEAP_BASE) },
        Fault::ReadKernel => load(0x8020_0000),
        Fault::OverflowStack => {
            overflow(0);
        }
        // SAFETY: none; each must trap.
        Fault::Illegal => unsafe { asm!("unimp") },
        // SAFETY: as above.
        Fault::WriteCsr => unsafe { asm!("csrw sscratch, zero") },
        // SAFETY: as above.
        Fault::Breakpoint => unsafe { asm!("ebreak") },
    }
    0
}

/// Loads from an address that must not be readable. By assembly: the compiler takes such a load for a mistake.
fn load(address: usize) {
    // SAFETY: none; the load must not succeed.
    unsafe { asm!("lb zero, 0({})", in(reg) address) }
}

/// Uses more stack at each call, and has something left to do after it, so that it is a call.
#[allow(unconditional_recursion)]
fn overflow(depth: usize) -> usize {
    let room = black_box([depth; 64]);
    overflow(depth + 1) + room[depth % 64]
}
