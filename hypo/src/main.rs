//! The `hypo` command. All of it is in the library; this prints errors and sets the exit status.
#![forbid(unsafe_code)]

use clap::Parser;
use hypo::cache::Cache;
use hypo::cli::{Cli, Command};
use hypo::error::Result;
use hypo::status::Status;
use hypo::{doctor, pack, run};
use std::process::ExitCode;

fn main() -> ExitCode {
    let status = carry_out(&Cli::parse().command).unwrap_or_else(|error| {
        eprintln!("hypo: {error}");
        error.status()
    });
    status.into()
}

fn carry_out(command: &Command) -> Result<Status> {
    match command {
        Command::Run(options) => run::run(options),
        Command::Pack(options) => pack::run(options),
        Command::Fetch(options) => {
            println!("{}", options.asset.fetch(&Cache::open()?)?.display());
            Ok(Status::PoweredOff)
        }
        Command::Doctor => doctor::run(),
    }
}
