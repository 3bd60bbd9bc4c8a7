//! What is measured, one function each. An item gives how often it did its operation and the ticks it took.
//!
//! Each is called twice and the second run counts: by then code and data have been touched.

use crate::system::{self, PAGE, time};
use core::ptr;

/// Iterations and ticks.
pub type Measured = (u64, u64);

/// An item's name and function.
pub type Item = (&'static str, fn() -> Measured);

/// All items, cheap ones first.
pub const ITEMS: &[Item] = &[
    ("getppid", getppid),
    ("read-1-byte", read_one_byte),
    ("pipe-switch", pipe_switch),
    ("page-fault", page_fault),
    ("mmap-touch-munmap", map_touch_unmap),
    ("signal", signal),
    ("fork-exit", fork_exit),
    ("fork-exec", fork_exec),
    ("timer-tick", timer_tick),
    ("chase-64MiB", chase),
];

/// Ticks that `iterations` of `operation` take.
fn repeat(iterations: u64, mut operation: impl FnMut()) -> Measured {
    let start = time();
    for _ in 0..iterations {
        operation();
    }
    (iterations, time() - start)
}

/// The system call that does least.
fn getppid() -> Measured {
    repeat(20_000, system::getppid)
}

/// One byte from a device that has nothing to do.
fn read_one_byte() -> Measured {
    let zero = system::open(c"/dev/zero");
    let mut byte = [1];
    repeat(10_000, || {
        system::read(zero, &mut byte);
    })
}

/// Two processes hand a byte to each other; an iteration is one of the two switches of a round trip.
fn pipe_switch() -> Measured {
    const ROUNDS: u64 = 2000;
    let (there, back) = (system::pipe(), system::pipe());
    let pass = |from: [i32; 2], to: [i32; 2]| {
        let mut byte = [0];
        system::read(from[0], &mut byte);
        system::write(to[1], &byte);
    };
    let child = system::fork(|| (0..ROUNDS).for_each(|_| pass(there, back)));
    let start = time();
    system::write(there[1], &[0]);
    (1..ROUNDS).for_each(|_| pass(back, there));
    system::read(back[0], &mut [0]);
    let ticks = time() - start;
    system::wait(child);
    (2 * ROUNDS, ticks)
}

/// The first store to a page of anonymous memory.
fn page_fault() -> Measured {
    const PAGES: usize = 2048;
    let memory = system::map(PAGES * PAGE);
    let mut next = memory;
    let measured = repeat(PAGES as u64, || {
        // SAFETY: `next` walks over the pages that were just mapped.
        unsafe {
            next.write_volatile(1);
            next = next.add(PAGE);
        }
    });
    // SAFETY: the memory was used above only.
    unsafe { system::unmap(memory, PAGES * PAGE) };
    measured
}

/// Maps a page, stores to it, unmaps it.
fn map_touch_unmap() -> Measured {
    repeat(2000, || {
        let memory = system::map(PAGE);
        // SAFETY: a page just mapped, used nowhere else.
        unsafe {
            memory.write_volatile(1);
            system::unmap(memory, PAGE);
        }
    })
}

/// A signal to oneself, its handler, the return from it.
fn signal() -> Measured {
    system::count_signals();
    let (this, before) = (system::getpid(), system::signals());
    let measured = repeat(4000, || system::signal(this));
    let handled = system::signals() - before;
    assert!(handled == measured.0, "{handled} signals were handled");
    measured
}

/// A child that ends at once, and waiting for it.
fn fork_exit() -> Measured {
    repeat(300, || system::wait(system::fork(|| ())))
}

/// A child that becomes a tiny program, which ends at once, and waiting for it.
fn fork_exec() -> Measured {
    repeat(200, || system::wait(system::fork(|| system::exec(c"/exec"))))
}

/// What a timer tick takes from a program that computes: it watches the time, and each jump is time in which
/// something else ran. All jumps are divided by the ticks that were due.
fn timer_tick() -> Measured {
    /// Half a second, in ticks of the 10 MHz clock of QEMU's `virt`.
    const SPAN: u64 = 5_000_000;
    /// A jump by more than this, 0.5 microseconds, is not the loop itself.
    const JUMP: u64 = 5;
    let (start, mut lost) = (time(), 0);
    let mut before = start;
    while before - start < SPAN {
        let now = time();
        if now - before > JUMP {
            lost += now - before;
        }
        before = now;
    }
    const NANOSECONDS: u64 = 100;
    ((before - start) * NANOSECONDS / system::tick_length(), lost)
}

/// Dependent loads all over 64 MiB, a cache line each; the page tables are warm, no system call is made.
fn chase() -> Measured {
    const LEN: usize = 64 << 20;
    const LINE: usize = 64;
    const LINES: usize = LEN / LINE;
    const ROUNDS: usize = 4;
    let memory = system::map(LEN);
    // A full cycle over all lines (Hull and Dobell: the multiplier is 1 modulo 4, the increment odd).
    let after = |line: usize| (line * 1_664_525 + 1_013_904_223) % LINES;
    for line in 0..LINES {
        // SAFETY: both lines lie in the memory just mapped, and LINE is a multiple of a pointer's size.
        unsafe { memory.add(line * LINE).cast::<*mut u8>().write(memory.add(after(line) * LINE)) };
    }
    let mut place = memory;
    let measured = repeat((ROUNDS * LINES) as u64, || {
        // SAFETY: each line holds a pointer to a line.
        place = unsafe { ptr::read_volatile(place.cast::<*mut u8>()) };
    });
    assert!(place == memory, "the chase does not come back to its start");
    // SAFETY: the memory was used above only.
    unsafe { system::unmap(memory, LEN) };
    measured
}
