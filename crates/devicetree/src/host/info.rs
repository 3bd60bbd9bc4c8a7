//! The real machine as plain values, without a heap and without pointers: they are made while the hypervisor runs at its
//! physical address and are used after it has moved.

use arrayvec::{ArrayString, ArrayVec};
use isa::paging::Mode;
use memory::{Extent, HostPhysAddr};

use crate::extensions::HartIsa;

/// Memory ranges that are kept; more are left unused.
pub const MAX_MEMORY: usize = 16;
/// Reserved ranges that are kept; more are an error, as a forgotten one would be overwritten.
pub const MAX_RESERVED: usize = 32;
/// Harts that are kept; more are left unused.
pub const MAX_HARTS: usize = 64;
/// Virtio slots that are kept; more are left unused.
pub const MAX_VIRTIO: usize = 32;
/// Bytes of the boot arguments that are kept.
pub const MAX_BOOTARGS: usize = 256;
/// Bytes of the random seed that are kept.
pub const MAX_SEED: usize = 64;

/// The real machine.
#[derive(Clone, Debug)]
pub struct HostInfo {
    /// RAM, in the tree's order; at least one range, none of them empty.
    pub memory: ArrayVec<Extent, MAX_MEMORY>,
    /// What must be left alone in RAM: firmware, mostly. May overlap and may lie outside of RAM.
    pub reserved: ArrayVec<Extent, MAX_RESERVED>,
    /// The harts that have an S-mode with address translation and are not disabled; not empty.
    pub harts: ArrayVec<HostHart, MAX_HARTS>,
    /// Ticks of the time CSR in a second; not 0.
    pub timebase_frequency: u64,
    /// Where a person reads and types. `None` also where `stdout-path` names a device of no known kind.
    pub console: Option<Console>,
    /// The interrupt controller.
    pub plic: Option<Plic>,
    /// The test finisher's register (`sifive,test0`), which ends QEMU with an exit status.
    pub finisher: Option<HostPhysAddr>,
    /// The goldfish real-time clock.
    pub rtc: Option<HostPhysAddr>,
    /// The slots of virtio-mmio devices, in the tree's order; most machines leave some of them empty.
    pub virtio: ArrayVec<VirtioSlot, MAX_VIRTIO>,
    /// The boot bundle's place: `linux,initrd-start` up to `linux,initrd-end`.
    pub initrd: Option<Extent>,
    /// The command line, cut off where it is too long or is not UTF-8.
    pub bootargs: ArrayString<MAX_BOOTARGS>,
    /// Entropy from the firmware; may be empty.
    pub rng_seed: ArrayVec<u8, MAX_SEED>,
}

/// A hart that can run the hypervisor.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HostHart {
    /// Its hartid.
    pub id: u64,
    /// Its ISA.
    pub isa: HartIsa,
    /// The widest translation mode that the tree claims. QEMU's `sifive_u` claims more than its harts have:
    /// try it in satp.
    pub mmu_type: Mode,
    /// The PLIC context of its S-mode external interrupt.
    pub plic_context: Option<u32>,
}

/// A UART.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Console {
    /// Its programming model.
    pub kind: ConsoleKind,
    /// Its registers.
    pub registers: Extent,
    /// Its interrupt source at the PLIC; `None` where it has none.
    pub irq: Option<u32>,
}

/// A UART's programming model.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ConsoleKind {
    /// The 16550 and its descendants.
    Ns16550 {
        /// Register n is at byte n << reg_shift; at most 4.
        reg_shift: u8,
        /// Bytes of an access: 1, 2 or 4.
        reg_io_width: u8,
    },
    /// The UART of SiFive's chips.
    SiFiveUart,
}

/// A platform-level interrupt controller.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Plic {
    /// Its registers.
    pub registers: Extent,
    /// The highest interrupt source (`riscv,ndev`).
    pub sources: u32,
}

/// A place where a virtio-mmio device may stand.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct VirtioSlot {
    /// Its registers.
    pub registers: Extent,
    /// Its interrupt source at the PLIC.
    pub irq: u32,
}

impl HostInfo {
    /// What code may rely on that runs on any of the harts.
    pub fn common_isa(&self) -> HartIsa {
        self.harts.iter().map(|hart| hart.isa).reduce(HartIsa::intersection).unwrap_or_default()
    }
}
