//! The smallest program worth running: says who it is, and ends.
#![no_std]
#![no_main]

use user::{println, sys};

user::program!(main);

fn main(_argument: usize) -> usize {
    let up = sys::uptime();
    println!("Hello from user mode!");
    println!(
        "I am process {}, and the machine has been up for {}.{:06} s.",
        sys::getpid(),
        up / 1_000_000,
        up % 1_000_000
    );
    0
}
