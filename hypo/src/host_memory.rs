//! How much RAM the host gets: enough for the guests, the bundle and the hypervisor, in a size that QEMU can load.

use crate::error::{Error, Result};
use crate::pack::Packed;
use crate::placement::{Loader, Placement};
use crate::size::Size;

/// What the hypervisor gets beside its guests and the bundle.
const HYPERVISOR_MEMORY: u64 = 96 << 20;
/// What it gets for each guest: shadow tables, copies of code, queues; and of each guest's RAM this part again.
const GUEST_MEMORY: u64 = 32 << 20;
const TABLES_PART: u64 = 64;
/// The most that it gets for what a guest writes to a `snapshot`.
const MOST_KEPT: u64 = 256 << 20;

/// RAM for the guests in a bundle of `bundle` bytes: `wanted`, or as much as they need. What is not touched costs nothing.
///
/// # Errors
/// The guests or the bundle do not fit into what is wanted, or this machine has less.
pub fn choose(wanted: Option<Size>, packed: &Packed, bundle: u64, loader: Loader) -> Result<Placement> {
    let enough =
        loader.smallest(bundle, beside(packed)).ok_or_else(|| Error::new("no RAM holds the guests"))?;
    let place = match wanted {
        None => enough,
        Some(memory) => {
            let guests = packed.manifest.vms.iter().map(|vm| vm.memory).sum::<u64>();
            let place = loader.place_in(memory.0, bundle).filter(|_| guests + bundle <= memory.0);
            place.ok_or_else(|| too_little(memory, Size(guests), bundle, Size(enough.memory)))?
        }
    };
    this_machine_has(Size(place.memory))?;
    Ok(place)
}

/// What there has to be beside the bundle.
fn beside(packed: &Packed) -> u64 {
    let guests: u64 =
        packed.manifest.vms.iter().map(|vm| vm.memory + vm.memory / TABLES_PART + GUEST_MEMORY).sum();
    let disks = packed.attachments.guests.iter().flat_map(|devices| &devices.disks);
    let kept: u64 = disks
        .filter(|disk| disk.snapshot)
        .map(|disk| disk.capacity().unwrap_or(MOST_KEPT).min(MOST_KEPT))
        .sum();
    guests + kept + HYPERVISOR_MEMORY
}

fn too_little(memory: Size, guests: Size, bundle: u64, enough: Size) -> Error {
    let bundle = Size(bundle.next_multiple_of(1 << 20));
    Error::usage(format_args!(
        "the guests have {guests} of memory and the host has {memory}, which has to hold their files, too, in one \
         piece: {bundle}"
    ))
    .remedy(format_args!("give --host-memory {enough} or leave it out; or give guests less"))
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
