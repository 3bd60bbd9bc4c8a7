//! What machine this is: the facts that the kernel takes from the device tree, found by `compatible`, never by
//! node name or fixed address. Reads only; the drivers act on it.
//!
//! The strings are slices of the device tree itself, which stays where the firmware put it: `Frames` leaves
//! the reserved ranges alone.

use arrayvec::ArrayVec;
use core::ops::Range;
use dtoolkit::fdt::{Fdt, FdtNode};
use dtoolkit::{Node, Property};
use guest_rt::image;
use guest_rt::isa::Interrupt;

/// Ranges of RAM that are not the kernel's to use; more than these are an error.
pub type Reserved = ArrayVec<Range<u64>, 16>;

/// The machine, as its device tree describes it.
pub struct Machine {
    /// The board's name.
    pub model: &'static str,
    /// How many harts there are. This kernel uses one.
    pub harts: usize,
    /// The id of the hart that it uses.
    pub hart: u64,
    /// Its instruction set, as `riscv,isa` spells it.
    pub isa: &'static str,
    /// The widest translation mode, such as `riscv,sv48`.
    pub mmu: &'static str,
    /// Ticks of the `time` counter in a second.
    pub timebase: u64,
    /// The bank of RAM that the kernel lies in, physical addresses.
    pub memory: Range<u64>,
    /// What in it the firmware, the device tree and the initial RAM disk take.
    pub reserved: Reserved,
    /// The PLIC's registers, physical addresses.
    pub plic: Range<u64>,
    /// The PLIC's context for supervisor mode on this hart.
    pub plic_context: u64,
    /// The UART's source number at the PLIC.
    pub uart_source: u32,
}

/// What a device tree must say for this kernel to run, and does not.
#[derive(Clone, Copy, Debug)]
pub struct Missing(pub &'static str);

impl Machine {
    /// Reads the device tree at physical address `tree`, as hart `hart`.
    ///
    /// # Errors
    /// [`Missing`] names the first thing that is absent or malformed.
    ///
    /// # Safety
    /// `tree` is what the firmware passed in a1, translation is off, and nothing writes there any more.
    pub unsafe fn read(tree: u64, hart: u64) -> Result<Self, Missing> {
        // SAFETY: the caller's promise.
        let fdt = unsafe { Fdt::from_raw(tree as *const u8) }.map_err(|_| Missing("a valid device tree"))?;
        let root = fdt.root();
        let cpus = root.child("cpus").ok_or(Missing("cpus"))?;
        let cpu = cpus
            .children()
            .find(|node| is_cpu(node) && first_reg(*node).is_some_and(|(id, _)| id == hart))
            .ok_or(Missing("the node of the boot hart"))?;
        let cpu_intc = cpu.child("interrupt-controller").ok_or(Missing("the hart's interrupt controller"))?;

        let plic = find(root, &["sifive,plic-1.0.0", "riscv,plic0"]).ok_or(Missing("a PLIC"))?;
        let (base, size) = first_reg(plic).ok_or(Missing("the PLIC's registers"))?;
        let uart = find(root, &["ns16550a"]).ok_or(Missing("a 16550 UART"))?;

        Ok(Self {
            model: string(root, "model").unwrap_or("unnamed machine"),
            harts: cpus.children().filter(is_cpu).count(),
            hart,
            isa: string(cpu, "riscv,isa").or_else(|| string(cpu, "riscv,isa-base")).unwrap_or("unknown"),
            mmu: string(cpu, "mmu-type").unwrap_or("none"),
            timebase: number(cpus, "timebase-frequency").ok_or(Missing("timebase-frequency"))?.into(),
            memory: memory_around(root, image::text().start)
                .ok_or(Missing("the memory that the kernel lies in"))?,
            reserved: reserved(fdt, tree).ok_or(Missing("fewer reserved ranges"))?,
            plic: base..base.saturating_add(size),
            plic_context: plic_context(plic, number(cpu_intc, "phandle"))
                .ok_or(Missing("a PLIC context for the boot hart"))?,
            uart_source: number(uart, "interrupts").ok_or(Missing("the UART's interrupt"))?,
        })
    }
}

/// Depth first, the node that is compatible with one of `names`.
fn find<'a>(node: FdtNode<'a>, names: &[&str]) -> Option<FdtNode<'a>> {
    if node.compatible().is_some_and(|mut list| list.any(|name| names.contains(&name))) {
        return Some(node);
    }
    node.children().find_map(|child| find(child, names))
}

fn is_cpu(node: &FdtNode) -> bool {
    string(*node, "device_type") == Some("cpu")
}

fn string<'a>(node: FdtNode<'a>, property: &str) -> Option<&'a str> {
    node.property(property)?.value_as().ok()
}

/// The first cell of a property.
fn number(node: FdtNode, property: &str) -> Option<u32> {
    let property = node.property(property)?;
    property.value().first_chunk().map(|&cell| u32::from_be_bytes(cell))
}

/// The address and size in the first entry of `reg`; a size of 0 where it has none, as with a cpu.
fn first_reg(node: FdtNode) -> Option<(u64, u64)> {
    let reg = node.reg().ok()??.next()?;
    Some((reg.address().ok()?, reg.size().unwrap_or(0)))
}

/// The bank of memory that contains `address`.
fn memory_around(root: FdtNode, address: u64) -> Option<Range<u64>> {
    let banks = root.children().filter(|node| string(*node, "device_type") == Some("memory"));
    banks.filter_map(|node| node.reg().ok()?).flatten().find_map(|reg| {
        let start: u64 = reg.address().ok()?;
        let bank = start..start.checked_add(reg.size().ok()?)?;
        bank.contains(&address).then_some(bank)
    })
}

/// Which context of the PLIC is supervisor mode on the hart whose interrupt controller is `phandle`: contexts
/// are numbered in the order of `interrupts-extended`, by pairs of a controller and an interrupt of it.
fn plic_context(plic: FdtNode, phandle: Option<u32>) -> Option<u64> {
    let property = plic.property("interrupts-extended")?;
    let cells = |pair: &[u8]| Some((u32_at(pair, 0)?, u32_at(pair, 4)?));
    let wanted = (phandle?, u32::from(Interrupt::External as u8));
    let at = property.value().chunks_exact(8).position(|pair| cells(pair) == Some(wanted))?;
    Some(at as u64)
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|&cell| u32::from_be_bytes(cell))
}

/// What is spoken for: the reservations of the device tree's header and of /reserved-memory, the device tree
/// itself and the initial RAM disk. `None` where they are too many.
fn reserved(fdt: Fdt<'static>, tree: u64) -> Option<Reserved> {
    let mut ranges = Reserved::new();
    ranges.try_push(tree..tree.checked_add(fdt.data().len() as u64)?).ok()?;
    for entry in fdt.memory_reservations() {
        ranges.try_push(entry.address()..entry.address().checked_add(entry.size())?).ok()?;
    }
    for node in fdt.reserved_memory().into_iter().flatten() {
        for reg in node.reg().ok().flatten().into_iter().flatten() {
            let start: u64 = reg.address().ok()?;
            ranges.try_push(start..start.checked_add(reg.size().ok()?)?).ok()?;
        }
    }
    if let Some(chosen) = fdt.root().child("chosen")
        && let (Some(start), Some(end)) =
            (long(chosen, "linux,initrd-start"), long(chosen, "linux,initrd-end"))
    {
        ranges.try_push(start..end).ok()?;
    }
    Some(ranges)
}

/// A number of one or two cells.
fn long(node: FdtNode, property: &str) -> Option<u64> {
    let property = node.property(property)?;
    let value = property.value();
    match value.len() {
        4 => u32_at(value, 0).map(u64::from),
        8 => value.first_chunk().map(|&cells| u64::from_be_bytes(cells)),
        _ => None,
    }
}
