//! Descriptor chains (virtio 1.2, "The Virtqueue Descriptor Table"), copied out of the guest's memory once and checked.

use alloc::vec::Vec;

use memory::{GuestPhysAddr, GuestRam};

use super::broken::Broken;
use super::buffers::Segment;

/// Bytes of a descriptor.
pub(crate) const DESCRIPTOR: u64 = 16;

const NEXT: u16 = 1;
const WRITE: u16 = 2;
const INDIRECT: u16 = 4;

/// A chain of buffers that a driver made available: those that the device reads, then those that it writes.
#[derive(Clone, Debug)]
pub(crate) struct Chain {
    /// What the driver knows the chain by, below the size of the queue.
    pub(crate) head: u16,
    /// Never more than there was room for at first, so that nothing is allocated on a guest's path.
    segments: Vec<Segment>,
    room: usize,
    /// How many of them are read by the device.
    readable: usize,
}

/// One descriptor, as it was when it was read.
struct Descriptor {
    address: GuestPhysAddr,
    len: u32,
    flags: u16,
    next: u16,
}

impl Descriptor {
    fn read(ram: &GuestRam, address: GuestPhysAddr) -> Result<Self, Broken> {
        let word = |offset| {
            let address = address.checked_add(offset)?;
            // Indirect tables need not be aligned.
            ram.read_word(address).or_else(|| {
                let mut bytes = [0; 8];
                ram.read(address, &mut bytes).ok()?;
                Some(u64::from_le_bytes(bytes))
            })
        };
        let (address, rest) = word(0).zip(word(8)).ok_or(Broken)?;
        let (len, flags, next) = (rest as u32, (rest >> 32) as u16, (rest >> 48) as u16);
        Ok(Self { address: GuestPhysAddr(address), len, flags, next })
    }
}

impl Chain {
    /// An empty chain, which becomes one of at most `room` buffers.
    pub(crate) fn new(room: usize) -> Self {
        Self { head: 0, segments: Vec::with_capacity(room), room, readable: 0 }
    }

    /// What the device reads.
    pub(crate) fn readable(&self) -> &[Segment] {
        self.segments.get(..self.readable).unwrap_or(&[])
    }

    /// What the device writes.
    pub(crate) fn writable(&self) -> &[Segment] {
        self.segments.get(self.readable..).unwrap_or(&[])
    }

    /// As [`Self::readable`], to cut pieces off.
    pub(crate) fn readable_mut(&mut self) -> &mut [Segment] {
        self.segments.get_mut(..self.readable).unwrap_or(&mut [])
    }

    /// As [`Self::writable`], to cut pieces off.
    pub(crate) fn writable_mut(&mut self) -> &mut [Segment] {
        self.segments.get_mut(self.readable..).unwrap_or(&mut [])
    }

    /// Takes the last byte of what the device writes away: its address.
    pub(crate) fn cut_last_byte(&mut self) -> Option<GuestPhysAddr> {
        let last = self.writable_mut().last_mut()?;
        last.len -= 1;
        let (address, is_empty) = (last.address.wrapping_add(last.len.into()), last.len == 0);
        if is_empty {
            self.segments.pop();
        }
        Some(address)
    }

    /// Takes the first `count` bytes of what the device reads away; says which segment is the first with something
    /// left.
    pub(crate) fn cut_front(&mut self, count: u64) -> usize {
        let mut left = count;
        for (index, segment) in self.readable_mut().iter_mut().enumerate() {
            if u64::from(segment.len) > left {
                segment.address = segment.address.wrapping_add(left);
                segment.len -= left as u32;
                return index;
            }
            left -= u64::from(segment.len);
        }
        self.readable
    }

    /// Becomes the chain that begins at descriptor `head` of a queue of `size` descriptors at `table`.
    ///
    /// Tables of descriptors are taken whether they were agreed upon or not, and a table may be longer than the queue, as
    /// on QEMU.
    ///
    /// # Errors
    /// Where the chain has more descriptors than its table or more buffers than there is room for, leaves its table or
    /// RAM, has an empty buffer or one for the device to read behind one to write, or an indirect table that is not whole.
    pub(crate) fn read(
        &mut self,
        ram: &GuestRam,
        table: GuestPhysAddr,
        size: u16,
        head: u16,
    ) -> Result<(), Broken> {
        self.head = head;
        self.segments.clear();
        self.readable = 0;
        let (mut table, mut entries, mut index) = (table, u32::from(size), u32::from(head));
        let mut is_indirect = false;
        let mut left = entries;
        // Each round but one takes a buffer, of which there are at most `room`: so loops end here.
        loop {
            if index >= entries || left == 0 {
                return Err(Broken);
            }
            left -= 1;
            let at = table.checked_add(DESCRIPTOR * u64::from(index)).ok_or(Broken)?;
            let descriptor = Descriptor::read(ram, at)?;
            // In a table the flag means nothing, as on QEMU.
            if descriptor.flags & INDIRECT != 0 && !is_indirect {
                let len = u64::from(descriptor.len);
                let whole = len != 0 && len.is_multiple_of(DESCRIPTOR);
                if !whole || !ram.contains(descriptor.address, len) {
                    return Err(Broken);
                }
                is_indirect = true;
                (table, entries, index) = (descriptor.address, descriptor.len / DESCRIPTOR as u32, 0);
                left = entries;
                continue;
            }
            self.push(ram, &descriptor)?;
            if descriptor.flags & NEXT == 0 {
                return Ok(());
            }
            index = u32::from(descriptor.next);
        }
    }

    fn push(&mut self, ram: &GuestRam, descriptor: &Descriptor) -> Result<(), Broken> {
        let Descriptor { address, len, flags, .. } = *descriptor;
        if len == 0 || !ram.contains(address, len.into()) || self.segments.len() >= self.room {
            return Err(Broken);
        }
        if flags & WRITE == 0 {
            if self.readable != self.segments.len() {
                return Err(Broken);
            }
            self.readable += 1;
        }
        self.segments.push(Segment { address, len });
        Ok(())
    }
}

#[cfg(test)]
mod tests;
