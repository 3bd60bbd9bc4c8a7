//! What stands at a site: the place of an instruction of four bytes, which a page's end may tear.

use memory::{GuestPhysAddr, GuestRam, PAGE_SIZE};

/// The parcel of `word` that lies at the address.
pub(crate) const fn parcel(word: u64, at: GuestPhysAddr) -> u16 {
    (word >> (8 * (at.0 & 6))) as u16
}

/// The two parcels in RAM at an address, as an instruction of four bytes.
pub(crate) fn instruction(ram: &GuestRam, at: GuestPhysAddr) -> Option<u32> {
    let read = |at: GuestPhysAddr| Some(u32::from(parcel(ram.read_word(at.align_down(8))?, at)));
    Some(read(at.wrapping_add(2))? << 16 | read(at)?)
}

/// Whether an instruction of four bytes at `site` is torn by the end of its page.
pub const fn is_torn(site: GuestPhysAddr) -> bool {
    site.0 % PAGE_SIZE > PAGE_SIZE - 4
}

/// What its page has of the instruction of four bytes at `site`.
pub(crate) fn site_bits(ram: &GuestRam, site: GuestPhysAddr) -> Option<u32> {
    if is_torn(site) {
        return Some(u32::from(parcel(ram.read_word(site.align_down(8))?, site)));
    }
    instruction(ram, site)
}
