//! The host's side of Hypocaust: what the `hypo` command is made of, also used by the developers' `xtask`.
//!
//! From the outside in: `cli` reads the command line; `guests` knows the guests that have names and `manifest`
//! those in files; `pack`, `layout` and `kernel` make a bundle of them; `qemu`, `session`, `watch` and `console`
//! run it; `image`, `setup`, `debian` and `initramfs` get hold of what is missing. No unsafe code here: the
//! terminal and signals are reached through libraries.
#![forbid(unsafe_code)]

pub mod error;
pub mod kernel;
pub mod layout;
pub mod manifest;
pub mod pack;
pub mod size;
pub mod status;
