//! System calls, and the program's two ends: its entry and its panic.
//!
//! Numbers and layouts are those of Linux on riscv64 (include/uapi/asm-generic). A failed call stops the
//! measurement with a message: there is nothing to recover.

use core::arch::{asm, global_asm};
use core::sync::atomic::{AtomicI32, AtomicU64, Ordering::Relaxed};

const MKDIRAT: usize = 34;
const IOCTL: usize = 29;
const MOUNT: usize = 40;
const OPENAT: usize = 56;
const PIPE2: usize = 59;
const READ: usize = 63;
const WRITE: usize = 64;
const EXIT: usize = 93;
const NANOSLEEP: usize = 101;
const CLOCK_GETRES: usize = 114;
const KILL: usize = 129;
const SIGACTION: usize = 134;
const REBOOT: usize = 142;
const GETPID: usize = 172;
const GETPPID: usize = 173;
const MUNMAP: usize = 215;
const CLONE: usize = 220;
const EXECVE: usize = 221;
const MMAP: usize = 222;
const MADVISE: usize = 233;
const WAIT4: usize = 260;

/// The directory that `openat` and `mkdirat` start from: the current one.
const AT_FDCWD: usize = -100_isize as usize;
const SIGCHLD: usize = 17;
const SIGUSR1: usize = 10;

/// Bytes in a page.
pub const PAGE: usize = 4096;

/// Standard output, or the console once [`open_console`] has run.
static CONSOLE: AtomicI32 = AtomicI32::new(1);
/// Signals that the handler has seen.
static SIGNALS: AtomicU64 = AtomicU64::new(0);

// The kernel enters with sp at argc and nothing else set.
global_asm!(
    r"
    .pushsection .text
    .globl _start
    _start:
        andi sp, sp, -16
        call {main}
        unimp
    .popsection
    ",
    main = sym start,
);

unsafe extern "Rust" {
    /// What a program of this package defines with [`entry!`](crate::entry).
    safe fn linux_bench_main();
}

/// Names the function that the program begins with.
#[macro_export]
macro_rules! entry {
    ($function:path) => {
        // SAFETY: the name is this package's own, and each program defines it once.
        #[unsafe(no_mangle)]
        fn linux_bench_main() {
            $function();
        }
    };
}

extern "C" fn start() -> ! {
    linux_bench_main();
    exit(0)
}

/// Calls the kernel.
///
/// # Safety
/// The arguments must be right for the call: pointers valid for what it reads and writes, and memory that
/// it maps or unmaps not in use.
unsafe fn call(number: usize, arguments: [usize; 6]) -> isize {
    let result;
    // SAFETY: Linux preserves all registers but a0; the rest is the caller's word.
    unsafe {
        asm!("ecall", in("a7") number, inlateout("a0") arguments[0] => result, in("a1") arguments[1],
            in("a2") arguments[2], in("a3") arguments[3], in("a4") arguments[4], in("a5") arguments[5],
            options(nostack));
    }
    result
}

/// A call that takes no pointer, so that it cannot harm this program's memory.
fn plain(number: usize, arguments: [usize; 6]) -> isize {
    // SAFETY: only calls without pointers are made through this function.
    unsafe { call(number, arguments) }
}

/// A result, or the end of the program with a message that names the call.
fn must(name: &str, result: isize) -> usize {
    match usize::try_from(result) {
        Ok(value) => value,
        Err(_) => panic!("{name}: error {}", -result),
    }
}

/// The time CSR.
#[inline(always)]
pub fn time() -> u64 {
    let time;
    // SAFETY: reading the time touches nothing.
    unsafe { asm!("rdtime {}", out(reg) time, options(nomem, nostack)) };
    time
}

/// Mounts /dev and makes its console the place that [`write`] writes to.
pub fn open_console() {
    // SAFETY: the strings end with a zero and live for ever.
    unsafe {
        // The directory may exist already.
        call(MKDIRAT, [AT_FDCWD, c"/dev".as_ptr() as usize, 0o755, 0, 0, 0]);
        let devtmpfs = c"devtmpfs".as_ptr() as usize;
        must("mount", call(MOUNT, [devtmpfs, c"/dev".as_ptr() as usize, devtmpfs, 0, 0, 0]));
    }
    CONSOLE.store(open(c"/dev/console"), Relaxed);
}

/// Opens a file for reading and writing.
pub fn open(path: &core::ffi::CStr) -> i32 {
    const O_RDWR: usize = 2;
    // SAFETY: the path is a string that ends with a zero.
    must("open", unsafe { call(OPENAT, [AT_FDCWD, path.as_ptr() as usize, O_RDWR, 0, 0, 0]) }) as i32
}

/// Writes to the console and waits until its last byte has left, so that nothing of it is measured later.
pub fn print(text: &[u8]) {
    const TCSBRK: usize = 0x5409;
    let console = CONSOLE.load(Relaxed);
    let mut rest = text;
    while !rest.is_empty() {
        let written = write(console, rest);
        rest = rest.get(written..).unwrap_or_default();
    }
    plain(IOCTL, [console as usize, TCSBRK, 1, 0, 0, 0]);
}

/// Reads into `bytes`; gives how many came.
pub fn read(file: i32, bytes: &mut [u8]) -> usize {
    // SAFETY: the kernel writes at most `len` bytes there.
    must("read", unsafe { call(READ, [file as usize, bytes.as_mut_ptr() as usize, bytes.len(), 0, 0, 0]) })
}

/// Writes `bytes`; gives how many were taken.
pub fn write(file: i32, bytes: &[u8]) -> usize {
    // SAFETY: the kernel only reads them.
    must("write", unsafe { call(WRITE, [file as usize, bytes.as_ptr() as usize, bytes.len(), 0, 0, 0]) })
}

/// A pipe: its reading and its writing end.
pub fn pipe() -> [i32; 2] {
    let mut ends = [0; 2];
    // SAFETY: the kernel writes two numbers there.
    must("pipe2", unsafe { call(PIPE2, [ends.as_mut_ptr() as usize, 0, 0, 0, 0, 0]) });
    ends
}

/// Sleeps.
pub fn sleep(seconds: i64) {
    let time = [seconds, 0];
    // SAFETY: the kernel reads a timespec, two 64-bit numbers.
    unsafe { call(NANOSLEEP, [time.as_ptr() as usize, 0, 0, 0, 0, 0]) };
}

/// Nanoseconds between two timer ticks: what the coarse clock resolves.
pub fn tick_length() -> u64 {
    const CLOCK_REALTIME_COARSE: usize = 5;
    let mut time = [0_u64; 2];
    let place = time.as_mut_ptr() as usize;
    // SAFETY: the kernel writes a timespec, two 64-bit numbers.
    must("clock_getres", unsafe { call(CLOCK_GETRES, [CLOCK_REALTIME_COARSE, place, 0, 0, 0, 0]) });
    time[1]
}

/// The identity of the parent; as a call that does nothing.
#[inline(always)]
pub fn getppid() {
    plain(GETPPID, [0; 6]);
}

/// Maps private anonymous memory without huge pages and gives its address.
pub fn map(len: usize) -> *mut u8 {
    const PROT_READ_WRITE: usize = 3;
    const MAP_PRIVATE_ANONYMOUS: usize = 0x22;
    const MADV_NOHUGEPAGE: usize = 15;
    let address = must("mmap", plain(MMAP, [0, len, PROT_READ_WRITE, MAP_PRIVATE_ANONYMOUS, usize::MAX, 0]));
    if len > PAGE {
        // A kernel without huge pages refuses, which is as good.
        plain(MADVISE, [address, len, MADV_NOHUGEPAGE, 0, 0, 0]);
    }
    address as *mut u8
}

/// Unmaps memory that [`map`] gave.
///
/// # Safety
/// Nothing may use the memory afterwards.
pub unsafe fn unmap(address: *mut u8, len: usize) {
    // SAFETY: the caller's word.
    must("munmap", unsafe { call(MUNMAP, [address as usize, len, 0, 0, 0, 0]) });
}

/// Makes a child that runs `child` and ends; gives its identity.
pub fn fork(child: impl FnOnce()) -> usize {
    // SAFETY: without CLONE_VM the child has memory of its own, and goes on with this stack's copy.
    let id = must("clone", unsafe { call(CLONE, [SIGCHLD, 0, 0, 0, 0, 0]) });
    if id == 0 {
        child();
        exit(0)
    }
    id
}

/// Waits for a child to end; panics when it did not end well.
pub fn wait(id: usize) {
    let mut status = 0_i32;
    // SAFETY: the kernel writes one 32-bit number there.
    must("wait4", unsafe { call(WAIT4, [id, &raw mut status as usize, 0, 0, 0, 0]) });
    assert!(status == 0, "a child ended with status {status:#x}");
}

/// Becomes another program, without arguments.
pub fn exec(path: &core::ffi::CStr) {
    let arguments = [path.as_ptr() as usize, 0];
    let environment = [0_usize];
    // SAFETY: a path that ends with a zero, and two lists of such that end with a null pointer.
    let result = unsafe {
        let (list, environment) = (arguments.as_ptr() as usize, environment.as_ptr() as usize);
        call(EXECVE, [path.as_ptr() as usize, list, environment, 0, 0, 0])
    };
    must("execve", result);
}

/// Ends this process.
pub fn exit(status: i32) -> ! {
    plain(EXIT, [status as usize, 0, 0, 0, 0, 0]);
    unreachable!("a process goes on after its exit")
}

/// Counts SIGUSR1 from now on.
pub fn count_signals() {
    extern "C" fn count(_: i32) {
        SIGNALS.fetch_add(1, Relaxed);
    }
    // Handler, flags, mask; riscv64 has no restorer, the kernel brings its own.
    let action = [count as *const () as usize, 0, 0];
    // SAFETY: the kernel reads a sigaction of this layout; the handler only adds to an atomic.
    must("rt_sigaction", unsafe { call(SIGACTION, [SIGUSR1, action.as_ptr() as usize, 0, 8, 0, 0]) });
}

/// Signals counted so far.
pub fn signals() -> u64 {
    SIGNALS.load(Relaxed)
}

/// The identity of this process.
pub fn getpid() -> usize {
    plain(GETPID, [0; 6]) as usize
}

/// Sends SIGUSR1 to a process.
pub fn signal(process: usize) {
    plain(KILL, [process, SIGUSR1, 0, 0, 0, 0]);
}

/// Powers the machine off; only the first process may.
pub fn power_off() -> ! {
    const MAGIC: [usize; 2] = [0xfee1_dead, 672_274_793];
    const POWER_OFF: usize = 0x4321_fedc;
    plain(REBOOT, [MAGIC[0], MAGIC[1], POWER_OFF, 0, 0, 0]);
    exit(1)
}
