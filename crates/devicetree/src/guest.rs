//! The device tree that a virtual machine boots with.
//!
//! It is QEMU 7.2's tree of its `virt` machine, without what the virtual machine does not have: PCI, flash,
//! fw_cfg, the platform bus, and what belongs to M-mode (the CLINT, the PMU's event map). Nodes, properties and
//! phandles are the same, and nodes come in the same order, as operating systems number devices by it. The
//! addresses are the caller's.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::cmp::Reverse;
use core::ops::Range;

use dtoolkit::ToPropertyValue;
use dtoolkit::fdt::Fdt;
use dtoolkit::model::{DeviceTree, DeviceTreeNode, DeviceTreeProperty};
use isa::paging::Mode;
use memory::GuestPhysAddr;

use crate::blob::Blob;
use crate::extensions::HartIsa;

/// The input clock of QEMU's UART, in Hz.
const UART_CLOCK: u32 = 3_686_400;
/// What the test finisher takes for a power-off and for a reset.
const FINISHER_PASS: u32 = 0x5555;
const FINISHER_RESET: u32 = 0x7777;
/// Bytes that can be added to the tree without moving it.
const ROOM: usize = 4096;
/// Causes by which a PLIC's targets are named. Priv. spec, "Machine Cause Register".
const SUPERVISOR_EXTERNAL: u32 = 9;
const MACHINE_EXTERNAL: u32 = 11;

/// A virtual machine, as its device tree describes it.
#[derive(Clone, Debug)]
pub struct GuestTree<'a> {
    /// Virtual harts, with hartids from 0; at least 1.
    pub vcpus: u32,
    /// RAM.
    pub memory: Range<GuestPhysAddr>,
    /// The kernel command line; left out when empty.
    pub bootargs: &'a str,
    /// Where the initial RAM disk lies.
    pub initrd: Option<Range<GuestPhysAddr>>,
    /// The ISA of every virtual hart, as it is shown: a `HartIsa::guest_view`.
    pub isa: HartIsa,
    /// The widest translation mode.
    pub mmu_type: Mode,
    /// Ticks of the time CSR in a second.
    pub timebase_frequency: u64,
    /// Entropy for the guest's generator, some 32 to 64 bytes. A guest without spends long on gathering its own.
    pub rng_seed: &'a [u8],
    /// The devices, in any order; at most one PLIC and one finisher.
    pub devices: &'a [GuestDevice],
}

/// A device on the virtual machine's bus.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct GuestDevice {
    /// What it is.
    pub kind: GuestDeviceKind,
    /// Its first register.
    pub base: GuestPhysAddr,
    /// Bytes of its registers.
    pub size: u64,
    /// Its interrupt source at the PLIC; 0 for none.
    pub irq: u32,
}

/// The kinds of devices, in the order of QEMU's tree.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum GuestDeviceKind {
    /// A goldfish real-time clock.
    Rtc,
    /// A 16550A.
    Uart,
    /// A SiFive test finisher, with the syscon nodes for power-off and reset.
    Finisher,
    /// A virtio-mmio transport.
    VirtioMmio,
    /// A SiFive PLIC with sources 1 to `sources`, and with an M-mode and an S-mode context for each hart.
    Plic {
        /// The highest interrupt source.
        sources: u32,
    },
}

/// Where the value of `/chosen/rng-seed` lies in a flattened tree, so that each start of a guest can have a new one;
/// `None` where the tree has none.
pub fn rng_seed_mut(tree: &mut [u8]) -> Option<&mut [u8]> {
    let value = Blob::new(tree).ok()?.property(b"/chosen", b"rng-seed").ok()??;
    let start = value.as_ptr().addr().checked_sub(tree.as_ptr().addr())?;
    let end = start.checked_add(value.len())?;
    tree.get_mut(start..end)
}

impl GuestTree<'_> {
    /// The flattened device tree.
    pub fn build(&self) -> Vec<u8> {
        let mut tree = DeviceTree::new();
        tree.root = DeviceTreeNode::new_unchecked("")
            .with("#address-cells", 2u32)
            .with("#size-cells", 2u32)
            .with("compatible", "riscv-virtio")
            .with("model", "riscv-virtio,qemu")
            .with_child(self.chosen());
        if self.devices.iter().any(|device| device.kind == GuestDeviceKind::Finisher) {
            tree.root.add_child(self.syscon("poweroff", FINISHER_PASS));
            tree.root.add_child(self.syscon("reboot", FINISHER_RESET));
        }
        tree.root.add_child(self.memory());
        tree.root.add_child(self.cpus());
        tree.root.add_child(self.soc());
        with_room(tree.to_dtb())
    }

    fn chosen(&self) -> DeviceTreeNode {
        let mut chosen = node("chosen").with("rng-seed", self.rng_seed);
        if let Some(uart) = self.devices.iter().find(|device| device.kind == GuestDeviceKind::Uart) {
            chosen = chosen.with("stdout-path", format!("/soc/{}", uart.name()));
        }
        if !self.bootargs.is_empty() {
            chosen = chosen.with("bootargs", self.bootargs);
        }
        if let Some(initrd) = &self.initrd {
            chosen = chosen
                .with("linux,initrd-start", initrd.start.as_u64())
                .with("linux,initrd-end", initrd.end.as_u64());
        }
        chosen
    }

    /// A node by which an operating system finds the finisher's value for power-off or reset.
    fn syscon(&self, what: &str, value: u32) -> DeviceTreeNode {
        node(what)
            .with("value", value)
            .with("offset", 0u32)
            .with("regmap", self.finisher_phandle())
            .with("compatible", format!("syscon-{what}"))
    }

    fn memory(&self) -> DeviceTreeNode {
        let size = self.memory.end.as_u64().saturating_sub(self.memory.start.as_u64());
        node(format!("memory@{:x}", self.memory.start.as_u64()))
            .with("device_type", "memory")
            .with("reg", reg(self.memory.start, size))
    }

    fn cpus(&self) -> DeviceTreeNode {
        let mut cpus = node("cpus").with("#address-cells", 1u32).with("#size-cells", 0u32);
        cpus = match u32::try_from(self.timebase_frequency) {
            Ok(frequency) => cpus.with("timebase-frequency", frequency),
            Err(_) => cpus.with("timebase-frequency", self.timebase_frequency),
        };
        let mut cluster = node("cluster0");
        for vcpu in 0..self.vcpus {
            cpus.add_child(self.cpu(vcpu));
            cluster.add_child(node(format!("core{vcpu}")).with("cpu", self.cpu_phandle(vcpu)));
        }
        cpus.with_child(node("cpu-map").with_child(cluster))
    }

    fn cpu(&self, vcpu: u32) -> DeviceTreeNode {
        let intc = node("interrupt-controller")
            .with("#interrupt-cells", 1u32)
            // Not in QEMU 7.2, but required of what interrupts-extended points to.
            .with("#address-cells", 0u32)
            .flag("interrupt-controller")
            .with("compatible", "riscv,cpu-intc")
            .with("phandle", self.intc_phandle(vcpu));
        let mut cpu = node(format!("cpu@{vcpu:x}"))
            .with("phandle", self.cpu_phandle(vcpu))
            .with("device_type", "cpu")
            .with("reg", vcpu)
            .with("status", "okay")
            .with("compatible", "riscv")
            .with("riscv,isa", self.isa.extensions.to_isa())
            .with("riscv,isa-base", "rv64i")
            .with("riscv,isa-extensions", self.isa.extensions.to_names());
        for (name, size) in [
            ("riscv,cbom-block-size", self.isa.cbom_block_size),
            ("riscv,cboz-block-size", self.isa.cboz_block_size),
            ("riscv,cbop-block-size", self.isa.cbop_block_size),
        ] {
            if let Some(size) = size {
                cpu = cpu.with(name, size);
            }
        }
        let mmu_type = match self.mmu_type {
            Mode::Bare => "riscv,none",
            Mode::Sv39 => "riscv,sv39",
            Mode::Sv48 => "riscv,sv48",
            Mode::Sv57 => "riscv,sv57",
        };
        cpu.with("mmu-type", mmu_type).with_child(intc)
    }

    fn soc(&self) -> DeviceTreeNode {
        let mut devices: Vec<&GuestDevice> = self.devices.iter().collect();
        // QEMU lists the virtio transports from the last to the first.
        devices.sort_by_key(|device| (device.kind, Reverse(device.base)));
        let soc = node("soc")
            .with("#address-cells", 2u32)
            .with("#size-cells", 2u32)
            .with("compatible", "simple-bus")
            .flag("ranges");
        devices.into_iter().fold(soc, |soc, device| soc.with_child(self.device(device)))
    }

    fn device(&self, device: &GuestDevice) -> DeviceTreeNode {
        let mut node = node(device.name());
        if device.irq != 0 {
            node = node.with("interrupts", device.irq).with("interrupt-parent", self.plic_phandle());
        }
        node = node.with("reg", reg(device.base, device.size));
        match device.kind {
            GuestDeviceKind::Rtc => node.with("compatible", "google,goldfish-rtc"),
            GuestDeviceKind::Uart => node.with("clock-frequency", UART_CLOCK).with("compatible", "ns16550a"),
            GuestDeviceKind::Finisher => node
                .with("phandle", self.finisher_phandle())
                .with("compatible", &["sifive,test1", "sifive,test0", "syscon"][..]),
            GuestDeviceKind::VirtioMmio => node.with("compatible", "virtio,mmio"),
            GuestDeviceKind::Plic { sources } => node
                .with("phandle", self.plic_phandle())
                .with("riscv,ndev", sources)
                .with("interrupts-extended", self.plic_targets())
                .flag("interrupt-controller")
                .with("compatible", &["sifive,plic-1.0.0", "riscv,plic0"][..])
                .with("#address-cells", 0u32)
                .with("#interrupt-cells", 1u32),
        }
    }

    /// The PLIC's contexts: for each hart M-mode's, then S-mode's.
    fn plic_targets(&self) -> Vec<u32> {
        (0..self.vcpus)
            .map(|vcpu| self.intc_phandle(vcpu))
            .flat_map(|intc| [intc, MACHINE_EXTERNAL, intc, SUPERVISOR_EXTERNAL])
            .collect()
    }

    // phandles as QEMU gives them: harts from the last to the first, then the PLIC, then the finisher.

    fn cpu_phandle(&self, vcpu: u32) -> u32 {
        self.intc_phandle(vcpu) - 1
    }

    fn intc_phandle(&self, vcpu: u32) -> u32 {
        (self.vcpus - vcpu) * 2
    }

    fn plic_phandle(&self) -> u32 {
        self.vcpus * 2 + 1
    }

    fn finisher_phandle(&self) -> u32 {
        self.vcpus * 2 + 2
    }
}

impl GuestDevice {
    /// Its node's name.
    fn name(&self) -> String {
        let name = match self.kind {
            GuestDeviceKind::Rtc => "rtc",
            GuestDeviceKind::Uart => "serial",
            GuestDeviceKind::Finisher => "test",
            GuestDeviceKind::VirtioMmio => "virtio_mmio",
            GuestDeviceKind::Plic { .. } => "plic",
        };
        format!("{name}@{:x}", self.base.as_u64())
    }
}

/// The tree with free space at its end, as OpenSBI leaves it: U-Boot adds to the tree in place when it starts a
/// kernel, and what lies behind it is U-Boot's own.
fn with_room(mut dtb: Vec<u8>) -> Vec<u8> {
    dtb.resize(dtb.len() + ROOM, 0);
    let size = dtb.len() as u32;
    if let Some(total_size) = dtb.get_mut(4..8) {
        total_size.copy_from_slice(&size.to_be_bytes());
    }
    dtb
}

/// A flattened device tree as source text; `None` where it is not well formed.
pub fn to_dts(dtb: &[u8]) -> Option<String> {
    Fdt::new(dtb).ok().map(|tree| format!("{tree}"))
}

/// Adding to a node in the manner of a builder. All names are well formed, so they are not checked.
trait Build {
    /// The node with a property.
    fn with<T: ToPropertyValue>(self, name: &str, value: T) -> Self;
    /// The node with a property that has no value.
    fn flag(self, name: &str) -> Self;
    /// The node with a child.
    fn with_child(self, child: DeviceTreeNode) -> Self;
}

impl Build for DeviceTreeNode {
    fn with<T: ToPropertyValue>(mut self, name: &str, value: T) -> Self {
        self.add_property(DeviceTreeProperty::new_unchecked(name, value));
        self
    }

    fn flag(self, name: &str) -> Self {
        self.with(name, [0u8; 0])
    }

    fn with_child(mut self, child: DeviceTreeNode) -> Self {
        self.add_child(child);
        self
    }
}

fn node(name: impl Into<String>) -> DeviceTreeNode {
    DeviceTreeNode::new_unchecked(name)
}

/// A `reg` of two cells each for address and size.
fn reg(base: GuestPhysAddr, size: u64) -> [u32; 4] {
    let base = base.as_u64();
    [(base >> 32) as u32, base as u32, (size >> 32) as u32, size as u32]
}
