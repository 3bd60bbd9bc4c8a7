//! Does one thing many times and exits with the ticks of `time` that it took: half of the shell's `bench`.
#![no_std]
#![no_main]

use user::abi::HEAP_BASE;
use user::cases::{MEASURES, Measure, PARTNER};
use user::{println, sys};

user::program!(main);

fn main(argument: usize) -> usize {
    if argument == PARTNER {
        loop {
            sys::yield_now();
        }
    }
    let Some(&(measure, times)) = MEASURES.get(argument) else {
        println!("measure: give a number below {}", MEASURES.len());
        return 0;
    };
    let action: fn(usize) = match measure {
        Measure::NullCall => |_| {
            sys::getpid();
        },
        Measure::PageFault => |turn| touch(HEAP_BASE as usize + turn * 4096),
        Measure::Switch => |_| sys::yield_now(),
    };
    let started = sys::time();
    for turn in 0..times {
        action(turn);
    }
    sys::time() - started
}

/// Writes to a page of the heap.
fn touch(address: usize) {
    // SAFETY: the heap is this program's, and nothing else uses it.
    unsafe { (address as *mut u8).write_volatile(1) }
}
