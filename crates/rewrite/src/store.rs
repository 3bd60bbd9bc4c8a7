//! Stores to copied pages that keep their copies: where one of those would be made again at once, since the firmware
//! complains of what is in the page. Once nothing of that is left, a copy is kept through a few stores more, for a guest that
//! puts it back, and no longer: code that has become data is stored to all the time.

use memory::{GuestPhysAddr, GuestRam, HostPhysAddr, NotRam, PAGE_SIZE};

use crate::scan::{is_loud, loud_sites, may_be_torn};
use crate::{CodePages, is_torn, site_bits};

/// Places at which sites may begin in the words that a store of up to eight bytes concerns: the one before, and two.
const NEAR: usize = 12;
/// As long as there are instructions that the firmware complains of.
pub(crate) const ALWAYS: u8 = u8::MAX;
/// Stores that a copy without any is kept through.
pub(crate) const PATIENCE: u8 = 16;

impl CodePages {
    /// Whether the page of `address` has a copy that is to be kept through stores.
    pub fn keeps(&self, ram: &GuestRam, address: GuestPhysAddr) -> bool {
        let copy = ram.overlay().copy_of(address);
        copy.and_then(|copy| self.stores_left(copy)).is_some_and(|left| left > 0)
    }

    /// Stores up to eight bytes that lie in one page, and does the same to the page's copy. Breakpoints stay where the
    /// instruction that they stand for has stayed.
    ///
    /// # Errors
    /// Where it is not RAM.
    pub fn store(&mut self, ram: &GuestRam, address: GuestPhysAddr, bytes: &[u8]) -> Result<(), NotRam> {
        let Some(copy) = ram.overlay().copy_of(address) else { return ram.write(address, bytes) };
        let page = address.align_down(PAGE_SIZE);
        let offset = address.0 % PAGE_SIZE;
        let first = (offset & !7).saturating_sub(8);
        let end = offset.saturating_add(bytes.len() as u64).next_multiple_of(8).min(PAGE_SIZE);
        let mut sites = [(page, None); NEAR];
        for (place, at) in sites.iter_mut().zip((first..end).step_by(2)) {
            let site = page.wrapping_add(at);
            *place = (site, self.replaced(ram, site));
        }
        ram.write_beneath(address, bytes)?;
        for at in (first..end).step_by(8) {
            self.copy_word(ram, page.wrapping_add(at), copy);
        }
        for (site, bits) in sites {
            if bits.is_some() && site_bits(ram, site) == bits {
                self.set_breakpoint(copy, site);
            }
        }
        let came = self.replace_loud(ram, address, bytes.len(), copy);
        let is_loud_site = |site, bits| is_loud(bits) || is_torn(site) && may_be_torn(bits as u16);
        let went = sites.iter().any(|(site, bits)| {
            bits.is_some_and(|bits| is_loud_site(*site, bits)) && site_bits(ram, *site) != *bits
        });
        let left = match self.stores_left(copy) {
            _ if came => ALWAYS,
            Some(ALWAYS) if went && loud_sites(ram, page, None).is_empty() => PATIENCE,
            Some(ALWAYS) => ALWAYS,
            left => left.unwrap_or(0).saturating_sub(1),
        };
        self.keep(copy, left);
        ram.note_code_write();
        Ok(())
    }

    fn stores_left(&self, copy: HostPhysAddr) -> Option<u8> {
        self.copies.get(self.number(copy)?).map(|copied| copied.kept)
    }

    /// Replaces what was stored if it is an instruction that the firmware complains of; says whether it was.
    fn replace_loud(
        &mut self,
        ram: &GuestRam,
        address: GuestPhysAddr,
        len: usize,
        copy: HostPhysAddr,
    ) -> bool {
        let (page, offset) = (address.align_down(PAGE_SIZE), address.0 % PAGE_SIZE);
        let came = len >= 4
            && offset.is_multiple_of(2)
            && site_bits(ram, address).is_some_and(is_loud)
            && loud_sites(ram, page, None).contains(&offset)
            && self.replaced(ram, address).is_none();
        if came {
            self.replace(copy, address);
        }
        came
    }
}
