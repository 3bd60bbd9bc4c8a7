//! What a shadow leaf may allow: what the guest's leaf allows in a view, less what copied code, code that was not looked
//! at, and watched tables forbid. Decides; `fill` writes.

use isa::paging::Pte;
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
/// or, on firmware that complains of instructions, anybody, and read-only elsewhere; `None` where such a page is not to be mapped for this access.
pub(super) fn mapping(
    ram: &GuestRam,
    host: HostPhysAddr,
    access: Access,
    translation: Translation,
    view: View,
) -> Option<Mapping> {
    let Translation { address, leaf, .. } = translation;
    let mut flags = leaf_flags(leaf, view.rights(), view);
    let overlay = ram.overlay();
    if overlay.wants_scan() && !view.is_user() && flags & Pte::X != 0 {
        if overlay.may_run(address) {
            let small = Translation { level: 0, ..translation };
            return covered(ram, host, access, small, view, flags);
        }
        flags &= !Pte::X;
        if access == Access::Fetch {
            return None;
        }
    }
    covered(ram, host, access, translation, view, flags)
}

/// As `mapping`, with these flags where there is no copy.
fn covered(
    ram: &GuestRam,
    host: HostPhysAddr,
    access: Access,
    translation: Translation,
    view: View,
    flags: u64,
) -> Option<Mapping> {
    let Translation { address, level, .. } = translation;
    let overlay = ram.overlay();
    if !overlay.touches_block(address) {
        // Guest RAM is contiguous in host memory, block-aligned in both, so a guest superpage can be a host one; no
        // larger than a block, for blocks are filled in one by one.
        return Some(Mapping { host, guest: address, flags, block: level >= 1 });
    }
    let whole = Mapping { host, guest: address, flags, block: false };
    let Some(copy) = overlay.copy_of(address) else {
        return match access {
            _ if !overlay.is_guarded(address) => Some(whole),
            Access::Store => None,
            Access::Fetch | Access::Load => Some(Mapping { flags: flags & !Pte::W, ..whole }),
        };
    };
    let is_rewritten = (!view.is_user() || overlay.wants_scan()) && flags & Pte::X != 0;
    match access {
        Access::Store => None,
        Access::Fetch if is_rewritten => {
            Some(Mapping { host: copy, flags: flags & !(Pte::R | Pte::W), ..whole })
        }
        Access::Load if is_rewritten => None,
        Access::Fetch | Access::Load => Some(Mapping { flags: flags & !Pte::W, ..whole }),
    }
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
