//! Addresses on buses: how many cells they have and where the parent bus sees them. Devicetree spec 0.4,
//! 2.3.5 "#address-cells and #size-cells" and 2.3.8 "ranges".

use crate::blob::be32;

/// What a node says of its children's addresses.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bus<'a> {
    /// Cells of an address; only 1 and 2 can be read, 3 is PCI's.
    pub(crate) address_cells: u32,
    /// Cells of a size; only 0 to 2 can be read.
    pub(crate) size_cells: u32,
    /// Windows to the parent bus: child address, parent address, size. Empty where the two are one address
    /// space, `None` where the parent does not see the children at all.
    pub(crate) ranges: Option<&'a [u8]>,
}

impl Default for Bus<'_> {
    fn default() -> Self {
        Self { address_cells: 2, size_cells: 1, ranges: None }
    }
}

impl<'a> Bus<'a> {
    /// The entries of a child's `reg`: address and size. None at all where their cells cannot be read.
    pub(crate) fn entries(self, reg: &'a [u8]) -> impl Iterator<Item = (u64, u64)> + 'a {
        let mut rest = reg;
        core::iter::from_fn(move || Some((self.address(&mut rest)?, take(&mut rest, self.size_cells)?)))
    }

    /// Where `parent` sees the range of `size` bytes at `address`; `None` where it does not, or not in one piece.
    pub(crate) fn to_parent(self, parent: Bus<'_>, address: u64, size: u64) -> Option<u64> {
        let mut windows = self.ranges?;
        if windows.is_empty() {
            return Some(address);
        }
        loop {
            let child = self.address(&mut windows)?;
            let base = parent.address(&mut windows)?;
            let length = take(&mut windows, self.size_cells)?;
            let within =
                address.checked_sub(child).filter(|&offset| offset < length && size <= length - offset);
            if let Some(offset) = within {
                return base.checked_add(offset);
            }
        }
    }

    /// Takes an address of this bus. At least one cell, so that a loop over them ends.
    fn address(self, from: &mut &[u8]) -> Option<u64> {
        if self.address_cells == 0 { None } else { take(from, self.address_cells) }
    }
}

/// Takes a number of up to two cells from the front of `from`.
fn take(from: &mut &[u8], cells: u32) -> Option<u64> {
    let value = match cells {
        0 => 0,
        1 => be32(from, 0)?.into(),
        2 => u64::from(be32(from, 0)?) << 32 | u64::from(be32(from, 4)?),
        _ => return None,
    };
    *from = from.get(cells as usize * 4..)?;
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOT: Bus<'_> = Bus { address_cells: 2, size_cells: 2, ranges: Some(&[]) };

    #[test]
    fn a_window_moves_addresses_and_nothing_outside_of_it() {
        // Child 0x1000 is parent 0x1_2000_0000, over 0x100 bytes.
        let ranges = [0, 0, 0x10, 0, 0, 0, 0, 1, 0x20, 0, 0, 0, 0, 0, 1, 0];
        let bus = Bus { address_cells: 1, size_cells: 1, ranges: Some(&ranges) };
        assert_eq!(bus.to_parent(ROOT, 0x1010, 0x10), Some(0x1_2000_0010));
        assert_eq!(bus.to_parent(ROOT, 0x10f0, 0x10), Some(0x1_2000_00f0));
        assert_eq!(bus.to_parent(ROOT, 0x10f0, 0x11), None);
        assert_eq!(bus.to_parent(ROOT, 0xfff, 1), None);
        assert_eq!(bus.to_parent(ROOT, 0x1100, 0), None);
    }

    #[test]
    fn a_bus_without_ranges_is_not_seen() {
        assert_eq!(Bus::default().to_parent(ROOT, 0, 1), None);
    }

    #[test]
    fn cells_that_cannot_be_read_end_the_list() {
        let reg = [0; 64];
        let entries =
            |address_cells, size_cells| Bus { address_cells, size_cells, ranges: None }.entries(&reg).count();
        assert_eq!(entries(2, 2), 4);
        assert_eq!(entries(1, 0), 16);
        assert_eq!(entries(0, 0), 0);
        assert_eq!(entries(3, 2), 0);
        assert_eq!(entries(u32::MAX, u32::MAX), 0);
    }
}
