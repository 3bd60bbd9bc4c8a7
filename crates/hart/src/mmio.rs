//! Device registers of the real machine.

/// A range of device registers. Accesses outside it read 0 and write nothing.
#[derive(Debug)]
pub struct Mmio {
    base: usize,
    size: u64,
}

impl Mmio {
    /// The registers at the virtual address `base`. Made by `HostSpace::device` only, which has mapped them.
    pub(crate) const fn new(base: usize, size: u64) -> Self {
        Self { base, size }
    }

    /// The virtual address of the first register, and their bytes.
    pub(crate) fn range(&self) -> (usize, usize) {
        (self.base, self.size as usize)
    }

    /// Reads 8 bits at `offset`.
    pub fn read8(&self, offset: u64) -> u8 {
        // SAFETY: `place` gives addresses in the mapped range only.
        self.place::<u8>(offset).map_or(0, |place| unsafe { place.read_volatile() })
    }

    /// Writes 8 bits at `offset`.
    pub fn write8(&self, offset: u64, value: u8) {
        if let Some(place) = self.place::<u8>(offset) {
            // SAFETY: as above.
            unsafe { place.write_volatile(value) };
        }
    }

    /// Reads 32 bits at `offset`, a multiple of 4.
    pub fn read32(&self, offset: u64) -> u32 {
        // SAFETY: as above.
        self.place::<u32>(offset).map_or(0, |place| unsafe { place.read_volatile() })
    }

    /// Writes 32 bits at `offset`, a multiple of 4.
    pub fn write32(&self, offset: u64, value: u32) {
        if let Some(place) = self.place::<u32>(offset) {
            // SAFETY: as above.
            unsafe { place.write_volatile(value) };
        }
    }

    fn place<T>(&self, offset: u64) -> Option<*mut T> {
        let size = size_of::<T>() as u64;
        let fits = offset.checked_add(size)? <= self.size && offset.is_multiple_of(size);
        // The range does not go over the end of the addresses.
        fits.then_some((self.base as u64).wrapping_add(offset) as *mut T)
    }
}
