//! The world on simulated harts: whole machines of several guests, played in `cargo test`.
#![forbid(unsafe_code)]

mod floods;
mod histories;
mod lives;
mod model;
mod queues;
mod sim;
mod wakes;
