//! How much RAM the host gets: enough for the guests, the bundle and the hypervisor, in a size that QEMU can load.

use crate::attach::GuestDisk;
use crate::pack::Packed;
use crate::placement::{Loader, Placement, UNIT};
use hypo_common::error::{Error, Result};
use hypo_common::size::Size;
use vmm::footprint;

/// RAM for the guests in a bundle of `bundle` bytes: `wanted`, or as much as they need. What is not touched costs nothing.
///
/// # Errors
/// The guests or the bundle do not fit into what is wanted, or this machine has less.
pub fn choose(wanted: Option<Size>, packed: &Packed, bundle: u64, loader: Loader) -> Result<Placement> {
    let place = match wanted {
        None => loader.smallest(bundle, beside(packed)).ok_or_else(nothing_holds)?,
        Some(memory) => {
            let memory = Size(memory.0.div_ceil(UNIT).saturating_mul(UNIT));
            let least = footprint::least(&packed.manifest.vms);
            match loader.place_in(memory.0, bundle, least) {
                Some(place) => place,
                None => {
                    let enough = loader.least(bundle, least).ok_or_else(nothing_holds)?;
                    return Err(too_little(memory, packed, bundle, Size(enough)));
                }
            }
        }
    };
    this_machine_has(Size(place.memory))?;
    Ok(place)
}

fn nothing_holds() -> Error {
    Error::new("no RAM holds the guests").remedy("give guests less `memory`, or fewer files")
}

/// What there is beside the bundle where nobody says how much.
fn beside(packed: &Packed) -> u64 {
    let disks = packed.attachments.guests.iter().flat_map(|devices| &devices.disks);
    let kept = disks.filter(|disk| disk.snapshot).map(GuestDisk::capacity);
    footprint::plenty(&packed.manifest.vms, kept)
}

fn too_little(memory: Size, packed: &Packed, bundle: u64, enough: Size) -> Error {
    let guests = Size(packed.manifest.vms.iter().map(|vm| vm.memory).sum());
    let bundle = Size(bundle.next_multiple_of(1 << 20));
    Error::usage(format_args!(
        "the host's {memory} of memory do not hold the guests' {guests}, each guest's in one piece, and {bundle} of \
         files"
    ))
    .remedy(format_args!("give --host-memory {enough} or more, or leave it out; or give guests less"))
}

/// Refuses what QEMU could not get of this machine, even if nothing else ran.
///
/// # Errors
/// This machine has less than `memory`.
pub fn this_machine_has(memory: Size) -> Result<()> {
    let info = rustix::system::sysinfo();
    // The types of these numbers differ between processors.
    #[allow(clippy::unnecessary_cast)]
    let there_is =
        (info.totalram as u64).saturating_add(info.totalswap as u64).saturating_mul(info.mem_unit.into());
    if memory.0 <= there_is {
        return Ok(());
    }
    let there_is = Size(there_is >> 20 << 20);
    Err(Error::usage(format_args!(
        "this takes {memory} of memory, and this machine has {there_is}, swap included"
    ))
    .remedy("give guests less `memory`, or the host less with --host-memory"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use bundle::VmConfig;
    use memory::{BLOCK_SIZE, Extent, Extents, HostPhysAddr, PAGE_SIZE};
    use vmm::footprint::{Footprint, HEAP};

    const MIB: u64 = 1 << 20;

    /// Gives out memory as the hypervisor's set-up does; `None` where there is no piece for something.
    fn set_up(place: Placement, bundle: (u64, u64), guests: &[u64]) -> Option<()> {
        const IMAGE: u64 = 2 * MIB;
        let mut free = Extents::new();
        free.add(Extent::new(HostPhysAddr(2 * MIB), place.memory - 2 * MIB)).unwrap();
        free.remove(Extent::new(HostPhysAddr(place.image), IMAGE)).unwrap();
        free.remove(Extent::new(HostPhysAddr(bundle.0), bundle.1)).unwrap();
        let mut take = |size, align| free.allocate(size, align).map(drop);
        take(HEAP, PAGE_SIZE)?;
        for &ram in guests {
            let Footprint { heap, tables, copies } = Footprint::with(ram, 0);
            take(heap, PAGE_SIZE)?;
            take(ram, BLOCK_SIZE)?;
            take(tables * PAGE_SIZE, PAGE_SIZE)?;
            take(copies * PAGE_SIZE, PAGE_SIZE)?;
        }
        Some(())
    }

    #[test]
    fn whatever_ram_a_host_has_from_the_least_on_its_guests_get_their_pieces() {
        let lone = (4..=14).step_by(2).map(|shift| vec![MIB << shift]);
        let several = [vec![1024 * MIB; 2], vec![16 * MIB, 2048 * MIB, 256 * MIB], vec![64 * MIB; 32]];
        for guests in lone.chain(several) {
            let configs: Vec<_> =
                guests.iter().map(|ram| VmConfig { memory: *ram, ..VmConfig::default() }).collect();
            let least = footprint::least(&configs);
            for (version, distance) in [((7, 2), 128 * MIB), ((10, 0), 512 * MIB)] {
                let loader = Loader::of_version(version);
                for bundle in [1, 40, 1000, 2048].map(|mib| mib * MIB + 4096) {
                    let first = loader.least(bundle, least).unwrap();
                    let sizes = (first..first + 6144 * MIB).step_by(24 << 20);
                    for memory in sizes.chain([32 << 30, 100 << 30]) {
                        let what = format!("{guests:?}, {bundle}, {memory}, least {first}");
                        let place = loader.place_in(memory, bundle, least);
                        let place = place.unwrap_or_else(|| panic!("no place: {what}"));
                        let start = place.image + (memory / 2).min(distance);
                        assert!(set_up(place, (start, bundle), &guests).is_some(), "{place:x?}: {what}");
                    }
                }
            }
        }
    }
}
