//! What the feature guests share: their verdict, code made at run time, page-table set-ups and the suite of
//! the page walk.
//!
//! Each guest in `bin/` checks one feature from inside. All run on QEMU itself as well, which keeps the
//! checks honest: a check allows what the specification allows, no more, and where it must allow more on QEMU
//! it says why ([`native`]).
#![no_std]
#![cfg(target_arch = "riscv64")]

pub mod arena;
pub mod disk;
pub mod exec;
pub mod hart_state;
pub mod hot;
pub mod insn;
pub mod native;
pub mod poison;
pub mod random;
pub mod tree;
pub mod walk;

use guest_rt::isa::Exception;
use guest_rt::paging::{self, Mode};
use guest_rt::trap::Trap;

/// Makes a bin a feature guest: runs a `fn(hart: u64, device_tree: u64)` of checks and powers off with the
/// verdict.
#[macro_export]
macro_rules! feature {
    ($checks:path) => {
        fn main(hart: u64, device_tree: u64) {
            let checks: fn(u64, u64) = $checks;
            checks(hart, device_tree);
            guest_rt::check::finish(concat!(env!("CARGO_PKG_NAME"), "/", env!("CARGO_BIN_NAME")))
        }
        guest_rt::entry!(main);
    };
}

/// What an access came to: its value, or the exception and stval.
pub type Outcome<T> = Result<T, Fault>;

/// The part of a trap that the architecture fixes: the exception and stval.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fault {
    /// Which exception; `None` for a code that is not one of the specification's.
    pub exception: Option<Exception>,
    /// stval.
    pub tval: u64,
}

/// The fault that `exception` with `tval` is.
pub fn fault<T>(exception: Exception, tval: u64) -> Outcome<T> {
    Err(Fault { exception: Some(exception), tval })
}

/// Reduces a result to what can be compared.
pub fn outcome<T>(result: Result<T, Trap>) -> Outcome<T> {
    result.map_err(|trap| Fault { exception: Exception::from_code(trap.cause), tval: trap.tval })
}

/// Which exception a result is, if one.
pub fn exception<T>(result: Result<T, Trap>) -> Option<Exception> {
    result.err().and_then(|trap| Exception::from_code(trap.cause))
}

/// The translation modes to test in: those of Sv39 and Sv48 that the hart has. Sv39 is never missing.
pub fn modes() -> impl Iterator<Item = Mode> {
    [Mode::Sv39, Mode::Sv48].into_iter().filter(|&mode| paging::supports(mode))
}

/// What follows `key` in the kernel command line, up to the next space: for guests that play one of several roles.
///
/// # Panics
/// Where it is not there.
pub fn role(device_tree: u64, key: &str) -> &'static str {
    let tree = tree::bytes(device_tree);
    let at = tree.windows(key.len()).position(|window| window == key.as_bytes());
    let value = at.and_then(|at| tree.get(at + key.len()..)).unwrap_or(&[]);
    let len = value.iter().position(|byte| matches!(byte, 0 | b' ')).unwrap_or(0);
    match core::str::from_utf8(&value[..len]) {
        Ok(value) if !value.is_empty() => value,
        _ => panic!("no {key} in the command line"),
    }
}
