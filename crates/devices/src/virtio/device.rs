//! What all devices behind a transport have in common.

use super::transport::Transport;

/// What each device says of itself.
pub(crate) trait Device {
    fn transport(&self) -> &Transport;

    fn transport_mut(&mut self) -> &mut Transport;

    /// How many requests were taken and are not finished.
    fn in_flight(&self) -> usize {
        0
    }

    /// Whether it looks at its queues once the driver is ready, and not only when it is told to.
    fn looks_at_start(&self) -> bool {
        false
    }

    /// Drops what it has taken of the ring and nobody works at.
    fn drain(&mut self) {}

    /// Forgets what it has of requests: the driver starts anew. Not called while any is in flight, but when the whole
    /// board is reset.
    fn forget(&mut self);
}
