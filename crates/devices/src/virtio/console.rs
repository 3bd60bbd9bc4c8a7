//! `virtio-console` (virtio 1.2, "Console Device") with one port: bytes out, bytes in.

use memory::GuestRam;

use super::buffers::{gather, scatter, total};
use super::chain::Chain;
use super::device::Device;
use super::queue::BATCH;
use super::transport::{Identity, Transport, feature};

/// The most bytes that one call of [`Console::output`] moves.
pub const MAX_BYTES: usize = 1024;
/// Bytes on the way at once.
const CHUNK: usize = 256;

const DEVICE_ID: u32 = 3;
const RECEIVE: usize = 0;
const TRANSMIT: usize = 1;
/// Descriptors of its queues where the driver asks for no other number, as on QEMU.
const QUEUE_SIZE: u16 = 128;
/// The most buffers of one chain.
const MAX_SEGMENTS: usize = 128;
/// The configuration says how large the terminal is.
const F_SIZE: u64 = 1;

/// How large a terminal is, in characters.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Size {
    /// Characters in a line.
    pub columns: u16,
    /// Lines.
    pub rows: u16,
}

/// A terminal's face to the driver.
#[derive(Clone, Debug)]
pub struct Console {
    transport: Transport,
    /// The chain of output that was taken last, and of input.
    chain: Chain,
    input: Chain,
    /// How many bytes of the output were moved, where not all of them are.
    moved: Option<u64>,
}

impl Console {
    /// A terminal in power-on state, which tells the driver its size where that is known.
    pub fn new(size: Option<Size>) -> Self {
        // Columns, rows, and what belongs to features that are not offered.
        let mut config = [0; 12];
        if let (Some(size), Some(place)) = (size, config.first_chunk_mut()) {
            *place = bytes(size);
        }
        let features = if size.is_some() { F_SIZE } else { 0 };
        let identity = Identity { device_id: DEVICE_ID, features, legacy_features: feature::ANY_LAYOUT };
        Self {
            transport: Transport::new(identity, &[QUEUE_SIZE; 2], &config),
            chain: Chain::new(MAX_SEGMENTS),
            input: Chain::new(MAX_SEGMENTS),
            moved: None,
        }
    }

    /// The terminal has another size now. A driver that was told the first one is told this, too.
    pub fn resize(&mut self, size: Size) {
        self.transport.set_config(0, &bytes(size));
    }

    /// Moves what the guest writes to `sink`, which says how many bytes it took, until it takes less than it was offered
    /// or [`MAX_BYTES`] have gone: [`Self::has_output`] tells whether something is left.
    pub fn output(&mut self, ram: &GuestRam, mut sink: impl FnMut(&[u8]) -> usize) {
        let mut quota = MAX_BYTES;
        for _ in 0..BATCH {
            let Some(mut moved) = self.take_output(ram) else { return };
            let end = total(self.chain.readable());
            while moved < end {
                let mut chunk = [0; CHUNK];
                let (chunk, _) = chunk.split_at_mut(CHUNK.min(quota));
                let Ok(count) = gather(ram, self.chain.readable(), moved, chunk) else {
                    self.transport.fail();
                    return;
                };
                let (offered, _) = chunk.split_at(count);
                let taken = if offered.is_empty() { 0 } else { sink(offered).min(count) };
                moved += taken as u64;
                quota -= taken;
                self.moved = Some(moved);
                if taken < count || quota == 0 && moved < end {
                    return;
                }
            }
            self.moved = None;
            self.transport.push(ram, TRANSMIT, self.chain.head, 0);
        }
    }

    /// Lets `chain` be one with output, and says how many of its bytes were moved.
    fn take_output(&mut self, ram: &GuestRam) -> Option<u64> {
        if !self.transport.takes_requests() {
            return None;
        }
        if self.moved.is_none() && self.transport.pop(ram, TRANSMIT, &mut self.chain) {
            self.moved = Some(0);
        }
        self.moved
    }

    /// Whether there is something to be had from [`Self::output`].
    pub fn has_output(&mut self, ram: &GuestRam) -> bool {
        self.transport.takes_requests() && self.moved.is_some() || self.transport.has_available(ram, TRANSMIT)
    }

    /// Whether [`Self::input`] would find a buffer.
    pub fn has_room(&mut self, ram: &GuestRam) -> bool {
        self.transport.is_running() && self.transport.has_available(ram, RECEIVE)
    }

    /// Gives the guest what was typed: how many bytes it has room for. The device will be notified once there is more.
    pub fn input(&mut self, ram: &GuestRam, bytes: &[u8]) -> usize {
        let mut done = 0;
        while let Some(rest) = bytes.get(done..).filter(|rest| !rest.is_empty()) {
            if !self.transport.is_running() || !self.transport.pop(ram, RECEIVE, &mut self.input) {
                break;
            }
            match scatter(ram, self.input.writable(), 0, rest) {
                Ok(count) if count > 0 => {
                    self.transport.push(ram, RECEIVE, self.input.head, count as u32);
                    done += count;
                }
                // A buffer that cannot be written to.
                _ => self.transport.fail(),
            }
        }
        done
    }
}

const fn bytes(size: Size) -> [u8; 4] {
    let ([c0, c1], [r0, r1]) = (size.columns.to_le_bytes(), size.rows.to_le_bytes());
    [c0, c1, r0, r1]
}

impl Device for Console {
    fn transport(&self) -> &Transport {
        &self.transport
    }

    fn transport_mut(&mut self) -> &mut Transport {
        &mut self.transport
    }

    fn drain(&mut self) {
        self.moved = None;
    }

    fn forget(&mut self) {
        self.moved = None;
    }
}

#[cfg(test)]
mod tests;
