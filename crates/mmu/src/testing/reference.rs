//! Address translation a second time, from the text of the specification and not from `walk`: numbers, not types,
//! and one memory word written at most. Priv. spec, "Virtual Address Translation Process", with the update of A
//! and D in memory.

use isa::Privilege;

use crate::walk::{Access, Rights};

/// scause.
pub type Cause = u64;

/// Where an access goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Reached {
    /// The physical address.
    pub address: u64,
    /// The leaf's level; 0 for Bare.
    pub level: usize,
    /// The leaf's entry after the access; 0 for Bare.
    pub entry: u64,
    /// The address of the entry, where A or D must be set in it.
    pub update: Option<u64>,
    /// Whether all address spaces have the page: G in any entry on the way. Not with Bare.
    pub global: bool,
}

/// Walks the tables that `read` gives the words of; `None` is what is not memory.
pub fn walk(
    read: impl Fn(u64) -> Option<u64>,
    satp: u64,
    va: u64,
    access: Access,
    rights: Rights,
) -> Result<Reached, Cause> {
    let (page_fault, access_fault): (Cause, Cause) = match access {
        Access::Fetch => (12, 1),
        Access::Load => (13, 5),
        Access::Store => (15, 7),
    };
    let levels = match satp >> 60 {
        0 => return Ok(Reached { address: va, level: 0, entry: 0, update: None, global: false }),
        8 => 3,
        9 => 4,
        10 => 5,
        mode => panic!("reserved mode {mode}"),
    };
    // "[Addresses] must have bits 63-39 all equal to bit 38, or else a page-fault exception will occur."
    let sign_and_above = va >> (9 * levels + 11);
    if sign_and_above != 0 && sign_and_above != u64::MAX >> (9 * levels + 11) {
        return Err(page_fault);
    }
    // Steps 1 to 4.
    let mut table = (satp & 0xfff_ffff_ffff) * 4096;
    let mut i = levels - 1;
    let mut global = false;
    let (slot, pte) = loop {
        let slot = table + ((va >> (12 + 9 * i)) & 0x1ff) * 8;
        let pte = read(slot).ok_or(access_fault)?;
        global |= pte >> 5 & 1 == 1;
        let [v, r, w, x] = [0, 1, 2, 3].map(|bit| pte >> bit & 1 == 1);
        if !v || (!r && w) || pte >> 54 != 0 {
            return Err(page_fault);
        }
        if r || x {
            break (slot, pte);
        }
        // "For non-leaf PTEs, the D, A, and U bits are reserved for future standard use."
        if i == 0 || pte & 0b1101_0000 != 0 {
            return Err(page_fault);
        }
        i -= 1;
        table = (pte >> 10) * 4096;
    };
    // Step 5: the leaf's permissions.
    let [r, w, x, u, a, d] = [1, 2, 3, 4, 6, 7].map(|bit| pte >> bit & 1 == 1);
    let privileged = match rights.privilege {
        Privilege::User => u,
        Privilege::Supervisor => !u || (rights.sum && access != Access::Fetch),
    };
    let permitted = match access {
        Access::Fetch => x,
        Access::Load => r || (x && rights.mxr),
        Access::Store => w,
    };
    if !privileged || !permitted {
        return Err(page_fault);
    }
    // Step 6: "if i > 0 and pte.ppn[i-1:0] != 0, this is a misaligned superpage".
    let page = 4096u64 << (9 * i);
    let base = (pte >> 10) * 4096;
    if !base.is_multiple_of(page) {
        return Err(page_fault);
    }
    // Steps 7 and 8.
    let stores = access == Access::Store;
    let entry = pte | 1 << 6 | u64::from(stores) << 7;
    let update = (!a || stores && !d).then_some(slot);
    Ok(Reached { address: base + va % page, level: i as usize, entry, update, global })
}
