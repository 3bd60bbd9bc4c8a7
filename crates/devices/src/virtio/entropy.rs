//! `virtio-rng` (virtio 1.2, "Entropy Device"): buffers filled with random bytes, which the caller brings.

use memory::GuestRam;

use super::buffers::{scatter, total};
use super::chain::Chain;
use super::device::Device;
use super::transport::{Identity, Transport, feature};

/// The most bytes that one call of [`Entropy::serve`] gives.
pub const MAX_BYTES: usize = 4096;
/// The most that one buffer gets: a driver that wants more asks again.
const MAX_BUFFER: usize = 256;

const DEVICE_ID: u32 = 4;
const QUEUE: usize = 0;
/// Descriptors of its queue where the driver asks for no other number, as on QEMU.
const QUEUE_SIZE: u16 = 8;
/// The most buffers of one request.
const MAX_SEGMENTS: usize = 128;

/// A source of randomness, as a driver sees it.
#[derive(Clone, Debug)]
pub struct Entropy {
    transport: Transport,
    chain: Chain,
}

impl Default for Entropy {
    fn default() -> Self {
        Self::new()
    }
}

impl Entropy {
    /// A device in power-on state.
    pub fn new() -> Self {
        let identity = Identity { device_id: DEVICE_ID, features: 0, legacy_features: feature::ANY_LAYOUT };
        Self { transport: Transport::new(identity, &[QUEUE_SIZE], &[]), chain: Chain::new(MAX_SEGMENTS) }
    }

    /// Fills the guest's buffers with what `fill` brings, at most [`MAX_BYTES`] in one call: [`Self::has_requests`] tells
    /// whether something is left.
    pub fn serve(&mut self, ram: &GuestRam, mut fill: impl FnMut(&mut [u8])) {
        let mut bytes = [0; MAX_BUFFER];
        for _ in 0..MAX_BYTES / MAX_BUFFER {
            if !self.transport.is_running() || !self.transport.pop(ram, QUEUE, &mut self.chain) {
                return;
            }
            let len = total(self.chain.writable()).min(MAX_BUFFER as u64) as usize;
            let (random, _) = bytes.split_at_mut(len);
            fill(random);
            match scatter(ram, self.chain.writable(), 0, random) {
                // "The device MUST place one or more random bytes into the buffer".
                Ok(written) if written > 0 => {
                    self.transport.push(ram, QUEUE, self.chain.head, written as u32);
                }
                _ => self.transport.fail(),
            }
        }
    }

    /// Whether a buffer waits to be filled.
    pub fn has_requests(&mut self, ram: &GuestRam) -> bool {
        self.transport.is_running() && self.transport.has_available(ram, QUEUE)
    }
}

impl Device for Entropy {
    fn transport(&self) -> &Transport {
        &self.transport
    }

    fn transport_mut(&mut self) -> &mut Transport {
        &mut self.transport
    }

    /// As on QEMU.
    fn looks_at_start(&self) -> bool {
        true
    }

    fn forget(&mut self) {}
}

#[cfg(test)]
mod tests;
