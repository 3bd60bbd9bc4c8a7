//! What stands behind one of the board's transports.

use isa::Width;
use memory::GuestRam;

use super::block::Block;
use super::console::Console;
use super::device::Device;
use super::entropy::Entropy;
use super::mmio::{EmptySlot, Version};
use super::net::Net;
pub use super::transport::Effect;
use crate::Refused;

/// A transport's device, if it has one.
#[derive(Clone, Debug)]
pub enum Slot {
    /// None.
    Empty(EmptySlot),
    /// A disk.
    Block(Block),
    /// A network interface.
    Net(Net),
    /// A terminal.
    Console(Console),
    /// A source of randomness.
    Entropy(Entropy),
}

impl Default for Slot {
    fn default() -> Self {
        Self::Empty(EmptySlot::default())
    }
}

impl Slot {
    fn device(&self) -> Option<&dyn Device> {
        match self {
            Self::Empty(_) => None,
            Self::Block(block) => Some(block),
            Self::Net(net) => Some(net),
            Self::Console(console) => Some(console),
            Self::Entropy(entropy) => Some(entropy),
        }
    }

    fn device_mut(&mut self) -> Option<&mut dyn Device> {
        match self {
            Self::Empty(_) => None,
            Self::Block(block) => Some(block),
            Self::Net(net) => Some(net),
            Self::Console(console) => Some(console),
            Self::Entropy(entropy) => Some(entropy),
        }
    }

    /// Becomes a transport of this version. Before the first access.
    pub fn set_version(&mut self, version: Version) {
        match self {
            Self::Empty(slot) => slot.version = version,
            device => {
                if let Some(device) = device.device_mut() {
                    device.transport_mut().set_version(version);
                }
            }
        }
    }

    /// Reads a register or the configuration; what is not there reads as 0.
    pub fn read(&self, offset: u64, width: Width) -> Result<u64, Refused> {
        match self {
            Self::Empty(slot) => slot.read(offset, width),
            device => Ok(device.device().map_or(0, |device| device.transport().read(offset, width))),
        }
    }

    /// Whether the driver has asked for something that was not taken yet. What waits for the guest, such as a frame, is
    /// not known here.
    pub fn has_work(&mut self, ram: &GuestRam) -> bool {
        match self {
            Self::Empty(_) => false,
            Self::Block(block) => block.has_requests(ram),
            Self::Net(net) => net.has_frames(ram),
            Self::Console(console) => console.has_output(ram),
            Self::Entropy(entropy) => entropy.has_requests(ram),
        }
    }

    /// Writes a register.
    pub fn write(&mut self, offset: u64, width: Width, value: u64) -> Result<Effect, Refused> {
        if let Self::Empty(slot) = self {
            return slot.write(offset, width, value).map(|()| Effect::Nothing);
        }
        let Some(device) = self.device_mut() else { return Ok(Effect::Nothing) };
        let (busy, ran) = (device.in_flight() > 0, device.transport().is_running());
        let mut effect = device.transport_mut().write(offset, width, value, busy);
        if effect == Effect::Draining {
            device.drain();
            if device.in_flight() == 0 {
                effect = device.transport_mut().write(offset, width, value, false);
            }
        }
        if effect == Effect::Reset {
            device.forget();
        }
        let starts = !ran && device.transport().is_running();
        let looks = effect == Effect::Nothing && starts && device.looks_at_start();
        Ok(if looks { Effect::Notified } else { effect })
    }

    /// To power-on state. What is still in flight is forgotten, too: its completion will do nothing.
    pub fn reset(&mut self) {
        if let Some(device) = self.device_mut() {
            device.transport_mut().power_on();
            device.forget();
        }
    }

    /// The level of its interrupt line.
    pub fn irq_level(&self) -> bool {
        self.device().is_some_and(|device| device.transport().irq_level())
    }

    /// How many requests were taken from the guest and are not finished. Guest memory may be written to until they are:
    /// *drained-reset*.
    pub fn in_flight(&self) -> usize {
        self.device().map_or(0, Device::in_flight)
    }

    /// Whether the driver broke a rule of its ring, so that nothing more happens until it resets the device.
    pub fn is_broken(&self) -> bool {
        self.device().is_some_and(|device| device.transport().is_broken())
    }
}
