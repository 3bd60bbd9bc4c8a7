//! What stands behind the guests' virtio devices, found and opened. At work it is `world::io`'s.

pub mod attach;
pub mod interfaces;
mod reader;
