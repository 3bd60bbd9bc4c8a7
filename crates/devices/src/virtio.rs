//! Virtio: so far only the transport's face with nothing behind it.

pub mod mmio;
