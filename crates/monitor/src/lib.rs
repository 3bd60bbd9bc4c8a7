//! The operator's console: which guest has the terminal, what the others print meanwhile, and the monitor, a command
//! line that shows and steers guests.
//!
//! Bytes go in, from the terminal and from guests; bytes come out for the terminal, and now and then a [`Command`].
//! Knows neither the UART nor what a virtual machine is made of: `world` has the one and reports the other through
//! [`Control`].
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(test)]
extern crate std;

mod allowance;
mod command;
mod control;
mod editor;
mod harmless;
mod keys;
mod lines;
#[cfg(test)]
mod model;
mod multiplexer;
mod operator;
mod report;
mod scrollback;
mod sequences;
mod terminal;
mod text;

pub use allowance::Allowance;
pub use command::{COMMANDS, Command, Entry, MAX_MEMORY, parse};
pub use control::{Change, Control, Disk, Exits, Guest, HostFacts, KindOfExit, Port, State, Switch};
pub use multiplexer::{Multiplexer, Screen, View};
pub use operator::{Operator, Reply};
pub use terminal::IN_ORDER;
