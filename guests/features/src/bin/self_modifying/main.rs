//! Code that changes: pages of random instructions, privileged ones among them, are run, stored to in every way, mapped
//! elsewhere and run again. What each run has come to is summed up, and has to be the same as on QEMU's own hart: the sum is part
//! of the check's name.
//!
//! Only what the specification defines is done: each store is followed by FENCE.I before what it wrote is executed, each
//! change of a page table by a fence. An SC that fails is tried again. Command line, where others are
//! wanted: `seeds=FIRST to=LAST`, and `trace=SEED` to print each step of one, with a sum of each page.
#![no_std]
#![no_main]

mod code;
mod harness;
mod sandbox;

use guest_rt::{check, csr_clear, csr_write, paging, println};
use harness::Harness;

features::feature!(checks);

/// Steps of a seed.
const STEPS: u64 = 160;

fn checks(_hart: u64, device_tree: u64) {
    let text = features::tree::bytes(device_tree);
    let number = |key: &str| number(text, key);
    let (first, last) = (number("seeds=").unwrap_or(1), number("to=").unwrap_or(8));
    let trace = number("trace=");
    let mut harness = Harness::new();
    for seed in first..=last {
        let traced = trace == Some(seed);
        let sum = harness.run(seed, STEPS, traced, |step, text, sum| {
            if traced {
                println!("{seed} {step}: {text} {sum:016x}");
            }
        });
        csr_write!(SATP, 0);
        paging::fence_all();
        // Firmware may have printed something in front.
        println!();
        check!(format_args!("seed_{seed}_comes_to_{sum:016x}"), true);
    }
    csr_clear!(SIE, u64::MAX);
}

/// The decimal number behind `key` in the command line.
fn number(text: &[u8], key: &str) -> Option<u64> {
    let at = text.windows(key.len()).position(|window| window == key.as_bytes())?;
    let digits = text[at + key.len()..].iter().take_while(|byte| byte.is_ascii_digit());
    Some(digits.fold(0, |number, digit| number * 10 + u64::from(digit - b'0')))
}
