//! Everything that runs, from the first guest's start to the end of the last: guests and their lives, turns on a hart, what
//! stands behind virtual devices, and the operator's console.
//!
//! Reaches harts and the host's devices through the traits of [`port`] only: `hypocaust` has the real ones, tests simulated
//! ones. What belongs to the machine is in [`World`], what belongs to one hart and is reached by no other in [`Hart`];
//! [`run::turn`] is one step of one hart. Set-up and drivers are not here.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod console;
mod control;
mod guest;
pub mod hart;
pub mod host;
pub mod io;
pub mod port;
mod probe;
mod recent;
pub mod run;
mod serve;
mod status;
mod world;

pub use guest::Guest;
pub use hart::{Hart, HartId, HartSet};
pub use port::Platform;
pub use probe::Probes;
pub use recent::Recent;
pub use status::Status;
pub use world::lives::NotChanged;
pub use world::{Interrupts, Queue, Queues, World};
