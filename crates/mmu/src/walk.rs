//! The guest's address translation, as its hardware would do it. Priv. spec, "Virtual Address Translation
//! Process". Reads guest memory by guest-physical address only.

use isa::paging::{self, Mode, Pte, Satp};
use isa::{Exception, Privilege};
use memory::{GuestPhysAddr, GuestRam, GuestVirtAddr};

#[cfg(test)]
mod tests;

/// What an access does.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Access {
    /// An instruction fetch.
    Fetch,
    /// A load or a load-reserved.
    Load,
    /// A store, a store-conditional or another atomic.
    Store,
}

impl Access {
    /// The exception where translation refuses it.
    pub const fn page_fault(self) -> Exception {
        match self {
            Self::Fetch => Exception::InstructionPageFault,
            Self::Load => Exception::LoadPageFault,
            Self::Store => Exception::StorePageFault,
        }
    }

    /// The exception where the physical address refuses it.
    pub const fn access_fault(self) -> Exception {
        match self {
            Self::Fetch => Exception::InstructionAccessFault,
            Self::Load => Exception::LoadAccessFault,
            Self::Store => Exception::StoreAccessFault,
        }
    }
}

/// On whose behalf an access is made.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub struct Rights {
    /// The effective privilege.
    pub privilege: Privilege,
    /// sstatus.SUM.
    pub sum: bool,
    /// sstatus.MXR.
    pub mxr: bool,
}

impl Rights {
    /// Whether a leaf with these flags admits `access`.
    pub const fn allow(self, pte: Pte, access: Access) -> bool {
        let user_page = pte.has(Pte::U);
        let reachable = match (self.privilege, user_page) {
            (Privilege::User, user_page) => user_page,
            (Privilege::Supervisor, false) => true,
            (Privilege::Supervisor, true) => self.sum && !matches!(access, Access::Fetch),
        };
        reachable
            && match access {
                Access::Fetch => pte.has(Pte::X),
                Access::Load => pte.has(Pte::R) || self.mxr && pte.has(Pte::X),
                Access::Store => pte.has(Pte::W),
            }
    }
}

/// Where an access goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Translation {
    /// The guest-physical address of the byte asked for; it need not be RAM.
    pub address: GuestPhysAddr,
    /// The leaf, with A, and for a store D, set; with Bare one that allows everything.
    pub leaf: Pte,
    /// The leaf's level, 0 for 4 KiB. Bare counts as 2 MiB pages, which the blocks of guest RAM are.
    pub level: usize,
    /// Whether the guest says that all its address spaces have this page.
    pub global: bool,
}

/// Translates `address` for `access`, setting A and D in the guest's tables as needed.
///
/// # Errors
/// The exception that the guest's hardware would raise; its stval is `address`.
pub fn translate(
    ram: &GuestRam,
    satp: Satp,
    address: GuestVirtAddr,
    access: Access,
    rights: Rights,
) -> Result<Translation, Exception> {
    translate_by(ram, satp, address, access, rights, |_, _, _| ())
}

/// As `translate`, and reports the entries that it passes, each with its level and its table; the last is the leaf.
pub(crate) fn translate_by(
    ram: &GuestRam,
    satp: Satp,
    address: GuestVirtAddr,
    access: Access,
    rights: Rights,
    mut passed: impl FnMut(usize, GuestPhysAddr, Pte),
) -> Result<Translation, Exception> {
    if satp.mode == Mode::Bare {
        return Ok(Translation {
            address: GuestPhysAddr(address.0),
            leaf: BARE_LEAF,
            level: 1,
            global: false,
        });
    }
    let needed = needed(access);
    // Each pass ends in a verdict or was overtaken by another hart's write of the same entry.
    loop {
        let (slot, found) = find_leaf(ram, satp, address, access, rights, &mut passed)?;
        let leaf = Pte(found.leaf.0 | needed);
        if leaf == found.leaf || ram.compare_exchange(slot, found.leaf.0, leaf.0) == Some(true) {
            return Ok(Translation { leaf, ..found });
        }
    }
}

/// The last table of the walk for `address`, if nothing but plain pointers leads there, and whether one of them is global.
/// The mode is not Bare.
pub(crate) fn last_table(
    ram: &GuestRam,
    satp: Satp,
    address: GuestVirtAddr,
) -> Option<(GuestPhysAddr, bool)> {
    let mut table = GuestPhysAddr(satp.ppn << 12);
    let mut global = false;
    for level in (1..satp.mode.levels()).rev() {
        let slot = GuestPhysAddr(table.0 | (paging::index(address.0, level) as u64) << 3);
        let entry = Pte(ram.read_word(slot)?);
        if !is_pointer(entry) {
            return None;
        }
        global |= entry.has(Pte::G);
        table = GuestPhysAddr(entry.address());
    }
    Some((table, global))
}

const fn is_pointer(entry: Pte) -> bool {
    entry.is_table() && entry.0 & (Pte::RESERVED | Pte::A | Pte::D | Pte::U) == 0
}

/// The bits of a leaf that an access wants set.
pub(crate) const fn needed(access: Access) -> u64 {
    if matches!(access, Access::Store) { Pte::A | Pte::D } else { Pte::A }
}

const BARE_LEAF: Pte = Pte(Pte::V | Pte::R | Pte::W | Pte::X | Pte::U | Pte::A | Pte::D);

/// The leaf that maps `address` and allows `access`, as it stands, and where it stands. The mode is not Bare.
fn find_leaf(
    ram: &GuestRam,
    satp: Satp,
    address: GuestVirtAddr,
    access: Access,
    rights: Rights,
    mut passed: impl FnMut(usize, GuestPhysAddr, Pte),
) -> Result<(GuestPhysAddr, Translation), Exception> {
    let page_fault = Err(access.page_fault());
    if !satp.mode.is_canonical(address.0) {
        return page_fault;
    }
    let mut table = GuestPhysAddr(satp.ppn << 12);
    let mut global = false;
    for level in (0..satp.mode.levels()).rev() {
        let slot = GuestPhysAddr(table.0 | (paging::index(address.0, level) as u64) << 3);
        let Some(entry) = ram.read_word(slot).map(Pte) else { return Err(access.access_fault()) };
        passed(level, table, entry);
        // "Sv39": a global pointer makes all below it global.
        global |= entry.has(Pte::G);
        if is_pointer(entry) {
            table = GuestPhysAddr(entry.address());
            continue;
        }
        // No leaf, or a pointer with a bit that is reserved for future use.
        let write_only = entry.has(Pte::W) && !entry.has(Pte::R);
        if !entry.is_leaf() || write_only || entry.0 & Pte::RESERVED != 0 {
            return page_fault;
        }
        let offset_mask = paging::leaf_size(level).wrapping_sub(1);
        if !rights.allow(entry, access) || entry.address() & offset_mask != 0 {
            return page_fault;
        }
        let address = GuestPhysAddr(entry.address() | address.0 & offset_mask);
        return Ok((slot, Translation { address, leaf: entry, level, global }));
    }
    page_fault
}
