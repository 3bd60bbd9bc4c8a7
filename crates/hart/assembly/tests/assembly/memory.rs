//! The memory of this process, as the assembly reaches it: by address, but only where it has business, and each store is
//! remembered, so that it can be taken back.

/// What lies in a range of addresses.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum What {
    /// The vCPU's frame.
    Frame,
    /// The hypervisor's stack.
    Stack,
    /// The program with the assembly.
    Image,
    /// The table of sites.
    Sites,
    /// The table of hints.
    Hints,
    /// Shadow tables, and what their entries were made of.
    Shadow,
    /// Which slots of shadow tables are in use.
    Slots,
    /// The guest's RAM.
    Ram,
    /// What is asked of the guest's RAM.
    RamState,
}

impl What {
    /// Whether the assembly may store there.
    const fn is_writable(self) -> bool {
        matches!(self, Self::Frame | Self::Stack | Self::Shadow | Self::Slots)
    }
}

#[derive(Clone, Copy, Debug)]
struct Range {
    what: What,
    start: u64,
    size: u64,
}

/// A store, but to the stack.
#[derive(Clone, Copy, Debug)]
pub struct Change {
    pub what: What,
    pub address: u64,
    pub bytes: u8,
    pub old: u64,
}

/// An access where the assembly has no business.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Wild {
    pub address: u64,
    pub is_store: bool,
}

/// The ranges that are there, and what was stored since that was last asked.
#[derive(Debug, Default)]
pub struct Memory {
    ranges: Vec<Range>,
    changes: Vec<Change>,
}

impl Memory {
    /// Nothing.
    pub fn clear(&mut self) {
        self.ranges.clear();
        self.changes.clear();
    }

    /// Lets the assembly reach `bytes` at `start`. What is asked for most comes first.
    ///
    /// # Safety
    /// They are there until `clear`, and no reference is used to change them, nor to read what a store has changed, while
    /// `load`, `store` or `take_back` runs.
    pub unsafe fn add(&mut self, what: What, start: u64, bytes: usize) {
        self.ranges.push(Range { what, start, size: bytes as u64 });
    }

    fn what(&self, address: u64, bytes: u8) -> Option<What> {
        let range = self.ranges.iter().find(|range| address.wrapping_sub(range.start) < range.size)?;
        let fits = address.wrapping_sub(range.start) + u64::from(bytes) <= range.size;
        (fits && address.is_multiple_of(u64::from(bytes))).then_some(range.what)
    }

    /// Reads so many bytes.
    pub fn load(&self, address: u64, bytes: u8) -> Result<u64, Wild> {
        self.what(address, bytes).ok_or(Wild { address, is_store: false })?;
        Ok(read(address, bytes))
    }

    /// Writes so many bytes.
    pub fn store(&mut self, address: u64, bytes: u8, value: u64) -> Result<(), Wild> {
        let what = self.what(address, bytes).filter(|what| what.is_writable());
        let what = what.ok_or(Wild { address, is_store: true })?;
        if what != What::Stack {
            self.changes.push(Change { what, address, bytes, old: read(address, bytes) });
        }
        write(address, bytes, value);
        Ok(())
    }

    /// What was stored, in order, since this was last asked.
    pub fn take_changes(&mut self, into: &mut Vec<Change>) {
        into.clear();
        into.append(&mut self.changes);
    }

    /// Takes these stores back, the last one first.
    pub fn take_back(&mut self, changes: &[Change]) {
        changes.iter().rev().for_each(|change| write(change.address, change.bytes, change.old));
    }
}

/// What is at an address that `Memory` has found to be there.
fn read(address: u64, bytes: u8) -> u64 {
    let at = std::ptr::with_exposed_provenance::<u8>(address as usize);
    // SAFETY: aligned, and in a range that `add` was promised to be there.
    unsafe {
        match bytes {
            1 => at.read_volatile().into(),
            2 => at.cast::<u16>().read_volatile().into(),
            4 => at.cast::<u32>().read_volatile().into(),
            _ => at.cast::<u64>().read_volatile(),
        }
    }
}

fn write(address: u64, bytes: u8, value: u64) {
    let at = std::ptr::with_exposed_provenance_mut::<u8>(address as usize);
    // SAFETY: as for `read`; what is there may be written, as `What::is_writable` says.
    unsafe {
        match bytes {
            1 => at.write_volatile(value as u8),
            2 => at.cast::<u16>().write_volatile(value as u16),
            4 => at.cast::<u32>().write_volatile(value as u32),
            _ => at.cast::<u64>().write_volatile(value),
        }
    }
}

/// What a store of a case's has left at its address.
pub fn now(change: &Change) -> u64 {
    read(change.address, change.bytes)
}
