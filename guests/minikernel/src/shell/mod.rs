//! The shell: reads lines and carries out commands. It is part of the kernel, a loop that lets the processes run
//! whenever it waits for something.

mod bench;
mod fault;
mod jobs;
mod show;

use crate::kernel::Kernel;
use crate::process::Ending;
use crate::programs::{self, PROGRAMS};
use crate::{firmware, input};
use guest_rt::{console, print, println};
use jobs::{report, start, wait};
use minikernel::command::{COMMANDS, Command, Mistake, parse};
use minikernel::line::{Edit, LineEditor};

/// What the shell says when it waits for a command.
const PROMPT: &str = "minikernel> ";
const BELL: u8 = 0x07;

/// Reads and carries out commands for ever.
pub fn run(mut kernel: Kernel) -> ! {
    let mut editor = LineEditor::new();
    loop {
        read_line(&mut kernel, &mut editor);
        match parse(editor.line()) {
            Ok(None) => {}
            Ok(Some(command)) => carry_out(&mut kernel, command),
            Err(Mistake::Unknown(name)) => println!("{name}: no such command; `help` lists them"),
            Err(Mistake::Usage(entry)) => println!("usage: {} {}", entry.name, entry.arguments),
        }
        editor.begin();
    }
}

/// Reads a line, while processes run. On return it is complete, and the cursor at the start of the next line.
fn read_line(kernel: &mut Kernel, editor: &mut LineEditor) {
    loop {
        if kernel.screen.prompt == 0 {
            kernel.screen.finish_line();
            print!("{PROMPT}{}", editor.line());
        }
        let edit = input::read().map(|byte| editor.feed(byte));
        match edit {
            None | Some(Edit::Nothing) => {}
            Some(Edit::Refused) => console::put(BELL),
            Some(Edit::Appended(byte)) => console::put(byte),
            Some(Edit::Erased(count)) => erase(count),
            Some(Edit::Replaced(before)) => {
                erase(before);
                print!("{}", editor.line());
            }
            Some(Edit::Cancelled) => {
                println!("^C");
                editor.begin();
                kernel.screen.prompt = 0;
                continue;
            }
            Some(Edit::Entered) => {
                println!();
                kernel.screen.prompt = 0;
                return;
            }
        }
        kernel.screen.prompt = PROMPT.len() + editor.line().len();
        if edit.is_none()
            && let Some(ended) = kernel.step()
        {
            report(kernel, &ended);
        }
    }
}

/// Takes characters off the end of the terminal's last line.
fn erase(count: usize) {
    (0..count).for_each(|_| print!("\x08 \x08"));
}

fn carry_out(kernel: &mut Kernel, command: Command) {
    match command {
        Command::Help => help(),
        Command::Ps => show::processes(kernel),
        Command::Run { program, argument, background } => run_program(kernel, program, argument, background),
        Command::Kill(pid) => match kernel.kill(pid) {
            Some(ended) => report(kernel, &ended),
            None => println!("there is no process {pid}"),
        },
        Command::Cpu => show::hart(kernel),
        Command::Mem => show::memory(kernel),
        Command::Fault => fault::run(kernel),
        Command::Bench => bench::run(kernel),
        Command::Uptime => show::uptime(kernel),
        Command::Reboot => {
            println!("Rebooting.");
            firmware::reboot();
            println!("The firmware cannot reboot this machine.");
        }
        Command::Poweroff => {
            println!("Goodbye.");
            firmware::power_off()
        }
    }
}

fn help() {
    let width = COMMANDS.iter().map(|entry| entry.name.len() + entry.arguments.len()).max().unwrap_or(0) + 1;
    for entry in COMMANDS {
        let rest = width - entry.name.len();
        println!("  {} {:rest$} {}", entry.name, entry.arguments, entry.summary);
    }
    print!("\nPrograms:");
    PROGRAMS.iter().for_each(|program| print!(" {}", program.name));
    println!("\nKeys: backspace, Ctrl-W word, Ctrl-U line, Ctrl-C stop, up and down for earlier lines");
}

fn run_program(kernel: &mut Kernel, name: &str, argument: usize, background: bool) {
    let Some(program) = programs::find(name) else {
        println!("{name}: no such program; `help` lists them");
        return;
    };
    let Some(pid) = start(kernel, program, argument) else { return };
    if background {
        println!("[{pid}] {name} started");
    } else {
        let ended = wait(kernel, pid);
        if ended.how != Ending::Exited(0) {
            report(kernel, &ended);
        }
    }
}
