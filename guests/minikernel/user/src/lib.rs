//! What user programs share: the system-call numbers and address-space layout, which the kernel includes too
//! ([`abi`], [`cases`]), and the library that wraps the calls ([`sys`]), prints
//! ([`print`]) and has a program's entry ([`program`](mod@program)).
//!
//! A program is one file in `src/bin`: it says [`program!`] and gives a `fn(usize) -> usize` that takes the
//! number typed after its name and returns its exit status.
#![no_std]

pub mod abi;
pub mod cases;
#[cfg(target_arch = "riscv64")]
pub mod print;
#[cfg(target_arch = "riscv64")]
pub mod program;
#[cfg(target_arch = "riscv64")]
pub mod sys;
