//! Virtio 1.2, the device side: the transports, legacy and modern, split virtqueues, and the devices behind them.
//!
//! A device here takes requests out of its ring and puts answers in; what disk, network or terminal lies behind is the
//! business of who calls. Whatever a driver writes to registers and rings is checked, after it was copied once. A
//! driver that breaks a rule of the ring finds its device in need of a reset; nothing else happens.

pub mod block;
mod broken;
mod buffers;
mod chain;
pub mod console;
mod device;
pub mod entropy;
pub mod mmio;
pub mod net;
pub mod queue;
pub mod slot;
mod transport;

#[cfg(test)]
pub(crate) mod testing;

pub use buffers::Segment;
pub use mmio::Version;
pub use slot::Slot;
