//! A split virtqueue (virtio 1.2, "Split Virtqueues"), seen from the device.
//!
//! The rings lie in guest memory, and the guest may change any byte of them at any time. Each index is read once,
//! checked, and never looked at again.

use core::sync::atomic::{Ordering, fence};

use memory::{GuestPhysAddr, GuestRam};

use super::chain::{Chain, DESCRIPTOR};

/// The most descriptors that a queue of ours has: a power of two.
pub const MAX_SIZE: u16 = 128;

/// The driver broke a rule of the ring: nothing in it can be relied on any more.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Broken;

/// What was agreed upon for all queues of a device.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Rules {
    /// `VIRTIO_F_INDIRECT_DESC`: chains may lie in tables of their own.
    pub(crate) indirect: bool,
    /// `VIRTIO_F_EVENT_IDX`: each side says at which index it wants to be told.
    pub(crate) event_index: bool,
}

/// The driver's flag in the available ring: no interrupts, please.
const NO_INTERRUPT: u16 = 1;
/// Bytes before the entries of either ring: flags and index.
const RING_HEAD: u64 = 4;

/// One virtqueue.
#[derive(Clone, Debug)]
pub(crate) struct Queue {
    /// What the driver wrote; all that follows is frozen while `ready`.
    pub(crate) size: u32,
    pub(crate) descriptors: GuestPhysAddr,
    pub(crate) driver_area: GuestPhysAddr,
    pub(crate) device_area: GuestPhysAddr,
    ready: bool,
    /// The rings were found to lie in RAM since the queue became ready.
    placed: bool,
    /// The next entry of the available ring to be taken.
    next_available: u16,
    /// The driver's index when it was last read: entries before it may be taken.
    seen_available: u16,
    /// The next entry of the used ring to be written.
    next_used: u16,
    /// `next_used` when the driver was last asked whether it wants an interrupt.
    asked_used: u16,
}

impl Queue {
    pub(crate) const fn new() -> Self {
        Self {
            size: 0,
            descriptors: GuestPhysAddr(0),
            driver_area: GuestPhysAddr(0),
            device_area: GuestPhysAddr(0),
            ready: false,
            placed: false,
            next_available: 0,
            seen_available: 0,
            next_used: 0,
            asked_used: 0,
        }
    }

    pub(crate) const fn is_ready(&self) -> bool {
        self.ready
    }

    /// Lets the device use the queue, if its size is a power of two up to [`MAX_SIZE`] and its parts are aligned as
    /// "Split Virtqueues" wants it. Whether they lie in RAM is seen at the first use.
    pub(crate) fn enable(&mut self) {
        let fits = self.size.is_power_of_two() && self.size <= u32::from(MAX_SIZE);
        let aligned = self.descriptors.is_aligned(16)
            && self.driver_area.is_aligned(2)
            && self.device_area.is_aligned(4);
        if !self.ready && fits && aligned {
            *self = Self { ready: true, ..self.stopped() };
        }
    }

    /// Takes the queue from the device; what the driver wrote stays.
    pub(crate) fn disable(&mut self) {
        *self = self.stopped();
    }

    const fn stopped(&self) -> Self {
        Self {
            size: self.size,
            descriptors: self.descriptors,
            driver_area: self.driver_area,
            device_area: self.device_area,
            ..Self::new()
        }
    }

    /// Takes the next chain that the driver made available; `false` where there is none, and then the driver will say
    /// when there is one again.
    pub(crate) fn pop(&mut self, ram: &GuestRam, rules: Rules, chain: &mut Chain) -> Result<bool, Broken> {
        if !self.has_available(ram, rules)? {
            if !rules.event_index {
                return Ok(false);
            }
            // "Available Buffer Notification Suppression": what came before the driver could see this came unsaid.
            let event = RING_HEAD + 8 * u64::from(self.size);
            ram.store_u16(self.in_device_area(event)?, self.next_available).map_err(|_| Broken)?;
            fence(Ordering::SeqCst);
            if !self.has_available(ram, rules)? {
                return Ok(false);
            }
        }
        let slot = u64::from(self.next_available) & u64::from(self.mask());
        let entry = self.driver_area.checked_add(RING_HEAD + 2 * slot).ok_or(Broken)?;
        let head = ram.load_u16(entry).ok_or(Broken)?;
        chain.read(ram, self.descriptors, self.size as u16, head, rules.indirect)?;
        self.next_available = self.next_available.wrapping_add(1);
        Ok(true)
    }

    /// Whether the driver has made a chain available that was not taken.
    pub(crate) fn has_available(&mut self, ram: &GuestRam, rules: Rules) -> Result<bool, Broken> {
        if !self.ready {
            return Ok(false);
        }
        if self.next_available != self.seen_available {
            return Ok(true);
        }
        self.check_place(ram, rules)?;
        let index = self.driver_area.checked_add(2).and_then(|at| ram.load_u16(at)).ok_or(Broken)?;
        if u32::from(index.wrapping_sub(self.next_available)) > self.size {
            return Err(Broken);
        }
        self.seen_available = index;
        Ok(index != self.next_available)
    }

    /// Gives the last `count` chains back, as if they had not been taken.
    pub(crate) fn unpop(&mut self, count: u16) {
        self.next_available = self.next_available.wrapping_sub(count);
    }

    /// Writes an entry of the used ring, `ahead` places behind those that the driver can see: `len` bytes were written
    /// to the chain that began at `head`.
    pub(crate) fn fill_used(&self, ram: &GuestRam, ahead: u16, head: u16, len: u32) -> Result<(), Broken> {
        let slot = self.next_used.wrapping_add(ahead) & self.mask();
        let [h0, h1] = head.to_le_bytes();
        let [l0, l1, l2, l3] = len.to_le_bytes();
        let entry = self.in_device_area(RING_HEAD + 8 * u64::from(slot))?;
        ram.device_write(entry, &[h0, h1, 0, 0, l0, l1, l2, l3]).map_err(|_| Broken)
    }

    /// Shows the driver `count` more entries of the used ring. Says whether it wants an interrupt.
    pub(crate) fn publish(&mut self, ram: &GuestRam, rules: Rules, count: u16) -> Result<bool, Broken> {
        self.next_used = self.next_used.wrapping_add(count);
        // Release: the driver that sees the index sees the entries and the data.
        ram.store_u16(self.in_device_area(2)?, self.next_used).map_err(|_| Broken)?;
        // "Used Buffer Notification Suppression": the index must be out before the driver's wish is read.
        fence(Ordering::SeqCst);
        let wish = if rules.event_index { RING_HEAD + 2 * u64::from(self.size) } else { 0 };
        let wish = self.driver_area.checked_add(wish).and_then(|at| ram.load_u16(at)).ok_or(Broken)?;
        if !rules.event_index {
            return Ok(wish & NO_INTERRUPT == 0);
        }
        let passed = self.next_used.wrapping_sub(wish).wrapping_sub(1);
        let new = self.next_used.wrapping_sub(self.asked_used);
        self.asked_used = self.next_used;
        Ok(passed < new)
    }

    /// The three parts lie in RAM as a whole.
    fn check_place(&mut self, ram: &GuestRam, rules: Rules) -> Result<(), Broken> {
        if self.placed {
            return Ok(());
        }
        let (size, event) = (u64::from(self.size), if rules.event_index { 2 } else { 0 });
        let parts = [
            (self.descriptors, DESCRIPTOR * size),
            (self.driver_area, RING_HEAD + 2 * size + event),
            (self.device_area, RING_HEAD + 8 * size + event),
        ];
        self.placed = parts.iter().all(|(address, len)| ram.contains(*address, *len));
        if self.placed { Ok(()) } else { Err(Broken) }
    }

    fn in_device_area(&self, offset: u64) -> Result<GuestPhysAddr, Broken> {
        self.device_area.checked_add(offset).ok_or(Broken)
    }

    /// The size is a power of two while the queue is ready.
    const fn mask(&self) -> u16 {
        (self.size as u16).wrapping_sub(1)
    }
}

#[cfg(test)]
mod tests;
