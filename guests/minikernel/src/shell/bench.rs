//! `bench`: what the kernel's mechanisms cost, in ticks of `time`.
//!
//! Half is measured by the program `measure`, which gives its ticks as its exit status, the other half here. On
//! QEMU with `-icount shift=0` a tick of a 10 MHz timebase is a hundred instructions, so the figures repeat
//! exactly; without, they are this machine's wall-clock time.

use super::jobs::{report, start, wait};
use crate::kernel::Kernel;
use crate::process::Ending;
use crate::{firmware, programs, timer, trap};
use core::arch::asm;
use guest_rt::isa::Interrupt;
use guest_rt::time::now;
use guest_rt::{csr_read, csr_set, csr_write, print, println, sbi};
use user::cases::{MEASURES, Measure, PARTNER};

/// Characters printed to measure the console: a line.
const CHARACTERS: u64 = 64;

/// Carries out the command.
pub fn run(kernel: &mut Kernel) {
    let timebase = kernel.machine.timebase.max(1);
    let line = |what: &str, times: u64, ticks: u64| {
        let each = u128::from(ticks) * 1_000_000_000 / u128::from(timebase) / u128::from(times.max(1));
        println!("  {what:34} {times:7} {ticks:9} {each:9}");
    };
    print!("  ");
    let ticks = time(CHARACTERS, || print!("."));
    println!();
    println!("  {:34} {:>7} {:>9} {:>9}", "", "TIMES", "TICKS", "NS EACH");
    line("console: one character", CHARACTERS, ticks);
    for number in 0..MEASURES.len() {
        let Some((what, times, ticks)) = measure(kernel, number) else { return };
        line(what, times, ticks);
    }
    line("CSR: read sscratch", 1000, time(1000, || _ = csr_read!(SSCRATCH)));
    // 0 is what it holds while the kernel runs.
    line("CSR: write sscratch", 1000, time(1000, || csr_write!(SSCRATCH, 0)));
    line("CSR: set a bit of sstatus", 1000, time(1000, || _ = csr_set!(SSTATUS, 0)));
    line("SBI: probe an extension", 1000, time(1000, || _ = sbi::probe(sbi::TIME)));
    line("SBI: set the timer", 1000, time(1000, || firmware::set_timer(now() + timebase)));
    let (times, late) = timer_latency(timebase);
    line("timer: from deadline to kernel", times, late);
}

/// The ticks that `times` calls of `action` take.
fn time(times: u64, mut action: impl FnMut()) -> u64 {
    let started = now();
    (0..times).for_each(|_| action());
    now() - started
}

/// Runs `measure NUMBER`: what it measured, how often, and the ticks of all. `None` where that did not work out.
fn measure(kernel: &mut Kernel, number: usize) -> Option<(&'static str, u64, u64)> {
    let (what, times) = MEASURES.get(number)?;
    let program = programs::find("measure")?;
    let pid = start(kernel, program, number)?;
    // A switch needs a second process to switch to, and the ticks pay for the way there and the way back.
    let partner = if *what == Measure::Switch { Some(start(kernel, program, PARTNER)?) } else { None };
    let ended = wait(kernel, pid);
    if let Some(partner) = partner {
        kernel.kill(partner);
    }
    let Ending::Exited(ticks) = ended.how else {
        report(kernel, &ended);
        return None;
    };
    Some(match what {
        Measure::NullCall => ("process: system call (getpid)", *times as u64, ticks),
        Measure::PageFault => ("process: first touch of a page", *times as u64, ticks),
        Measure::Switch => ("process: switch to another", 2 * *times as u64, ticks),
    })
}

/// How late the timer's interrupts are, in all, and how many there were.
fn timer_latency(timebase: u64) -> (u64, u64) {
    const TIMES: u64 = 20;
    let mut late = 0;
    trap::interrupts_off();
    for _ in 0..TIMES {
        let deadline = now() + timebase / 1000;
        timer::arm(deadline);
        while csr_read!(SIP) & Interrupt::Timer.mask() == 0 {
            // SAFETY: waits, and touches nothing.
            unsafe { asm!("wfi", options(nomem, nostack)) };
        }
        late += now() - deadline;
    }
    timer::disarm();
    trap::interrupts_on();
    (TIMES, late)
}
