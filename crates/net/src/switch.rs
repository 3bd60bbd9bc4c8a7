//! A switch: which ports a frame goes to.

use alloc::string::String;
use alloc::vec::Vec;

use crate::limiter::Limiter;
use crate::queue::Queue;
use crate::{MAX_FRAME, MIN_FRAME, Mac};

/// What is connected to a port.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PortKind {
    /// A guest's interface with this address.
    Guest(Mac),
    /// A guest's interface that has the uplink to itself: it may use what addresses it likes, and gets everything.
    Whole(Mac),
    /// The host's interface.
    Uplink(Mac),
}

impl PortKind {
    /// The address of what is connected.
    pub const fn mac(self) -> Mac {
        match self {
            Self::Guest(mac) | Self::Whole(mac) | Self::Uplink(mac) => mac,
        }
    }
}

/// What went by way of a port.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counters {
    /// Frames that came from it.
    pub sent: u64,
    /// Bytes of them.
    pub sent_bytes: u64,
    /// Frames that went to it.
    pub received: u64,
    /// Bytes of them.
    pub received_bytes: u64,
    /// Frames that it sent under another's address or beyond its rate, that have no proper length, or that there was no
    /// room for.
    pub dropped: u64,
}

/// A port of a switch.
#[derive(Debug)]
pub struct Port {
    /// Whose it is, for the operator.
    pub owner: String,
    /// What is connected.
    pub kind: PortKind,
    /// What went by way of it.
    pub counters: Counters,
    limiter: Option<Limiter>,
    waiting: Queue,
}

/// Whether a frame also goes out of the uplink.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub enum Out {
    /// No.
    Stays,
    /// Yes: the caller sends it, and says what became of it with [`Switch::sent_out`].
    Uplink,
}

/// A switch.
#[derive(Debug, Default)]
pub struct Switch {
    /// Its name in the manifest.
    pub name: String,
    ports: Vec<Port>,
    /// Frames that wait at its ports.
    waiting: usize,
}

impl Switch {
    /// A switch without ports.
    pub const fn new(name: String) -> Self {
        Self { name, ports: Vec::new(), waiting: 0 }
    }

    /// Connects something; gives the port's number. There is one uplink at most.
    pub fn connect(&mut self, owner: String, kind: PortKind, limiter: Option<Limiter>) -> usize {
        let (counters, waiting) = (Counters::default(), Queue::default());
        self.ports.push(Port { owner, kind, counters, limiter, waiting });
        self.ports.len() - 1
    }

    /// The ports.
    pub fn ports(&self) -> &[Port] {
        &self.ports
    }

    /// The port of the uplink.
    pub fn uplink(&self) -> Option<usize> {
        self.ports.iter().position(|port| matches!(port.kind, PortKind::Uplink(_)))
    }

    /// Takes a frame that came from port `from` at `now`, in ticks, and lets it wait at those that it is for.
    pub fn forward(&mut self, from: usize, frame: &[u8], now: u64) -> Out {
        // A guest's own frame that comes back, or somebody outside who poses as it.
        let is_guests = |source| self.ports.iter().any(|port| port.kind == PortKind::Guest(source));
        let from_outside = self.ports.get(from).is_some_and(|port| matches!(port.kind, PortKind::Uplink(_)));
        let poses = from_outside && source(frame).is_some_and(is_guests);
        let Some(port) = self.ports.get_mut(from) else { return Out::Stays };
        if poses || !port.admits(frame, now) {
            port.counters.dropped += 1;
            return Out::Stays;
        }
        port.counters.sent += 1;
        port.counters.sent_bytes += frame.len() as u64;
        let Some(to) = frame.first_chunk::<6>() else { return Out::Stays };
        // Broadcast and multicast: the lowest bit of the first byte.
        let is_group = to[0] & 1 != 0;
        let mut known = false;
        for (number, port) in self.ports.iter_mut().enumerate() {
            let is_for = match port.kind {
                PortKind::Guest(mac) => mac == *to,
                PortKind::Whole(_) => from_outside,
                PortKind::Uplink(_) => continue,
            };
            known |= is_for;
            if number == from || !(is_for || is_group) {
                continue;
            }
            if port.waiting.push(frame) {
                self.waiting += 1;
            } else {
                port.counters.dropped += 1;
            }
        }
        if from_outside || known && !is_group { Out::Stays } else { Out::Uplink }
    }

    /// What became of a frame of so many bytes that was to go out.
    pub fn sent_out(&mut self, bytes: usize, is_sent: bool) {
        let uplink = self.uplink();
        if let Some(port) = uplink.and_then(|uplink| self.ports.get_mut(uplink)) {
            port.count_received(bytes, is_sent);
        }
    }

    /// The frame that has waited longest at a port.
    pub fn waiting(&self, port: usize) -> Option<&[u8]> {
        self.ports.get(port)?.waiting.front()
    }

    /// Takes it away: the guest has it, or cannot have it.
    pub fn delivered(&mut self, port: usize, is_received: bool) {
        let Some(port) = self.ports.get_mut(port) else { return };
        if let Some(bytes) = port.waiting.front().map(<[u8]>::len) {
            port.count_received(bytes, is_received);
            port.waiting.pop();
            self.waiting -= 1;
        }
    }

    /// Whether a frame waits at some port.
    pub const fn has_waiting(&self) -> bool {
        self.waiting > 0
    }
}

impl Port {
    /// Whether a frame may come from here.
    fn admits(&mut self, frame: &[u8], now: u64) -> bool {
        let is_own = match self.kind {
            PortKind::Guest(mac) => source(frame) == Some(mac),
            PortKind::Whole(_) | PortKind::Uplink(_) => true,
        };
        (MIN_FRAME..=MAX_FRAME).contains(&frame.len())
            && is_own
            && self.limiter.as_mut().is_none_or(|limiter| limiter.take(frame.len(), now))
    }

    fn count_received(&mut self, bytes: usize, is_received: bool) {
        if is_received {
            self.counters.received += 1;
            self.counters.received_bytes += bytes as u64;
        } else {
            self.counters.dropped += 1;
        }
    }
}

/// Whom a frame says that it is from.
fn source(frame: &[u8]) -> Option<Mac> {
    frame.get(6..)?.first_chunk().copied()
}

#[cfg(test)]
mod tests;
