//! The agreement between kernel and programs: system calls, and where things lie in a user address space.
//!
//! A call is an `ecall` with its number in a7 and up to two arguments in a0 and a1. The result comes back in
//! a0, negative for an [`Error`]; every other register keeps its value.

/// A system call, by its number in a7.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(usize)]
pub enum Syscall {
    /// `write(address, length)` to the console. Gives the length.
    Write = 0,
    /// `yield()`: let the others run first.
    Yield = 1,
    /// `sleep(milliseconds)`.
    Sleep = 2,
    /// `getpid()`. Gives the process number.
    GetPid = 3,
    /// `exit(status)`. Does not return.
    Exit = 4,
    /// `uptime()`. Gives microseconds since boot.
    Uptime = 5,
}

impl Syscall {
    /// The call with this number.
    pub const fn from_number(number: u64) -> Option<Self> {
        Some(match number {
            0 => Self::Write,
            1 => Self::Yield,
            2 => Self::Sleep,
            3 => Self::GetPid,
            4 => Self::Exit,
            5 => Self::Uptime,
            _ => return None,
        })
    }
}

/// Why a call failed: the negative number in a0.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(isize)]
pub enum Error {
    /// There is no such call.
    NoSuchCall = -1,
    /// Part of the memory named is not the program's to read.
    BadAddress = -2,
}

/// The first address of a program's image. All addresses below here and from [`USER_END`] on are the kernel's.
pub const USER_BASE: u64 = 0x4000_0000;
/// The heap: zero pages that appear when they are first touched.
pub const HEAP_BASE: u64 = 0x5000_0000;
/// Bytes of heap.
pub const HEAP_SIZE: u64 = 0x10_0000;
/// The stack grows down from here, by a page whenever the next one is touched.
pub const STACK_TOP: u64 = 0x7000_0000;
/// Bytes to which the stack may grow; below lies unmapped memory.
pub const STACK_SIZE: u64 = 0x1_0000;
/// The first address after user space.
pub const USER_END: u64 = 0x8000_0000;
