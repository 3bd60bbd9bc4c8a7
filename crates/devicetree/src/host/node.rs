//! The properties of one node of the host's tree that are of interest, as they stand in the blob.

use isa::paging::Mode;

use super::info::{Console, ConsoleKind};
use crate::blob::{be32, number, strings};
use crate::bus::Bus;
use crate::extensions::text::IsaProperties;
use memory::Extent;

const NS16550: &[&[u8]] = &[b"ns16550a", b"ns16550", b"ns16850", b"snps,dw-apb-uart", b"intel,xscale-uart"];
const SIFIVE_UART: &[&[u8]] = &[b"sifive,uart0"];

/// A node's properties, as far as it has them.
#[derive(Default)]
pub(super) struct Node<'a> {
    pub(super) name: &'a [u8],
    /// Where it is in the blob; identifies it.
    pub(super) offset: usize,
    /// What it says of its children's addresses.
    pub(super) bus: Bus<'a>,
    pub(super) isa: IsaProperties<'a>,
    pub(super) reg: &'a [u8],
    pub(super) phandle: Option<u32>,
    pub(super) interrupts_extended: Option<&'a [u8]>,
    pub(super) timebase_frequency: Option<u64>,
    /// `riscv,ndev`
    pub(super) sources: Option<u32>,
    compatible: &'a [u8],
    device_type: &'a [u8],
    status: Option<&'a [u8]>,
    mmu_type: &'a [u8],
    interrupts: Option<&'a [u8]>,
    reg_shift: Option<u32>,
    reg_io_width: Option<u32>,
    reg_offset: Option<u32>,
}

impl<'a> Node<'a> {
    /// A node without properties.
    pub(super) fn new(name: &'a [u8], offset: usize) -> Self {
        Self { name, offset, ..Self::default() }
    }

    /// Notes a property, if it is of interest.
    pub(super) fn set(&mut self, name: &[u8], value: &'a [u8]) {
        let cell = || be32(value, 0);
        match name {
            b"#address-cells" => self.bus.address_cells = cell().unwrap_or(0),
            b"#size-cells" => self.bus.size_cells = cell().unwrap_or(0),
            b"ranges" => self.bus.ranges = Some(value),
            b"compatible" => self.compatible = value,
            b"device_type" => self.device_type = value,
            b"status" => self.status = Some(value),
            b"reg" => self.reg = value,
            b"phandle" | b"linux,phandle" => self.phandle = cell(),
            b"interrupts" => self.interrupts = Some(value),
            b"interrupts-extended" => self.interrupts_extended = Some(value),
            b"mmu-type" => self.mmu_type = value,
            b"timebase-frequency" => self.timebase_frequency = number(value),
            b"riscv,ndev" => self.sources = cell(),
            b"riscv,isa" => self.isa.isa = Some(value),
            b"riscv,isa-base" => self.isa.base = Some(value),
            b"riscv,isa-extensions" => self.isa.list = Some(value),
            b"riscv,cbom-block-size" => self.isa.cbom_block_size = Some(value),
            b"riscv,cboz-block-size" => self.isa.cboz_block_size = Some(value),
            b"riscv,cbop-block-size" => self.isa.cbop_block_size = Some(value),
            b"reg-shift" => self.reg_shift = cell(),
            b"reg-io-width" => self.reg_io_width = cell(),
            b"reg-offset" => self.reg_offset = cell(),
            _ => {}
        }
    }

    /// Whether `status` allows its use.
    pub(super) fn is_enabled(&self) -> bool {
        self.status.is_none_or(|status| matches!(status, b"okay\0" | b"ok\0"))
    }

    /// Whether it is compatible with one of `wanted`.
    pub(super) fn is_compatible(&self, wanted: &[&[u8]]) -> bool {
        strings(self.compatible).any(|name| wanted.contains(&name))
    }

    /// Whether its `device_type` is this.
    pub(super) fn is_of_type(&self, device_type: &[u8]) -> bool {
        strings(self.device_type).next() == Some(device_type)
    }

    /// The widest translation mode of a hart; `None` for one without translation.
    pub(super) fn mmu_type(&self) -> Option<Mode> {
        match self.mmu_type {
            b"riscv,sv39\0" => Some(Mode::Sv39),
            b"riscv,sv48\0" => Some(Mode::Sv48),
            b"riscv,sv57\0" => Some(Mode::Sv57),
            _ => None,
        }
    }

    /// The console that this node is, given its registers' place; `None` where it is not a UART of a known kind.
    pub(super) fn console(&self, registers: Extent) -> Option<Console> {
        let kind = if self.is_compatible(SIFIVE_UART) {
            ConsoleKind::SiFiveUart
        } else if self.is_compatible(NS16550) {
            ConsoleKind::Ns16550 {
                reg_shift: self.reg_shift.unwrap_or(0).try_into().ok().filter(|&shift: &u8| shift <= 4)?,
                reg_io_width: match self.reg_io_width {
                    None | Some(1) => 1,
                    Some(2) => 2,
                    Some(4) => 4,
                    Some(_) => return None,
                },
            }
        } else {
            return None;
        };
        let offset = u64::from(self.reg_offset.unwrap_or(0));
        let size = registers.size.checked_sub(offset).filter(|&size| size > 0)?;
        Some(Console {
            kind,
            registers: Extent::new(registers.start.wrapping_add(offset), size),
            irq: self.irq(),
        })
    }

    /// The interrupt source: the first cell behind the controller, whatever follows it (a trigger type).
    pub(super) fn irq(&self) -> Option<u32> {
        let extended = || self.interrupts_extended.and_then(|value| be32(value, 4));
        self.interrupts.and_then(|value| be32(value, 0)).or_else(extended)
    }
}
