//! Whether a page that is executed and read is better off with a copy or without one.
//!
//! With a copy, its sites are cheap and loads from it are carried out by hand; without, loads are the hardware's and the sites
//! trap by way of the firmware. Neither the sites that the assembly serves nor the loads of the hardware are counted anywhere,
//! so a page that has a copy is *weighed* now and then: for a few events its sites are not given to the assembly, and what
//! they save is compared with what the loads cost. Where the copy wins, more loads pass before the page is weighed again; where
//! it loses, it ends, and more traps pass before there is another, which is weighed at once. Both numbers double as long as the
//! verdict stays the same. So weighing, copying and a wrong state cost no more than a share of what was spent anyhow.
//!
//! A copy that `store` keeps stays, whatever is read: without it the firmware would complain.

use memory::{GuestPhysAddr, GuestRam, HostPhysAddr, PAGE_SIZE};

use crate::CodePages;

/// What one load that is carried out by hand costs, and what a replaced site saves, in hundreds of instructions.
const LOAD_COSTS: u32 = 6;
const SITE_SAVES: u32 = 11;
/// Loads, or traps, that pass before a page is weighed, at first.
pub(crate) const FIRST_PATIENCE: u32 = 64;
/// They stop doubling here, so that a change is noticed.
pub(crate) const LAST_PATIENCE: u32 = 1 << 16;
/// Loads and executed sites by which a page is weighed.
pub(crate) const WEIGHED_BY: u32 = 64;

/// What a load from a copied page, or a site that was executed in it, has changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Weighed {
    /// Nothing; the page is not being weighed.
    No,
    /// The page is being weighed from now on: its sites must be forgotten, so that they are counted.
    Begins,
    /// It is being weighed, so its sites are not to be remembered.
    Counted,
    /// This copy has ended: every shadow leaf that maps it must go before it is used again.
    Ended(HostPhysAddr),
}

/// What speaks for a copy and what against it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Scale {
    /// Loads until the page is weighed; 0 while it is.
    left: u32,
    /// How many there are the next time.
    patience: u32,
    /// Since it is being weighed.
    loads: u32,
    sites: u32,
}

impl Scale {
    pub(crate) const NEW: Self = Self { left: FIRST_PATIENCE, patience: FIRST_PATIENCE, loads: 0, sites: 0 };

    const fn is_over(self) -> bool {
        self.loads.saturating_add(self.sites) >= WEIGHED_BY
    }

    const fn favours_copy(self) -> bool {
        self.sites.saturating_mul(SITE_SAVES) >= self.loads.saturating_mul(LOAD_COSTS)
    }
}

impl CodePages {
    /// Lets a new copy be weighed at once where loads have ended the one before.
    pub(crate) fn begin_balance(&mut self, page: GuestPhysAddr, copy: HostPhysAddr) {
        if self.heat_of(page).is_some_and(|heat| heat.rest > 0) {
            self.set_scale(copy, Scale { left: 0, ..Scale::NEW });
        }
    }

    /// Counts a load from a copied page, which was carried out by hand.
    pub fn loaded(&mut self, ram: &GuestRam, address: GuestPhysAddr) -> Weighed {
        let Some((copy, mut scale)) = self.scale_of(ram, address) else { return Weighed::No };
        if scale.left > 0 {
            scale.left = scale.left.saturating_sub(1);
            self.set_scale(copy, scale);
            return if scale.left > 0 { Weighed::No } else { Weighed::Begins };
        }
        scale.loads = scale.loads.saturating_add(1);
        self.weigh(ram, address, copy, scale)
    }

    /// Counts a replaced site that was executed and that the assembly did not serve.
    pub fn executed(&mut self, ram: &GuestRam, site: GuestPhysAddr) -> Weighed {
        let Some((copy, mut scale)) = self.scale_of(ram, site) else { return Weighed::No };
        if scale.left > 0 {
            return Weighed::No;
        }
        scale.sites = scale.sites.saturating_add(1);
        self.weigh(ram, site, copy, scale)
    }

    fn weigh(&mut self, ram: &GuestRam, address: GuestPhysAddr, copy: HostPhysAddr, scale: Scale) -> Weighed {
        let page = address.align_down(PAGE_SIZE);
        if !scale.is_over() {
            self.set_scale(copy, scale);
            return Weighed::Counted;
        }
        if scale.favours_copy() {
            let (left, patience) = (scale.patience, double(scale.patience));
            self.set_scale(copy, Scale { left, patience, ..Scale::NEW });
            self.set_rest(page, 0);
            return Weighed::No;
        }
        let rest = self.heat_of(page).map_or(0, |heat| heat.rest);
        self.set_rest(page, double(rest));
        self.uncover(ram, page).map_or(Weighed::No, Weighed::Ended)
    }

    fn set_rest(&mut self, page: GuestPhysAddr, traps: u32) {
        if let Some(heat) = self.heat_of(page) {
            heat.rest = traps;
        }
    }

    /// The copy of the page of `address` and what is known of it, if the page may do without.
    fn scale_of(&self, ram: &GuestRam, address: GuestPhysAddr) -> Option<(HostPhysAddr, Scale)> {
        let copy = ram.overlay().copy_of(address)?;
        if self.keeps(ram, address) {
            return None;
        }
        Some((copy, self.copies.get(self.number(copy)?)?.scale))
    }

    fn set_scale(&mut self, copy: HostPhysAddr, scale: Scale) {
        if let Some(place) = self.copied(copy) {
            place.scale = scale;
        }
    }
}

const fn double(patience: u32) -> u32 {
    let doubled = patience.saturating_mul(2);
    if doubled < FIRST_PATIENCE {
        FIRST_PATIENCE
    } else if doubled > LAST_PATIENCE {
        LAST_PATIENCE
    } else {
        doubled
    }
}

#[cfg(test)]
mod tests;
