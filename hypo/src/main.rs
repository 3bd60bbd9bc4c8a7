//! The `hypo` command. All of it is in the library; this prints errors and sets the exit status.
#![forbid(unsafe_code)]
#![deny(clippy::print_stdout, clippy::print_stderr)]

use clap::Parser;
use hypo::cli::{Cli, Command};
use hypo::{doctor, keeper, pack, run};
use hypo_common::cache::Cache;
use hypo_common::error::Result;
use hypo_common::status::Status;
use hypo_common::{bound, say};
use std::process::ExitCode;

fn main() -> ExitCode {
    let status = parsed().and_then(|cli| cli.map_or(Ok(Status::PoweredOff), |cli| carry_out(&cli.command)));
    let status = status.unwrap_or_else(|error| {
        say::tell(&error);
        error.status()
    });
    status.into()
}

/// The command line; `None` where it asks for help, which is printed.
fn parsed() -> Result<Option<Cli>> {
    match Cli::try_parse() {
        Ok(cli) => Ok(Some(cli)),
        Err(help) if !help.use_stderr() => say::printed(help.print()).map(|()| None),
        Err(mistake) => mistake.exit(),
    }
}

fn carry_out(command: &Command) -> Result<Status> {
    match command {
        Command::Run(options) => run::run(options),
        Command::Pack(options) => pack::run(options),
        Command::Fetch(options) => {
            say::print(options.asset.fetch(&Cache::open()?)?.display())?;
            Ok(Status::PoweredOff)
        }
        Command::Doctor => doctor::run(),
        Command::KeepTerminal => keeper::run(),
        Command::Bound(options) => bound::run(options.parent, &options.command),
    }
}
