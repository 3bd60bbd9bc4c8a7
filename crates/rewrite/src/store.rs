//! Stores to pages whose code was scanned, on firmware that complains of some instructions.
//!
//! A store to a page without a copy lets it be stored to, and scanned again before it is executed. One from code in the same
//! page could not be executed then, so it is carried out by hand, and the page is scanned again only where there may be a
//! loud instruction now. A page that is stored to again and again, and found to have none, is code and data at once, and
//! exempt from scanning after that.
//!
//! A page with a copy keeps it where it would be made again at once, since there are loud instructions in it. Once none of
//! those is left, it is kept through a few stores more, for a guest that puts it back, and no longer: code that has become
//! data is stored to all the time.

use memory::{GuestPhysAddr, GuestRam, HostPhysAddr, NotRam, PAGE_SIZE};

use crate::CodePages;
use crate::scan::{is_loud, loud_sites, may_be_torn};
use crate::site::{is_torn, site_bits};

/// Places at which sites may begin in the words that a store of up to eight bytes concerns: the one before, and two.
const NEAR: usize = 12;
/// As long as there are instructions that the firmware complains of.
pub(crate) const ALWAYS: u8 = u8::MAX;
/// Stores that a copy without any is kept through, and a page without any is scanned again after.
pub(crate) const PATIENCE: u8 = 16;

/// What a store has put into a page with a copy.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Came {
    Nothing,
    /// A loud instruction, which was replaced.
    Loud,
    /// What is one if an instruction begins there.
    Perhaps,
}

impl CodePages {
    /// Whether the page of `address` has a copy that is to be kept through stores.
    pub fn keeps(&self, ram: &GuestRam, address: GuestPhysAddr) -> bool {
        let copy = ram.overlay().copy_of(address);
        copy.and_then(|copy| self.stores_left(copy)).is_some_and(|left| left > 0)
    }

    /// Lets the page of `address`, which has no copy, be stored to. Where it has to be scanned again before it is executed,
    /// says where it lies in host memory: every shadow leaf that maps it must go.
    pub fn open(&mut self, ram: &GuestRam, address: GuestPhysAddr) -> Option<HostPhysAddr> {
        let page = address.align_down(PAGE_SIZE);
        if !ram.overlay().is_scanned(page) {
            return None;
        }
        if self.has_patience(page) {
            ram.forget_scanned(page);
            return ram.host_address(page);
        }
        ram.exempt_from_scan(page);
        None
    }

    /// Stores up to eight bytes that lie in one page, which is guarded or has a copy, and does the same to the copy.
    /// Breakpoints stay where the instruction that they stand for has stayed. Where the page has to be scanned again before
    /// it is executed, says where what is mapped of it lies in host memory, as `open` and `end` do.
    ///
    /// # Errors
    /// Where it is not RAM.
    pub fn store(
        &mut self,
        ram: &GuestRam,
        address: GuestPhysAddr,
        bytes: &[u8],
    ) -> Result<Option<HostPhysAddr>, NotRam> {
        match ram.overlay().copy_of(address) {
            Some(copy) => self.store_beside_copy(ram, address, bytes, copy),
            None => self.store_to_guarded(ram, address, bytes),
        }
    }

    fn store_to_guarded(
        &mut self,
        ram: &GuestRam,
        address: GuestPhysAddr,
        bytes: &[u8],
    ) -> Result<Option<HostPhysAddr>, NotRam> {
        ram.write_beneath(address, bytes)?;
        ram.note_code_write();
        if touched_sites(address, bytes.len()).any(|site| may_be_loud(ram, site)) {
            return Ok(self.open(ram, address));
        }
        if !self.has_patience(address.align_down(PAGE_SIZE)) {
            ram.exempt_from_scan(address);
        }
        Ok(None)
    }

    fn store_beside_copy(
        &mut self,
        ram: &GuestRam,
        address: GuestPhysAddr,
        bytes: &[u8],
        copy: HostPhysAddr,
    ) -> Result<Option<HostPhysAddr>, NotRam> {
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
        ram.note_code_write();
        for at in (first..end).step_by(8) {
            self.copy_word(ram, page.wrapping_add(at), copy);
        }
        for (site, bits) in sites {
            if bits.is_some() && site_bits(ram, site) == bits {
                self.set_breakpoint(copy, site);
            }
        }
        let came = self.replace_loud(ram, address, bytes.len(), copy);
        if came == Came::Perhaps && self.has_patience(page) {
            return Ok(self.uncover(ram, page));
        }
        let is_loud_site = |site, bits| is_loud(bits) || is_torn(site) && may_be_torn(bits as u16);
        let went = sites.iter().any(|(site, bits)| {
            bits.is_some_and(|bits| is_loud_site(*site, bits)) && site_bits(ram, *site) != *bits
        });
        let left = match self.stores_left(copy) {
            _ if came == Came::Loud => ALWAYS,
            Some(ALWAYS) if went && loud_sites(ram, page, None, || None).is_empty() => PATIENCE,
            Some(ALWAYS) => ALWAYS,
            left => left.unwrap_or(0).saturating_sub(1),
        };
        self.keep(copy, left);
        Ok(None)
    }

    fn stores_left(&self, copy: HostPhysAddr) -> Option<u8> {
        self.copies.get(self.number(copy)?).map(|copied| copied.kept)
    }

    /// Counts a store to a page; says whether it may be scanned again after it.
    fn has_patience(&mut self, page: GuestPhysAddr) -> bool {
        self.heat_of(page).is_some_and(|heat| {
            heat.stores = heat.stores.saturating_add(1);
            heat.stores <= PATIENCE
        })
    }

    /// Replaces what a store of `len` bytes has made an instruction that the firmware complains of.
    fn replace_loud(
        &mut self,
        ram: &GuestRam,
        address: GuestPhysAddr,
        len: usize,
        copy: HostPhysAddr,
    ) -> Came {
        let page = address.align_down(PAGE_SIZE);
        let mut came = Came::Nothing;
        let mut sure = None;
        for site in touched_sites(address, len) {
            if may_be_loud(ram, site) && self.replaced(ram, site).is_none() {
                let sure = sure.get_or_insert_with(|| loud_sites(ram, page, None, || None));
                if sure.contains(&(site.0 % PAGE_SIZE)) {
                    self.replace(copy, site);
                    came = Came::Loud;
                } else if came == Came::Nothing {
                    came = Came::Perhaps;
                }
            }
        }
        came
    }
}

/// Where an instruction of four bytes may begin that has one of the `len` bytes at `address`, in their page.
fn touched_sites(address: GuestPhysAddr, len: usize) -> impl Iterator<Item = GuestPhysAddr> {
    let (page, offset) = (address.align_down(PAGE_SIZE), address.0 % PAGE_SIZE);
    let end = offset.saturating_add(len as u64).min(PAGE_SIZE);
    ((offset & !1).saturating_sub(2)..end).step_by(2).map(move |at| page.wrapping_add(at))
}

/// Whether what is at `site` is an instruction that the firmware complains of, if an instruction begins there.
fn may_be_loud(ram: &GuestRam, site: GuestPhysAddr) -> bool {
    site_bits(ram, site)
        .is_some_and(|bits| if is_torn(site) { may_be_torn(bits as u16) } else { is_loud(bits) })
}
