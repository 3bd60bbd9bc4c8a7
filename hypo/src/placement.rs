//! Where QEMU puts the hypervisor and its bundle, and which sizes of the host's RAM that works for. Pure arithmetic; all
//! addresses here count from the start of RAM.
//!
//! QEMU (`riscv_load_initrd`) puts the bundle above the image by half of RAM, but no further than a fixed distance. It
//! refuses a bundle that is larger than the size of RAM less the bundle's *address*, where that is not negative: RAM of a
//! little more than 2 GiB takes no bundle to speak of. And its device tree may lie in the bundle's way, below 3 GiB or at
//! the end of RAM. An image that is loaded elsewhere has the bundle elsewhere, so the first place is taken that QEMU takes
//! and that leaves the guests one stretch, below the image or behind the bundle.

use bundle::RAM_BASE;

/// Where QEMU loads an image that does not say where: behind the firmware.
pub const LOW: u64 = 2 << 20;
/// The image is aligned to this, and takes no more than that, all its memory included.
const IMAGE_ALIGN: u64 = 2 << 20;
const IMAGE: u64 = 8 << 20;
/// Old versions of QEMU write 32 bits of the bundle's address, from which the hypervisor finds any below this.
const CUT_LIMIT: u64 = 1 << 32;
/// QEMU's device tree ends here or at the end of RAM.
const TREE_LIMIT: u64 = 1 << 30;
/// What the tree takes with its alignment.
const TREE: u64 = 4 << 20;
/// The most that any version of QEMU leaves between an image and the bundle; no large guest lies there.
const MOST_BELOW: u64 = 512 << 20;
/// The host's RAM is a multiple of this, unless the user says how much there is.
const STEP: u64 = 128 << 20;
/// QEMU's RAM is a multiple of this.
pub const UNIT: u64 = 1 << 20;
/// The least RAM is told in multiples of this.
const ROUND: u64 = 16 << 20;
/// In less than that much more RAM than they take themselves, a bundle and guests have a place.
const LARGEST_HOLE: u64 = 4 << 30;
/// More than any machine has.
const MOST: u64 = 1 << 45;

/// QEMU's loader.
#[derive(Clone, Copy, Debug)]
pub struct Loader {
    /// The most that it leaves between the start of an image and the bundle.
    distance: u64,
    /// The bundle has to start below this.
    limit: u64,
}

/// RAM and the places in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placement {
    /// Bytes of RAM.
    pub memory: u64,
    /// Where the image is.
    pub image: u64,
}

impl Loader {
    /// The loader of this version of QEMU.
    pub fn of_version(version: (u32, u32)) -> Self {
        if version < (10, 0) {
            Self { distance: 128 << 20, limit: CUT_LIMIT }
        } else {
            Self { distance: 512 << 20, limit: MOST }
        }
    }

    /// Where the bundle is.
    fn bundle_at(self, place: Placement) -> u64 {
        place.image + (place.memory / 2).min(self.distance)
    }

    /// Whether QEMU takes a bundle of this many bytes, and nothing of its own lies in it or in the image.
    fn takes(self, place: Placement, bundle: u64) -> bool {
        let Placement { memory, image } = place;
        let start = self.bundle_at(place);
        let end = start.saturating_add(bundle);
        let tree_below = TREE_LIMIT.min(memory).saturating_sub(TREE);
        let is_off_the_tree = |start: u64, end: u64| end <= tree_below || start >= TREE_LIMIT;
        let is_free = image + IMAGE <= start
            && start < self.limit
            && is_off_the_tree(image, image + IMAGE)
            && is_off_the_tree(start, end)
            && end <= memory.saturating_sub(TREE);
        let address = RAM_BASE + start;
        is_free && (memory < address || bundle <= memory - address)
    }

    /// The longest stretch that is free, below the image or behind the bundle. QEMU's device tree is in nobody's way once
    /// it has been read.
    fn stretch(self, place: Placement, bundle: u64) -> u64 {
        let behind = place.memory.saturating_sub(self.bundle_at(place).saturating_add(bundle));
        behind.max(place.image - LOW)
    }

    /// Where the image has to be in RAM of this size, if there is a place that leaves `beside` bytes in one stretch.
    pub fn place_in(self, memory: u64, bundle: u64, beside: u64) -> Option<Placement> {
        let images = (LOW..memory.min(MOST)).step_by(IMAGE_ALIGN as usize);
        let mut places = images.map(|image| Placement { memory, image });
        places.find(|place| self.takes(*place, bundle) && self.stretch(*place, bundle) >= beside)
    }

    /// The least RAM, in round numbers, that has a place for a bundle of this many bytes and `beside` bytes in one stretch,
    /// and so has all RAM that is larger.
    pub fn least(self, bundle: u64, beside: u64) -> Option<u64> {
        let both = bundle.checked_add(beside).filter(|both| *both < MOST)?;
        // From here on, a bundle right behind the tree breaks no rule.
        let enough = RAM_BASE + TREE_LIMIT + TREE + both;
        let sizes = (both / UNIT..=enough.div_ceil(UNIT)).rev().map(|units| units * UNIT);
        let least = sizes.take_while(|memory| self.place_in(*memory, bundle, beside).is_some()).last()?;
        Some(least.next_multiple_of(ROUND))
    }

    /// The smallest RAM, in steps, that has a place and a little more than that, whatever the version of QEMU.
    pub fn smallest(self, bundle: u64, beside: u64) -> Option<Placement> {
        let first = bundle.checked_add(beside)?.checked_add(LOW + MOST_BELOW)?.next_multiple_of(STEP);
        let mut sizes = (first..first.saturating_add(LARGEST_HOLE).min(MOST)).step_by(STEP as usize);
        sizes.find_map(|memory| self.place_in(memory, bundle, beside))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;
    const VERSIONS: [(u32, u32); 2] = [(7, 2), (10, 0)];

    /// QEMU's `riscv_load_initrd`, in its own numbers: addresses and the unsigned arithmetic of `mem_size - start`.
    fn qemu_loads(version: (u32, u32), place: Placement, bundle: u64) -> Option<(u64, u64)> {
        let most = if version < (10, 0) { 128 * MIB } else { 512 * MIB };
        let start = RAM_BASE + place.image + (place.memory / 2).min(most);
        let room = place.memory.wrapping_sub(start);
        let inside = start + bundle <= RAM_BASE + place.memory;
        // `qemu_fdt_setprop_cell`; the hypervisor takes the lowest address in RAM that has these bits.
        let written = if version < (10, 0) { start & 0xffff_ffff } else { start };
        let found = if written < RAM_BASE { written + (1 << 32) } else { written };
        (bundle <= room && inside && (written == start || found == start)).then_some((start, start + bundle))
    }

    /// `riscv_compute_fdt_addr`, as it is in QEMU 7.2, and at the end of RAM, as in later versions.
    fn trees(memory: u64) -> [(u64, u64); 2] {
        [(RAM_BASE + memory).min(3 << 30), RAM_BASE + memory].map(|end| ((end - MIB) & !(2 * MIB - 1), end))
    }

    fn check(version: (u32, u32), place: Placement, bundle: u64) {
        let what = format!("QEMU {version:?}, {place:x?}, a bundle of {} MiB", bundle / MIB);
        let (start, end) = qemu_loads(version, place, bundle).unwrap_or_else(|| panic!("{what}: refused"));
        for (tree, tree_end) in trees(place.memory) {
            assert!(end <= tree || tree_end <= start, "{what}: the tree at {tree:#x} is in it");
            assert!(
                tree_end <= RAM_BASE + place.image || tree >= RAM_BASE + place.image + 8 * MIB,
                "{what}: tree in image"
            );
        }
        assert!(place.image + 8 * MIB <= start - RAM_BASE, "{what}: the image is in it");
    }

    #[test]
    fn each_guest_and_each_bundle_find_room() {
        for version in VERSIONS {
            let loader = Loader::of_version(version);
            let guests = (4..=14).flat_map(|shift| [MIB << shift, (MIB << shift) * 11 / 8]);
            for guest in guests {
                let bundles =
                    [1, 22, 40, 126, 150, 300, 500, 508, 520, 700, 892, 900, 1000, 1024, 1500, 2048];
                for bundle in bundles.map(|mib| mib * MIB + 4097) {
                    let beside = guest + guest / 64 + 128 * MIB;
                    let place = loader.smallest(bundle, beside).unwrap();
                    check(version, place, bundle);
                    let (_, end) = qemu_loads(version, place, bundle).unwrap();
                    let behind = RAM_BASE + place.memory - end;
                    assert!(behind.max(place.image - LOW) >= beside, "there is a stretch for the guest");
                    assert!(place.memory <= beside + bundle + 4096 * MIB, "{place:?} is not too much");
                    assert!(loader.place_in(place.memory, bundle, beside).is_some());
                }
            }
        }
    }

    #[test]
    fn any_ram_that_holds_a_usual_bundle_takes_it() {
        for version in VERSIONS {
            let loader = Loader::of_version(version);
            for memory in (128 * MIB..16_384 * MIB).step_by(8 << 20) {
                for bundle in [1, 20, 40, 200, 400].map(|mib| mib * MIB) {
                    match loader.place_in(memory, bundle, 0) {
                        Some(place) => check(version, place, bundle),
                        // Half of it, at most 512 MiB, is below the bundle.
                        None => assert!(memory < 1100 * MIB && bundle + memory / 2 + 8 * MIB > memory),
                    }
                }
            }
        }
    }

    #[test]
    fn the_sizes_that_qemu_refuses_are_avoided() {
        let loader = Loader::of_version((7, 2));
        let low = |memory| Placement { memory, image: LOW };
        let linux = 40 * MIB;
        assert_eq!(qemu_loads((7, 2), low(2200 * MIB), linux), None, "as QEMU is");
        assert_eq!(loader.place_in(2100 * MIB, linux, 0), Some(low(2100 * MIB)));
        let after = Placement { memory: 2200 * MIB, image: 26 * MIB };
        assert_eq!(loader.place_in(2200 * MIB, linux, 0), Some(after), "the bundle is at more than 2200 MiB");
        assert_eq!(loader.place_in(2240 * MIB, linux, 0), Some(low(2240 * MIB)));
        assert_eq!(loader.place_in(64 * MIB, 40 * MIB, 0), None);
    }
    #[test]
    fn from_the_least_on_all_ram_has_a_place_with_room_beside_it() {
        for version in VERSIONS {
            let loader = Loader::of_version(version);
            for guest in (4..=14).step_by(2).map(|shift| MIB << shift) {
                for bundle in [1, 40, 508, 892, 1024, 2040, 2048].map(|mib| mib * MIB + 4097) {
                    let least = loader.least(bundle, guest).unwrap();
                    assert!(least >= guest + bundle, "both fit");
                    // What QEMU leaves below the bundle; or what is below its tree, too, where the bundle is too large for
                    // that. Nearly 2 GiB lie only where its rule takes them.
                    let most = match bundle / MIB {
                        0..=500 => loader.distance + 32 * MIB,
                        501..=2000 => 1056 * MIB,
                        _ => 3700 * MIB,
                    };
                    assert!(least <= guest + bundle + most, "{version:?} {guest} {bundle}: {least}");
                    for memory in (least..least + 5120 * MIB).step_by(19 << 20).chain([64 << 30]) {
                        let place = loader
                            .place_in(memory, bundle, guest)
                            .unwrap_or_else(|| panic!("no place: {guest} {bundle} {memory}"));
                        check(version, place, bundle);
                        let (_, end) = qemu_loads(version, place, bundle).unwrap();
                        let behind = RAM_BASE + memory - end;
                        assert!(behind.max(place.image - LOW) >= guest, "{place:x?}");
                    }
                }
            }
        }
    }
}
