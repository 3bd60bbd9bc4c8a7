//! What the `hypo` command is made of, also used by the developers' `xtask`.
//!
//! From the outside in: `cli` reads the command line; `manifest` is what a run consists of, `load` and `text` read it from a
//! file; `attach` and `disk` see to disks and networks; `pack`, `payload`, `layout` and `kernel` make a bundle of it; `run`
//! puts a run together, for which `host_memory` and `placement` choose the host's RAM, `firmware` and `image` bring what QEMU
//! loads, and which `hardware`, `session`, `streams`, `control`, `events`, `watch` and `console` carry out; `terminal`,
//! `keeper` and `signals` see to it that a run leaves nothing behind. `dry_run` and `doctor` only tell.
//!
//! Below it are `hypo-debian`, the factory of the guests that have names, and `hypo-common`, what both use. No unsafe code here:
//! terminal and signals are reached through libraries.
#![forbid(unsafe_code)]
#![deny(clippy::print_stdout, clippy::print_stderr)]

pub mod attach;
pub mod cli;
pub mod console;
pub mod control;
pub mod disk;
pub mod doctor;
pub mod dry_run;
pub mod events;
pub mod firmware;
pub mod hardware;
pub mod host_memory;
pub mod image;
pub mod keeper;
pub mod kernel;
pub mod layout;
pub mod load;
pub mod manifest;
pub mod pack;
pub mod payload;
pub mod placement;
pub mod run;
pub mod session;
pub mod signals;
pub mod streams;
pub mod terminal;
mod text;
pub mod watch;
