//! The factory of the guests that have names: fetches Debian's packages and makes of them kernels, initial RAM disks and a
//! whole system on a disk; builds our own kernel.
//!
//! `guests` is the door: what there is, by name. `archive` is a private apt; `modules` picks a kernel's modules, `cpio` and
//! `initramfs` make initial RAM disks; `dpkg` unpacks packages without running them, and `rootfs` makes a disk of them.
//! Knows neither manifests nor bundles: `hypo` makes those of what it gets from here.
#![forbid(unsafe_code)]
#![deny(clippy::print_stdout, clippy::print_stderr)]

pub mod archive;
pub mod cpio;
pub mod dpkg;
pub mod guests;
pub mod initramfs;
pub mod modules;
pub mod rootfs;
