//! Code made at run time: instructions that no assembler would write, or that a table lists.

use crate::insn::{self, A0, ZERO};
use core::arch::asm;
use guest_rt::access;
use guest_rt::paging::{self, LazyFrame};
use guest_rt::trap::Trap;

/// Writes instructions to `address`, which must be a frame of the pool that can be written there, and makes
/// the hart's fetches see them.
pub fn write(address: u64, words: &[u32]) {
    for (slot, word) in (address..).step_by(4).zip(words) {
        // SAFETY: inside a frame that was taken for code; no object of Rust's lies there.
        unsafe { (slot as *mut u32).write_volatile(*word) };
    }
    fence_i();
}

/// FENCE.I.
pub fn fence_i() {
    // SAFETY: a fence.
    unsafe { asm!("fence.i", options(nostack)) };
}

/// A new frame that holds `words`; gives its physical address.
pub fn page(words: &[u32]) -> u64 {
    let page = paging::frame();
    write(page, words);
    page
}

/// Runs `words` in supervisor mode as a function of a0 that gives a0, or says which trap came first.
pub fn run(words: &[u32], a0: u64) -> Result<u64, Trap> {
    /// One page for all runs.
    static PAGE: LazyFrame = LazyFrame::new();
    let page = PAGE.address();
    write(page + 4 * words.len() as u64, &[insn::RET]);
    write(page, words);
    access::call(page, a0)
}

/// Reads the CSR of any number.
pub fn read_csr(csr: u32) -> Result<u64, Trap> {
    run(&[insn::csrrs(A0, csr, ZERO)], 0)
}

/// Writes the CSR of any number; gives what it held before.
pub fn write_csr(csr: u32, value: u64) -> Result<u64, Trap> {
    run(&[insn::csrrw(A0, csr, A0)], value)
}
