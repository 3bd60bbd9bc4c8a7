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
use crate::copies::{ALWAYS, PATIENCE};
use crate::plan::Change;
use crate::scan::{is_loud, loud_sites, may_be_torn};
use crate::site::{is_torn, site_bits};

/// Places at which sites may begin in the words that a store of up to eight bytes concerns: the one before, and two.
const NEAR: usize = 12;

/// What a store has put into a page with a copy.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Came {
    Nothing,
    /// A loud instruction, which is to be replaced.
    Loud,
    /// What is one if an instruction begins there.
    Perhaps,
}

/// A place at which a site may begin, near a store.
#[derive(Clone, Copy)]
struct Near {
    site: GuestPhysAddr,
    /// What the breakpoint there stood for before the store.
    before: Option<u32>,
    /// Whether there is to be one after it.
    is_site: bool,
}

impl CodePages {
    /// Stores up to eight bytes that lie in one page, for which `carries_out` is true, and does the same to the page's copy.
    /// Breakpoints stay where the instruction that they stand for has stayed: a hart that fetches from the copy meanwhile never
    /// meets such an instruction itself.
    ///
    /// # Errors
    /// Where it is not RAM.
    pub fn store(&mut self, ram: &GuestRam, address: GuestPhysAddr, bytes: &[u8]) -> Result<Change, NotRam> {
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
    ) -> Result<Change, NotRam> {
        let page = address.align_down(PAGE_SIZE);
        ram.write_beneath(address, bytes)?;
        ram.note_code_write();
        if touched_sites(address, bytes.len()).any(|site| may_be_loud(ram, site)) {
            return Ok(match self.reopen(ram, page) {
                Change::None => Change::ForgetSites,
                change => change,
            });
        }
        if !self.may_be_scanned_again(page) {
            ram.exempt_from_scan(page);
        }
        Ok(Change::ForgetSites)
    }

    fn store_beside_copy(
        &mut self,
        ram: &GuestRam,
        address: GuestPhysAddr,
        bytes: &[u8],
        copy: HostPhysAddr,
    ) -> Result<Change, NotRam> {
        let page = address.align_down(PAGE_SIZE);
        let offset = address.0 % PAGE_SIZE;
        let first = (offset & !7).saturating_sub(8);
        let end = offset.saturating_add(bytes.len() as u64).next_multiple_of(8).min(PAGE_SIZE);
        let mut near = [Near { site: page, before: None, is_site: false }; NEAR];
        for (place, at) in near.iter_mut().zip((first..end).step_by(2)) {
            place.site = page.wrapping_add(at);
            place.before = self.bits_at(ram, place.site, copy);
        }
        ram.write_beneath(address, bytes)?;
        for place in &mut near {
            place.is_site = place.before.is_some() && site_bits(ram, place.site) == place.before;
        }
        let came = self.note_loud(ram, address, bytes.len(), &mut near);
        if came == Came::Perhaps && self.may_be_scanned_again(page) {
            return Ok(self.uncover(ram, page));
        }
        // Once all that is to be in it is known.
        for at in (first..end).step_by(8) {
            let is_site = |at| near.iter().any(|place| place.is_site && place.site == at);
            self.copies.write(ram, page.wrapping_add(at), copy, is_site);
        }
        ram.note_code_write();
        let is_loud_site = |site, bits| is_loud(bits) || is_torn(site) && may_be_torn(bits as u16);
        let went = near.iter().any(|place| {
            place.before.is_some_and(|bits| is_loud_site(place.site, bits))
                && site_bits(ram, place.site) != place.before
        });
        let left = match self.copies.of(copy).map_or(0, |copy| copy.kept) {
            _ if came == Came::Loud => ALWAYS,
            ALWAYS if went && loud_sites(ram, page, None, || None).is_empty() => PATIENCE,
            ALWAYS => ALWAYS,
            left => left.saturating_sub(1),
        };
        self.keep(copy, left);
        Ok(Change::ForgetSites)
    }

    /// Notes where a store of `len` bytes has made what was none an instruction that the firmware complains of.
    fn note_loud(&mut self, ram: &GuestRam, address: GuestPhysAddr, len: usize, near: &mut [Near]) -> Came {
        let page = address.align_down(PAGE_SIZE);
        let mut came = Came::Nothing;
        let mut sure = None;
        for site in touched_sites(address, len).filter(|site| may_be_loud(ram, *site)) {
            let Some(place) = near.iter_mut().find(|place| place.site == site && !place.is_site) else {
                continue;
            };
            let sure = sure.get_or_insert_with(|| loud_sites(ram, page, None, || None));
            if sure.contains(&(site.0 % PAGE_SIZE)) {
                place.is_site = true;
                self.counts.sites = self.counts.sites.wrapping_add(1);
                came = Came::Loud;
            } else if came == Came::Nothing {
                came = Came::Perhaps;
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
