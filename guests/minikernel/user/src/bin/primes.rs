//! Computes without ever asking the kernel for anything: only the timer takes the hart away from it.
//!
//! `run primes N` counts the primes below N, or below two million.
#![no_std]
#![no_main]

use user::{println, sys};

user::program!(main);

fn main(argument: usize) -> usize {
    let limit = if argument == 0 { 2_000_000 } else { argument };
    let started = sys::uptime();
    let count = (2..limit).filter(|&number| is_prime(number)).count();
    println!("primes: {count} below {limit}, found in {} ms", (sys::uptime() - started) / 1000);
    0
}

/// Trial division: slow on purpose.
fn is_prime(number: usize) -> bool {
    (2..).take_while(|divisor| divisor * divisor <= number).all(|divisor| !number.is_multiple_of(divisor))
}
