//! The host's side of Hypocaust: what the `hypo` command is made of, also used by the developers' `xtask`.
//!
//! From the outside in: `cli` reads the command line; `guests` knows the guests that have names and `manifest`
//! those in files; `attach` and `disk` see to their disks and networks; `pack`, `payload`, `layout` and `kernel` make a
//! bundle of them; `run` puts a run together, for which `host_memory` and `placement` choose the host's RAM, and which `qemu`, `hardware`, `session`, `streams`, `control`, `events`, `watch`
//! and `console` carry out; `terminal`, `keeper`, `signals`, `bound` and `again` see to it that a run leaves nothing behind; `image`, `setup`, `debian`, `cache`, `modules` and `initramfs` get hold of what is missing, and `rootfs`
//! with `dpkg` makes a whole Debian of packages. No unsafe code here: terminal and signals are reached through libraries.
#![forbid(unsafe_code)]
#![deny(clippy::print_stdout, clippy::print_stderr)]

pub mod again;
pub mod attach;
pub mod bound;
pub mod cache;
pub mod cli;
pub mod console;
pub mod control;
pub mod cpio;
pub mod debian;
pub mod disk;
pub mod doctor;
pub mod dpkg;
pub mod dry_run;
pub mod error;
pub mod events;
pub mod firmware;
pub mod guests;
pub mod hardware;
pub mod host_memory;
pub mod image;
pub mod initramfs;
pub mod keeper;
pub mod kernel;
pub mod layout;
pub mod manifest;
pub mod modules;
pub mod pack;
pub mod payload;
pub mod placement;
pub mod qemu;
pub mod rootfs;
pub mod run;
pub mod say;
pub mod session;
pub mod setup;
pub mod signals;
pub mod size;
pub mod status;
pub mod streams;
pub mod terminal;
pub mod watch;
