//! Single accesses that may fault: each is exactly one instruction of the width that is asked for.

use crate::trap::{Trap, catch};
use core::arch::asm;
use isa::Width;

/// Loads `width` at `address`, zero-extended, or says which trap that took.
pub fn load(width: Width, address: u64) -> Result<u64, Trap> {
    let mut value = 0;
    // SAFETY: one load, whose trap is expected; reading may have no effect on Rust's memory.
    let trap = catch(|| unsafe {
        match width {
            Width::Byte => asm!("lbu {0}, 0({1})", inout(reg) value, in(reg) address, options(nostack)),
            Width::Half => asm!("lhu {0}, 0({1})", inout(reg) value, in(reg) address, options(nostack)),
            Width::Word => asm!("lwu {0}, 0({1})", inout(reg) value, in(reg) address, options(nostack)),
            Width::Double => asm!("ld {0}, 0({1})", inout(reg) value, in(reg) address, options(nostack)),
        }
    });
    trap.map_or(Ok(value), Err)
}

/// Stores the low `width` of `value` at `address`, or says which trap that took. The caller picks an
/// address that no Rust object lies at, or one that it owns.
pub fn store(width: Width, address: u64, value: u64) -> Result<(), Trap> {
    // SAFETY: one store to memory that the caller answers for, whose trap is expected.
    let trap = catch(|| unsafe {
        match width {
            Width::Byte => asm!("sb {0}, 0({1})", in(reg) value, in(reg) address, options(nostack)),
            Width::Half => asm!("sh {0}, 0({1})", in(reg) value, in(reg) address, options(nostack)),
            Width::Word => asm!("sw {0}, 0({1})", in(reg) value, in(reg) address, options(nostack)),
            Width::Double => asm!("sd {0}, 0({1})", in(reg) value, in(reg) address, options(nostack)),
        }
    });
    trap.map_or(Ok(()), Err)
}

/// Calls the code at `address` with `argument` in a0 and gives a0, or says which trap that took. The code
/// is a function of the C calling convention, or an address that cannot be fetched from.
pub fn call(address: u64, argument: u64) -> Result<u64, Trap> {
    let mut value = argument;
    // SAFETY: a call of a function that keeps to the convention; if its fetch faults, the vector returns
    // to ra, which the call has set.
    let trap = catch(|| unsafe {
        asm!("jalr ra, 0({0})", in(reg) address, inlateout("a0") value, clobber_abi("C"));
    });
    trap.map_or(Ok(value), Err)
}
