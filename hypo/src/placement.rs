//! Where QEMU puts the hypervisor and its bundle, and which sizes of the host's RAM that works for. Pure arithmetic; all
//! addresses here count from the start of RAM.
//!
//! QEMU (`riscv_load_initrd`) puts the bundle above the image by half of RAM, but no further than a fixed distance. It
//! refuses a bundle that is larger than the size of RAM less the bundle's *address*, where that is not negative: RAM of a
//! little more than 2 GiB takes no bundle to speak of. And its device tree may lie in the bundle's way, below 3 GiB or at
//! the end of RAM. An image that is loaded elsewhere has the bundle elsewhere, so there is a second place for it.

use bundle::RAM_BASE;

/// Where QEMU loads an image that does not say where: behind the firmware.
pub const LOW: u64 = 2 << 20;
/// Where an image is loaded otherwise: behind what QEMU puts below 3 GiB.
pub const HIGH: u64 = 1 << 30;
/// QEMU's device tree ends here or at the end of RAM.
const TREE_LIMIT: u64 = 1 << 30;
/// What the tree takes with its alignment.
const TREE: u64 = 4 << 20;
/// The most that any version of QEMU leaves between an image and the bundle; no large guest lies there.
const MOST_BELOW: u64 = 512 << 20;
/// The host's RAM is a multiple of this, unless the user says how much there is.
const STEP: u64 = 128 << 20;
/// More than any machine has, so that the search ends.
const MOST: u64 = 1 << 45;

/// QEMU's loader.
#[derive(Clone, Copy, Debug)]
pub struct Loader {
    /// The most that it leaves between the start of an image and the bundle.
    distance: u64,
}

/// RAM and the places in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placement {
    /// Bytes of RAM.
    pub memory: u64,
    /// Where the image is: [`LOW`] or [`HIGH`].
    pub image: u64,
}

impl Loader {
    /// The loader of this version of QEMU.
    pub fn of_version(version: (u32, u32)) -> Self {
        Self { distance: if version < (10, 0) { 128 << 20 } else { 512 << 20 } }
    }

    /// Where the bundle is.
    fn bundle_at(self, place: Placement) -> u64 {
        place.image + (place.memory / 2).min(self.distance)
    }

    /// Whether QEMU takes a bundle of this many bytes, and nothing of its own lies in it.
    fn takes(self, place: Placement, bundle: u64) -> bool {
        let start = self.bundle_at(place);
        let end = start.saturating_add(bundle);
        let tree_below = TREE_LIMIT.min(place.memory).saturating_sub(TREE);
        let is_free = end <= place.memory.saturating_sub(TREE) && (end <= tree_below || start >= TREE_LIMIT);
        let address = RAM_BASE + start;
        is_free && (place.memory < address || bundle <= place.memory - address)
    }

    /// Where the image has to be in RAM of this size, if there is a place.
    pub fn place_in(self, memory: u64, bundle: u64) -> Option<Placement> {
        [LOW, HIGH]
            .map(|image| Placement { memory, image })
            .into_iter()
            .find(|place| self.takes(*place, bundle))
    }

    /// The smallest RAM, in steps, in which a bundle of this many bytes has a place and `beside` bytes are left behind it:
    /// a large guest needs them in one stretch.
    pub fn smallest(self, bundle: u64, beside: u64) -> Option<Placement> {
        let first = bundle.saturating_add(beside).next_multiple_of(STEP);
        let sizes = (first..MOST).step_by(STEP as usize);
        sizes.flat_map(|memory| [LOW, HIGH].map(|image| Placement { memory, image })).find(|place| {
            let below = place.image - LOW + MOST_BELOW;
            self.takes(*place, bundle) && below.saturating_add(bundle).saturating_add(beside) <= place.memory
        })
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
        (bundle <= room && inside).then_some((start, start + bundle))
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
                    assert!(
                        RAM_BASE + place.memory - end + 2 * MIB >= beside,
                        "there is a stretch for the guest"
                    );
                    assert!(place.memory <= beside + bundle + 4096 * MIB, "{place:?} is not too much");
                    assert!(loader.place_in(place.memory, bundle).is_some());
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
                    match loader.place_in(memory, bundle) {
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
        let (low, high) =
            (|memory| Placement { memory, image: LOW }, |memory| Placement { memory, image: HIGH });
        let linux = 40 * MIB;
        assert_eq!(qemu_loads((7, 2), low(2200 * MIB), linux), None, "as QEMU is");
        assert_eq!(loader.place_in(2100 * MIB, linux), Some(low(2100 * MIB)));
        assert_eq!(loader.place_in(2200 * MIB, linux), Some(high(2200 * MIB)));
        assert_eq!(loader.place_in(2240 * MIB, linux), Some(low(2240 * MIB)));
        assert_eq!(loader.place_in(64 * MIB, 40 * MIB), None);
    }
}
