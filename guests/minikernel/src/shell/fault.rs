//! `fault`: lets a process fail in every way there is, one after the other, and shows what the kernel made of
//! each. The kernel itself must come out unharmed.

use super::jobs::{start, wait};
use crate::kernel::Kernel;
use crate::process::Ending;
use crate::programs;
use guest_rt::println;
use user::cases::FAULTS;

/// Carries out the command.
pub fn run(kernel: &mut Kernel) {
    let Some(program) = programs::find("crash") else {
        println!("there is no program `crash`");
        return;
    };
    let frames_before = kernel.frames.used();
    println!("  {:28} {}", "A PROCESS THAT", "GETS");
    let mut stopped = 0;
    for (number, (_, what)) in FAULTS.iter().enumerate() {
        let Some(pid) = start(kernel, program, number) else { return };
        let ended = wait(kernel, pid);
        println!("  {what:28} {}", ended.how);
        match ended.how {
            Ending::Faulted { .. } => stopped += 1,
            Ending::Killed => return,
            Ending::Exited(_) | Ending::Unknown(_) => {}
        }
    }
    let lost = kernel.frames.used().saturating_sub(frames_before);
    println!("{stopped} of {} stopped, {lost} frames lost; the kernel lives on.", FAULTS.len());
}
