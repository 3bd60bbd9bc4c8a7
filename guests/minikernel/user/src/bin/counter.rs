//! Counts and sleeps in between, so that it costs the hart next to nothing: the opposite of `primes`.
//!
//! `run counter N` counts to N, or to 5.
#![no_std]
#![no_main]

use user::{println, sys};

user::program!(main);

/// Milliseconds between two lines.
const PAUSE: usize = 500;

fn main(argument: usize) -> usize {
    let last = if argument == 0 { 5 } else { argument };
    for number in 1..=last {
        println!("counter {}: {number} of {last}", sys::getpid());
        if number < last {
            sys::sleep(PAUSE);
        }
    }
    0
}
