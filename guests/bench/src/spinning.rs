//! A scheduler that spins: it opens interrupts for a moment, closes them again and looks at its run queue, without WFI, until
//! a timer tick has made something runnable.

use crate::timing::{report, ticks};
use core::arch::global_asm;
use core::hint::spin_loop;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};
use guest_rt::isa::Interrupt::Timer;
use guest_rt::isa::csr::sstatus::SIE;
use guest_rt::{csr_clear, csr_set, csr_write, sbi, time, trap};

/// Turns that are measured without a tick.
const TURNS: u64 = 20_000;
/// Ticks that are waited for.
const TICKS: u64 = 1000;
/// More than the instructions of a turn, natively.
const TURN: u64 = 50;
/// From one to the next, in ticks of the clock: a tenth of a millisecond.
const PERIOD: u64 = time::FREQUENCY / 10_000;
/// Places of the run queue.
const PROCESSES: usize = 8;

static QUEUE: [AtomicU64; PROCESSES] = [const { AtomicU64::new(0) }; PROCESSES];
/// What the vector keeps of t1.
static KEPT: AtomicU64 = AtomicU64::new(0);

// The tick: makes the last process runnable and silences the timer until it is set again.
global_asm!(
    r"
    .pushsection .text
    .balign 4
    spin_vector:
        csrw sscratch, t0
        lla t0, {kept}
        sd t1, 0(t0)
        li t1, {timer}
        csrc sie, t1
        lla t0, {queue}
        li t1, 1
        sd t1, {last}(t0)
        lla t0, {kept}
        ld t1, 0(t0)
        csrr t0, sscratch
        sret
    .popsection
    ",
    kept = sym KEPT,
    queue = sym QUEUE,
    last = const 8 * (PROCESSES - 1),
    timer = const Timer.mask(),
);

unsafe extern "C" {
    safe fn spin_vector();
}

/// Measures and reports a turn, and how long after its time a tick's process is found.
pub fn measure() {
    csr_write!(STVEC, spin_vector as *const () as u64);
    report("spin-sstatus", TURNS, ticks(TURNS, || assert!(!turn(), "nothing is runnable")));

    let (mut late, mut latest) = (0, 0);
    for tick in 0..TICKS {
        let deadline = time::now() + PERIOD;
        sbi::set_timer(deadline);
        csr_set!(SIE, Timer.mask());
        // A tick may come anywhere in a turn, and where it comes matters.
        (0..tick % TURN).for_each(|_| spin_loop());
        while !turn() {}
        let now = time::now();
        assert!(now >= deadline, "a tick comes {} too early", deadline - now);
        late += now - deadline;
        latest = latest.max(now - deadline);
    }
    report("spin-tick", TICKS, late);
    report("spin-tick-worst", 1, latest);
    sbi::set_timer(u64::MAX);
    trap::install();
}

/// One turn of the scheduler; says whether it has found something to run.
#[inline(never)]
fn turn() -> bool {
    csr_set!(SSTATUS, SIE);
    csr_clear!(SSTATUS, SIE);
    QUEUE.iter().any(|process| process.load(Relaxed) != 0 && process.swap(0, Relaxed) != 0)
}
