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

/// What one load that is carried out by hand costs, and what a replaced site saves, in hundreds of instructions.
const LOAD_COSTS: u32 = 6;
const SITE_SAVES: u32 = 11;
/// Loads, or traps, that pass before a page is weighed, at first.
pub(crate) const FIRST_PATIENCE: u32 = 64;
/// They stop doubling here, so that a change is noticed.
pub(crate) const LAST_PATIENCE: u32 = 1 << 16;
/// Loads and executed sites by which a page is weighed.
pub(crate) const WEIGHED_BY: u32 = 64;

/// Where the weighing of a page has got to by a load, or by a site that was executed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Weighing {
    /// It is not being weighed.
    No,
    /// It is being weighed from now on: its sites must be forgotten, so that they are counted.
    Begins,
    /// It is being weighed, so its sites are not to be remembered.
    Counted,
    /// It was weighed, and is better off with its copy.
    CopyWins,
    /// It was weighed, and is better off without.
    CopyLoses,
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
    /// Of a copy that is weighed at once.
    pub(crate) const WEIGHED: Self = Self { left: 0, ..Self::NEW };

    /// Counts a load from the page, which was carried out by hand.
    pub(crate) fn load(&mut self) -> Weighing {
        if self.left > 0 {
            self.left = self.left.saturating_sub(1);
            return if self.left > 0 { Weighing::No } else { Weighing::Begins };
        }
        self.loads = self.loads.saturating_add(1);
        self.weigh()
    }

    /// Counts a replaced site that was executed and that the assembly did not serve.
    pub(crate) fn site(&mut self) -> Weighing {
        if self.left > 0 {
            return Weighing::No;
        }
        self.sites = self.sites.saturating_add(1);
        self.weigh()
    }

    fn weigh(&mut self) -> Weighing {
        if self.loads.saturating_add(self.sites) < WEIGHED_BY {
            return Weighing::Counted;
        }
        if self.sites.saturating_mul(SITE_SAVES) < self.loads.saturating_mul(LOAD_COSTS) {
            return Weighing::CopyLoses;
        }
        *self = Self { left: self.patience, patience: double(self.patience), ..Self::NEW };
        Weighing::CopyWins
    }
}

/// Twice as much patience, within bounds.
pub(crate) const fn double(patience: u32) -> u32 {
    let doubled = patience.saturating_mul(2);
    if doubled < FIRST_PATIENCE {
        FIRST_PATIENCE
    } else if doubled > LAST_PATIENCE {
        LAST_PATIENCE
    } else {
        doubled
    }
}

#[cfg(all(test, not(loom)))]
mod tests;
