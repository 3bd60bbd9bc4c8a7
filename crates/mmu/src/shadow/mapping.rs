//! What a shadow leaf may allow: what the guest's leaf allows in a view, less what copied code, code that was not looked
//! at, and watched tables forbid. Decides; `fill` writes.

use isa::paging::Pte;
use memory::overlay::Execution;
use memory::{GuestPhysAddr, GuestRam, HostPhysAddr};

use crate::context::View;
use crate::walk::{Access, Rights, Translation};

/// What a shadow leaf is to map.
pub(super) struct Mapping {
    pub(super) host: HostPhysAddr,
    /// The guest's page there, or whose copy is there.
    pub(super) guest: GuestPhysAddr,
    pub(super) flags: u64,
    /// Whether the whole block may be mapped by one leaf.
    pub(super) block: bool,
}

/// The leaf that serves `access`. A page whose code is fetched from a copy is mapped execute-only where the kernel executes it,
/// or, on firmware that complains of instructions, anybody, and read-only elsewhere; `None` where such a page is not to be
/// mapped for this access.
#[inline]
pub(super) fn mapping(
    ram: &GuestRam,
    host: HostPhysAddr,
    access: Access,
    translation: Translation,
    view: View,
) -> Option<Mapping> {
    let Translation { address, leaf, level, .. } = translation;
    let mut flags = leaf_flags(leaf, view.rights(), view);
    let rule = ram.overlay().rule(address);
    // Guest RAM is contiguous in host memory, block-aligned in both, so a guest superpage can be a host one; no
    // larger than a block, for blocks are filled in one by one.
    let mut block = level >= 1 && rule.whole_block;
    if !view.is_user() && flags & Pte::X != 0 {
        match rule.execution {
            Execution::Free => {}
            // Its neighbours may have to be scanned first.
            Execution::Scanned => block = false,
            Execution::AfterScan if access == Access::Fetch => return None,
            Execution::AfterScan => flags &= !Pte::X,
        }
    }
    if let Some(copy) = rule.copy
        && (!view.is_user() || rule.execution != Execution::Free)
        && flags & Pte::X != 0
    {
        let flags = flags & !(Pte::R | Pte::W);
        return (access == Access::Fetch).then_some(Mapping { host: copy, guest: address, flags, block });
    }
    if !rule.writable {
        if access == Access::Store {
            return None;
        }
        flags &= !Pte::W;
    }
    Some(Mapping { host, guest: address, flags, block })
}

/// The flags of the shadow leaf for a guest leaf that was walked: what the view allows without asking again.
/// W waits for the guest's D. A and D are preset: the hardware has nothing to tell us by them.
fn leaf_flags(guest: Pte, rights: Rights, view: View) -> u64 {
    const ALWAYS: u64 = Pte::V | Pte::U | Pte::A | Pte::D;
    if view == View::Bare {
        return ALWAYS | Pte::R | Pte::W | Pte::X;
    }
    let mut flags = ALWAYS;
    for (access, flag) in [(Access::Load, Pte::R), (Access::Store, Pte::W), (Access::Fetch, Pte::X)] {
        if rights.allow(guest, access) && (access != Access::Store || guest.has(Pte::D)) {
            flags |= flag;
        }
    }
    flags
}

/// Whether what a leaf maps may be seen by all contexts that share the upper half.
pub(super) const fn can_be_shared(translation: Translation) -> bool {
    translation.global && !translation.leaf.has(Pte::U)
}

/// Whether an entry of a guest's last table is a leaf with nothing wrong about it.
pub(super) const fn is_proper(entry: Pte) -> bool {
    let write_only = entry.has(Pte::W) && !entry.has(Pte::R);
    entry.is_leaf() && !write_only && entry.0 & Pte::RESERVED == 0
}

/// Whether a leaf allows nothing but fetching: code of ours may be there.
pub(super) const fn is_code(leaf: Pte) -> bool {
    leaf.is_leaf() && leaf.has(Pte::X) && !leaf.has(Pte::R)
}
