//! Starts processes for the shell, waits for them, and says how they ended.

use crate::input;
use crate::kernel::{Kernel, SpawnError};
use crate::memory::space::LoadError;
use crate::process::{Ended, Pid};
use crate::programs::Program;
use guest_rt::println;

const CTRL_C: u8 = 0x03;

/// Starts a process, or says why not.
pub fn start(kernel: &mut Kernel, program: &'static Program, argument: usize) -> Option<Pid> {
    let error = match kernel.spawn(program, argument) {
        Ok(pid) => return Some(pid),
        Err(error) => error,
    };
    let reason = match error {
        SpawnError::TooMany => "there are too many processes",
        SpawnError::Load(LoadError::OutOfFrames) => "there is no memory left",
        SpawnError::Load(LoadError::BadProgram) => "its ELF file cannot be loaded",
    };
    println!("{} cannot be started: {reason}", program.name);
    None
}

/// Lets all processes run until `pid` ends; Ctrl-C kills it. Reports the others that end meanwhile.
pub fn wait(kernel: &mut Kernel, pid: Pid) -> Ended {
    loop {
        let ended = if input::skip_past(CTRL_C) {
            kernel.screen.finish_line();
            println!("^C");
            kernel.kill(pid)
        } else {
            kernel.step()
        };
        match ended {
            Some(ended) if ended.pid == pid => {
                kernel.screen.finish_line();
                return ended;
            }
            Some(other) => report(kernel, &other),
            None => {}
        }
    }
}

/// Says how a process ended.
pub fn report(kernel: &mut Kernel, ended: &Ended) {
    kernel.screen.take_prompt_off();
    kernel.screen.finish_line();
    println!("[{}] {}: {}", ended.pid, ended.program.name, ended.how);
}
