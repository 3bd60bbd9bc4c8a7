//! Hot code: privileged instructions that are executed so often that a hypervisor may fetch them from somewhere else
//! than where the guest has put them. The guest must not be able to tell.

use crate::exec;
use crate::insn::{A0, RET, ZERO, csrrs, csrrw};
use guest_rt::isa::Exception;
use guest_rt::isa::csr::CsrAddr;
use guest_rt::{access, paging};

/// Runs after which code is surely hot, wherever a hypervisor draws the line. Some pages are heated more than once, and a
/// hypervisor may be slower with those.
pub const RUNS: u64 = 200;

/// sscratch's number.
pub const SSCRATCH: u32 = CsrAddr::SSCRATCH.as_u16() as u32;
/// sstatus's number.
pub const SSTATUS: u32 = CsrAddr::SSTATUS.as_u16() as u32;
/// sepc's number.
pub const SEPC: u32 = CsrAddr::SEPC.as_u16() as u32;

/// Moves a0 to sscratch.
pub const PUT: u32 = csrrw(ZERO, SSCRATCH, A0);
/// Moves sscratch to a0.
pub const GET: u32 = csrrs(A0, SSCRATCH, ZERO);
/// A function of two privileged instructions that gives its argument.
pub const ECHO: [u32; 3] = [PUT, GET, RET];

/// What a call came to: a0, or the exception.
pub type Returned = Result<u64, Option<Exception>>;

/// What the exception `exception` is as the end of a call.
pub const fn raised(exception: Exception) -> Returned {
    Err(Some(exception))
}

/// Calls the function at `address`.
pub fn call(address: u64, argument: u64) -> Returned {
    access::call(address, argument).map_err(|trap| Exception::from_code(trap.cause))
}

/// Calls the function at `address` [`RUNS`] times with arguments from 1000 on; gives how many calls did not come to
/// `want(argument)`.
pub fn wrong(address: u64, want: impl Fn(u64) -> Returned) -> u64 {
    (1000..1000 + RUNS).filter(|&argument| call(address, argument) != want(argument)).count() as u64
}

/// Makes the function at `address`, which gives its argument, hot; gives how many calls went wrong.
pub fn heat(address: u64) -> u64 {
    wrong(address, Ok)
}

/// A new frame with these instructions at its start, and [`ECHO`] at [`ECHO_AT`].
pub fn page(words: &[u32]) -> u64 {
    let page = paging::frame();
    exec::write(page + ECHO_AT, &ECHO);
    exec::write(page, words);
    page
}

/// Where in a [`page`] the function is that makes it hot.
pub const ECHO_AT: u64 = 0xc00;

/// Writes instructions by their halves, since a pair of them need not begin at a multiple of four.
pub fn write_halves(address: u64, halves: &[u16]) {
    for (slot, half) in (address..).step_by(2).zip(halves) {
        // SAFETY: inside a frame that was taken for code; no object of Rust's lies there.
        unsafe { (slot as *mut u16).write_volatile(*half) };
    }
    exec::fence_i();
}

/// The lower half of an instruction.
pub const fn low(word: u32) -> u16 {
    word as u16
}

/// The upper half of an instruction.
pub const fn high(word: u32) -> u16 {
    (word >> 16) as u16
}

/// Defines functions that give assembly as its halves, to be copied to a frame. No label may be outside. Instructions
/// have four bytes unless `.option rvc` says otherwise.
#[macro_export]
macro_rules! code {
    ($($(#[$meta:meta])* fn $name:ident = $($text:literal),+;)+) => {$(
        $(#[$meta])*
        #[inline(never)]
        fn $name() -> &'static [u16] {
            let (start, end): (*const u16, *const u16);
            // SAFETY: the code is data here, laid between two labels.
            unsafe {
                core::arch::asm!(
                    "lla {0}, 771f", "lla {1}, 772f",
                    ".pushsection .rodata", ".balign 4", ".option push", ".option arch, +d", ".option norelax",
                    ".option norvc", "771:", $($text,)+ "772:", ".option pop", ".popsection",
                    out(reg) start, out(reg) end, options(nomem, nostack));
                core::slice::from_raw_parts(start, end.offset_from_unsigned(start))
            }
        }
    )+};
}

/// A new frame with this code at its start, and [`ECHO`] at [`ECHO_AT`].
pub fn page_of(code: &[u16]) -> u64 {
    let page = page(&[]);
    write_halves(page, code);
    page
}
