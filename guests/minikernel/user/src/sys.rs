//! The system calls as functions.

use crate::abi::Syscall;
use core::arch::asm;

fn call(call: Syscall, a0: usize, a1: usize) -> isize {
    let result;
    // SAFETY: the kernel preserves all registers but a0, and reads at most the memory that a call names.
    unsafe {
        asm!("ecall", inlateout("a0") a0 as isize => result, in("a1") a1, in("a7") call as usize,
            options(nostack));
    }
    result
}

/// Writes bytes to the console and gives how many.
pub fn write(bytes: &[u8]) -> isize {
    call(Syscall::Write, bytes.as_ptr() as usize, bytes.len())
}

/// Lets the other processes run first. `yield` is a keyword.
pub fn yield_now() {
    call(Syscall::Yield, 0, 0);
}

/// Sleeps for at least so many milliseconds.
pub fn sleep(milliseconds: usize) {
    call(Syscall::Sleep, milliseconds, 0);
}

/// This process's number.
pub fn getpid() -> isize {
    call(Syscall::GetPid, 0, 0)
}

/// Microseconds since boot.
pub fn uptime() -> isize {
    call(Syscall::Uptime, 0, 0)
}

/// Ends this process.
pub fn exit(status: usize) -> ! {
    loop {
        call(Syscall::Exit, status, 0);
    }
}

/// The hart's time counter, read without the kernel's help.
pub fn time() -> usize {
    let ticks;
    // SAFETY: reading a counter touches no memory.
    unsafe { asm!("rdtime {}", out(reg) ticks, options(nomem, nostack)) };
    ticks
}
