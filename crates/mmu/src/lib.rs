//! Placeholder while the workspace is laid out.
#![no_std]
#![forbid(unsafe_code)]
