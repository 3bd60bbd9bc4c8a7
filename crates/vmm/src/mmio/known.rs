//! Accesses to devices, and loads from pages whose code is fetched from copies, that were made before from the same place:
//! drivers poll the same registers with the same instructions over and over, and kernels read the same constants.
//!
//! What translating and decoding have found is kept as a TLB would keep it, until the guest fences or a copy ends. The
//! instruction itself is compared each time, for a FENCE.I is not seen.

use memory::GuestPhysAddr;
use mmu::ShadowMmu;
use vhart::VcpuFrame;

use super::plan::Plan;

/// Places of the table.
const PLACES: usize = 64;

/// The accesses of a vCPU, by pc.
#[derive(Debug)]
pub(crate) struct KnownAccesses {
    devices: [Option<Known>; PLACES],
    /// Loads from RAM.
    loads: [Option<Known>; PLACES],
    pub(super) has_loads: bool,
}

/// What has to be the same for an access to be the same.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Place {
    pc: u64,
    satp: u64,
    /// The vCPU's privilege, SUM and MXR, and above them how many fences there were before.
    rights: u64,
}

/// An access that was made.
#[derive(Clone, Copy, Debug)]
pub(super) struct Known {
    pub(super) place: Place,
    /// Where the instruction is, and what it is. One that crosses a page is not found again.
    pub(super) code: GuestPhysAddr,
    pub(super) bits: u32,
    pub(super) plan: Plan,
    /// The page of addresses, and the page of registers or of RAM that it maps.
    pub(super) page: u64,
    pub(super) target: GuestPhysAddr,
}

impl Default for KnownAccesses {
    fn default() -> Self {
        Self { devices: [None; PLACES], loads: [None; PLACES], has_loads: false }
    }
}

impl KnownAccesses {
    /// Forgets all.
    pub(crate) fn drop_all(&mut self) {
        *self = Self::default();
    }

    /// Remembers an access to a device or, if `is_ram`, a load from RAM.
    pub(super) fn remember(&mut self, is_ram: bool, known: Known) {
        self.has_loads |= is_ram;
        let table = if is_ram { &mut self.loads } else { &mut self.devices };
        if let Some(place) = table.get_mut(index(known.place.pc)) {
            *place = Some(known);
        }
    }

    /// The access to a device that is remembered for this pc; it may be another instruction's.
    #[inline]
    pub(super) fn device(&self, pc: u64) -> Option<&Known> {
        self.devices.get(index(pc))?.as_ref()
    }

    /// The same for a load from RAM.
    #[inline]
    pub(super) fn load(&self, pc: u64) -> Option<&Known> {
        self.loads.get(index(pc))?.as_ref()
    }
}

const fn index(pc: u64) -> usize {
    // Drivers' loops are near each other, their functions at round distances.
    (pc >> 1 ^ pc >> 7) as usize % PLACES
}

impl Place {
    #[inline]
    pub(super) fn of(frame: &VcpuFrame, shadow: &ShadowMmu) -> Self {
        let csr = &frame.csr;
        let rights = frame.privilege as u64 | csr.sum_and_mxr();
        // Settled tables do not say what devices are mapped to, so all fences count.
        let fences = shadow.fences().wrapping_add(frame.fast_fences);
        Self { pc: frame.pc, satp: csr.satp_bits(), rights: fences << 20 | rights }
    }
}
