//! What the `hypo` command and the factory of its Debian guests both use, on the developer's machine.
//!
//! `error`, `status` and `say` are how a user is told something; `size` reads numbers that users write; `setup` gets hold of
//! programs that are missing, `build` of our own for the bare machine, `cache` keeps what was fetched; `qemu` is QEMU's command
//! line; `again` and `bound` start a program that ends with this one. Knows neither guests nor bundles.
#![forbid(unsafe_code)]
#![deny(clippy::print_stdout, clippy::print_stderr)]

pub mod again;
pub mod bound;
pub mod build;
pub mod cache;
pub mod error;
pub mod qemu;
pub mod say;
pub mod setup;
pub mod size;
pub mod status;
