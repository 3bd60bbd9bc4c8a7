//! The developers' one door: `cargo xtask lint | test | bench | gdb`. What CI runs is what a developer runs.
//!
//! Each command is a room of its own; `project` knows where things are and how to start cargo, `expect`
//! drives an interactive program. What users of the hypervisor need lives in `hypo`, not here.
#![forbid(unsafe_code)]

mod allowance;
mod bench;
mod expect;
mod gdb;
mod launch;
mod lint;
mod pace;
mod project;
mod readable;
mod test;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Hypocaust's developers' commands", max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Formatting, clippy, crate arrows, unsafe code, panics on guest paths, length of files
    Lint,
    /// Host tests, then guests and Linux under QEMU; ends with `N passed, M failed`
    Test(test::Options),
    /// Instructions per operation, natively and as a guest
    Bench(bench::Options),
    /// A guest under QEMU with gdb attached to the hypervisor
    Gdb(gdb::Options),
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Lint => lint::run(),
        Command::Test(options) => test::run(&options),
        Command::Bench(options) => bench::run(&options),
        Command::Gdb(options) => gdb::run(&options),
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            // An error may quote a guest.
            eprintln!("xtask: {}", readable::readable(format!("{error:#}").as_bytes()));
            ExitCode::FAILURE
        }
    }
}
