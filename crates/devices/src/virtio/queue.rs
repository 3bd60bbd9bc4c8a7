//! A split virtqueue (virtio 1.2, "Split Virtqueues"), seen from the device.
//!
//! The rings lie in guest memory, and the guest may change any byte of them at any time. Each index is read once,
//! checked, and never looked at again. What a driver may set up is what QEMU takes: any size up to [`MAX_SIZE`], at any
//! address.

use core::sync::atomic::{Ordering, fence};

use memory::{GuestPhysAddr, GuestRam};

pub use super::broken::Broken;
use super::chain::{Chain, DESCRIPTOR};

/// The most descriptors that a queue has, and what drivers are told of it.
pub const MAX_SIZE: u16 = 1024;
/// The most chains that a device looks at in one call: what is left is for the next one.
pub(crate) const BATCH: usize = 32;

/// What was agreed upon for all queues of a device.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Rules {
    /// `VIRTIO_F_EVENT_IDX`: each side says at which index it wants to be told.
    pub(crate) event_index: bool,
}

/// The driver's flag in the available ring: no interrupts, please.
const NO_INTERRUPT: u16 = 1;
/// Bytes before the entries of either ring: flags and index.
const RING_HEAD: u64 = 4;
/// Where a legacy driver's used ring begins that says nothing of it: at a multiple of this.
const DEFAULT_ALIGN: u32 = 4096;

/// A queue's parts, in guest memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Parts {
    pub(crate) descriptors: GuestPhysAddr,
    pub(crate) driver_area: GuestPhysAddr,
    pub(crate) device_area: GuestPhysAddr,
}

/// One virtqueue.
#[derive(Clone, Debug)]
pub(crate) struct Queue {
    /// Its size where the driver asks for none.
    default_size: u16,
    /// What the driver of a modern transport wrote, for when it says that the queue is ready.
    pub(crate) written: Parts,
    written_size: Option<u16>,
    /// Of a legacy transport: where the used ring begins.
    align: u32,
    /// Entries of each part; never 0, and [`MAX_SIZE`] at most.
    pub(super) size: u16,
    /// Where they are, as far as the device is concerned; descriptors at 0 are nowhere.
    pub(super) parts: Parts,
    ready: bool,
    /// The parts were found to lie in RAM since one of them, their size or the rules changed.
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
    /// A queue after power-on, which has `size` descriptors (1 to [`MAX_SIZE`]) where its driver asks for no other number.
    pub(crate) fn new(size: u16) -> Self {
        let size = size.clamp(1, MAX_SIZE);
        Self {
            default_size: size,
            written: Parts::default(),
            written_size: None,
            align: DEFAULT_ALIGN,
            size,
            parts: Parts::default(),
            ready: false,
            placed: false,
            next_available: 0,
            seen_available: 0,
            next_used: 0,
            asked_used: 0,
        }
    }

    pub(crate) const fn default_size(&self) -> u16 {
        self.default_size
    }

    /// To the state after a reset by the driver. What it wrote to registers stays for the next time, as on QEMU.
    pub(crate) fn reset(&mut self) {
        let Self { written, written_size, align, .. } = *self;
        *self = Self { written, written_size, align, ..Self::new(self.default_size) };
    }

    pub(crate) const fn is_ready(&self) -> bool {
        self.ready
    }

    /// Whether the device may use it.
    pub(crate) fn is_live(&self) -> bool {
        self.ready && self.parts.descriptors != GuestPhysAddr(0)
    }

    /// Sets the number of descriptors, at once. What is no number for a queue is ignored.
    pub(crate) fn set_size(&mut self, size: u32) {
        if let Some(size) = u16::try_from(size).ok().filter(|size| (1..=MAX_SIZE).contains(size)) {
            self.written_size = Some(size);
            self.size = size;
            self.placed = false;
        }
    }

    /// Lets the device use the queue where the driver has said that it lies. One that is taken up again goes on where it
    /// was: its indices begin anew with a reset of the device only.
    pub(crate) fn enable(&mut self) {
        self.size = self.written_size.unwrap_or(self.size);
        self.parts = self.written;
        (self.ready, self.placed) = (true, false);
    }

    /// Takes the queue from the device.
    pub(crate) fn disable(&mut self) {
        self.ready = false;
    }

    /// "Legacy interface": where the three parts of the queue begin, one behind the other.
    pub(crate) fn set_legacy_place(&mut self, address: GuestPhysAddr) {
        self.parts.descriptors = address;
        self.ready = true;
        self.lay_out();
    }

    /// "Legacy interface": the used ring begins at a multiple of `align`. 0 is ignored; it need be no power of two.
    pub(crate) fn set_align(&mut self, align: u32) {
        if align != 0 {
            self.align = align;
            self.lay_out();
        }
    }

    /// "Legacy interface": sets the number of descriptors, which moves the rings.
    pub(crate) fn set_legacy_size(&mut self, size: u32) {
        self.set_size(size);
        self.lay_out();
    }

    /// Puts the rings behind the descriptors. The available ring's last word, for the event index, does not count, as on
    /// QEMU: at an alignment of less than 8 bytes that is 2 bytes before what the specification's formula gives.
    fn lay_out(&mut self) {
        let size = u64::from(self.size);
        let available = self.parts.descriptors.wrapping_add(DESCRIPTOR * size);
        let GuestPhysAddr(end) = available.wrapping_add(RING_HEAD + 2 * size);
        let used = end.checked_next_multiple_of(u64::from(self.align)).unwrap_or(u64::MAX);
        self.parts.driver_area = available;
        self.parts.device_area = GuestPhysAddr(used);
        self.placed = false;
    }

    /// Looks again whether the queue lies in RAM, for the rules have changed.
    pub(crate) fn rules_changed(&mut self) {
        self.placed = false;
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
            store(ram, self.in_device_area(event)?, self.next_available)?;
            fence(Ordering::SeqCst);
            if !self.has_available(ram, rules)? {
                return Ok(false);
            }
        }
        let slot = u64::from(self.slot(self.next_available));
        let entry = self.parts.driver_area.checked_add(RING_HEAD + 2 * slot).ok_or(Broken)?;
        let head = load(ram, entry)?;
        chain.read(ram, self.parts.descriptors, self.size, head)?;
        self.next_available = self.next_available.wrapping_add(1);
        Ok(true)
    }

    /// Whether the driver has made a chain available that was not taken.
    pub(crate) fn has_available(&mut self, ram: &GuestRam, rules: Rules) -> Result<bool, Broken> {
        if !self.is_live() {
            return Ok(false);
        }
        self.check_place(ram, rules)?;
        if self.next_available != self.seen_available {
            return Ok(true);
        }
        let index = self.parts.driver_area.checked_add(2).ok_or(Broken).and_then(|at| load(ram, at))?;
        if index.wrapping_sub(self.next_available) > self.size {
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
    #[inline]
    pub(crate) fn fill_used(&self, ram: &GuestRam, ahead: u16, head: u16, len: u32) -> Result<(), Broken> {
        // Of the index first: the sum may go over the end of 16 bits, where a size that is no power of two jumps.
        let first = self.slot(self.next_used);
        let slot = u64::from(if ahead == 0 { first } else { self.slot(first.wrapping_add(ahead)) });
        let [h0, h1] = head.to_le_bytes();
        let [l0, l1, l2, l3] = len.to_le_bytes();
        let entry = self.in_device_area(RING_HEAD + 8 * slot)?;
        ram.device_write(entry, &[h0, h1, 0, 0, l0, l1, l2, l3]).map_err(|_| Broken)
    }

    /// Shows the driver `count` more entries of the used ring. Says whether it wants an interrupt.
    pub(crate) fn publish(&mut self, ram: &GuestRam, rules: Rules, count: u16) -> Result<bool, Broken> {
        self.next_used = self.next_used.wrapping_add(count);
        // Release: the driver that sees the index sees the entries and the data.
        store(ram, self.in_device_area(2)?, self.next_used)?;
        // "Used Buffer Notification Suppression": the index must be out before the driver's wish is read.
        fence(Ordering::SeqCst);
        let wish = if rules.event_index { RING_HEAD + 2 * u64::from(self.size) } else { 0 };
        let wish = self.parts.driver_area.checked_add(wish).ok_or(Broken).and_then(|at| load(ram, at))?;
        if !rules.event_index {
            return Ok(wish & NO_INTERRUPT == 0);
        }
        let passed = self.next_used.wrapping_sub(wish).wrapping_sub(1);
        let new = self.next_used.wrapping_sub(self.asked_used);
        self.asked_used = self.next_used;
        Ok(passed < new)
    }

    /// The three parts lie in RAM as a whole.
    #[inline]
    fn check_place(&mut self, ram: &GuestRam, rules: Rules) -> Result<(), Broken> {
        if self.placed { Ok(()) } else { self.find_place(ram, rules) }
    }

    #[cold]
    fn find_place(&mut self, ram: &GuestRam, rules: Rules) -> Result<(), Broken> {
        let (size, event) = (u64::from(self.size), if rules.event_index { 2 } else { 0 });
        let parts = [
            (self.parts.descriptors, DESCRIPTOR * size),
            (self.parts.driver_area, RING_HEAD + 2 * size + event),
            (self.parts.device_area, RING_HEAD + 8 * size + event),
        ];
        self.placed = parts.iter().all(|(address, len)| ram.contains(*address, *len));
        if self.placed { Ok(()) } else { Err(Broken) }
    }

    fn in_device_area(&self, offset: u64) -> Result<GuestPhysAddr, Broken> {
        self.parts.device_area.checked_add(offset).ok_or(Broken)
    }

    /// The entry of a ring that an index means.
    const fn slot(&self, index: u16) -> u16 {
        // Most sizes are powers of two, and a division takes long.
        if self.size.is_power_of_two() {
            index & self.size.wrapping_sub(1)
        } else {
            match index.checked_rem(self.size) {
                Some(slot) => slot,
                None => 0,
            }
        }
    }
}

/// Reads a number of a ring, in one access where it is aligned.
fn load(ram: &GuestRam, address: GuestPhysAddr) -> Result<u16, Broken> {
    ram.load_u16(address).map_or_else(|| load_bytes(ram, address), Ok)
}

#[cold]
#[inline(never)]
fn load_bytes(ram: &GuestRam, address: GuestPhysAddr) -> Result<u16, Broken> {
    let mut bytes = [0; 2];
    ram.read(address, &mut bytes).map_err(|_| Broken)?;
    fence(Ordering::Acquire);
    Ok(u16::from_le_bytes(bytes))
}

/// Writes a number of a ring, in one access where it is aligned.
fn store(ram: &GuestRam, address: GuestPhysAddr, value: u16) -> Result<(), Broken> {
    if ram.store_u16(address, value).is_ok() {
        return Ok(());
    }
    fence(Ordering::Release);
    ram.device_write(address, &value.to_le_bytes()).map_err(|_| Broken)
}

#[cfg(test)]
mod tests;
