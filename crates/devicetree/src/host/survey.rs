//! The one pass over the host's device tree that fills a `HostInfo`.
//!
//! Nodes are known by `compatible` or `device_type`; only those that the specification itself names by their
//! path (`/cpus`, `/chosen`, `/reserved-memory`, `/aliases`) are found by it. References between nodes are
//! noted on the way and resolved at the end, as a tree's order is free.

use arrayvec::{ArrayString, ArrayVec};
use memory::{Extent, HostPhysAddr};

use super::info::{Console, HostHart, HostInfo, MAX_HARTS, MAX_SEED, Plic, VirtioSlot};
use super::node::Node;
use crate::blob::{Blob, Token, be32, number, strings};
use crate::bus::Bus;
use crate::error::HostError;

/// Nodes inside each other, the root included.
const MAX_DEPTH: usize = 16;
/// UARTs that are considered for the console.
const MAX_UARTS: usize = 8;
/// The cause of a supervisor external interrupt, by which `interrupts-extended` names it.
const SUPERVISOR_EXTERNAL: u32 = 9;

const PLIC: &[&[u8]] = &[b"sifive,plic-1.0.0", b"riscv,plic0", b"thead,c900-plic"];
const FINISHER: &[&[u8]] = &[b"sifive,test0", b"sifive,test1"];
const RTC: &[&[u8]] = &[b"google,goldfish-rtc"];
const VIRTIO: &[&[u8]] = &[b"virtio,mmio"];
const CPU_INTC: &[&[u8]] = &[b"riscv,cpu-intc"];

/// What a node is to its children.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    /// The root, a bus, or anything else.
    Machine,
    /// `/cpus`.
    Cpus,
    /// The hart of this index.
    Hart(usize),
    /// `/reserved-memory`.
    Reserved,
    /// Disabled or of no use, with all below it.
    Ignored,
}

/// A pass in progress.
pub(super) struct Survey<'a> {
    info: HostInfo,
    /// The open nodes whose properties have been read, the root first.
    parents: ArrayVec<(Role, Bus<'a>), MAX_DEPTH>,
    /// phandles of the harts' own interrupt controllers, with the hart's index.
    intcs: ArrayVec<(u32, usize), MAX_HARTS>,
    /// The PLIC's `interrupts-extended`.
    plic_targets: &'a [u8],
    /// UARTs of known kinds, with their nodes' offsets.
    uarts: ArrayVec<(usize, Console), MAX_UARTS>,
}

impl<'a> Survey<'a> {
    /// Reads the whole tree.
    pub(super) fn of(blob: Blob<'a>) -> Result<HostInfo, HostError> {
        let mut survey = Self::new();
        for (address, size) in blob.reservations() {
            survey.reserve(address, size)?;
        }
        // A node's properties all precede its children, so it is whole when a child or its end comes.
        let mut current: Option<Node<'a>> = None;
        let mut tokens = blob.tokens();
        while let Some(token) = tokens.read()? {
            match token {
                Token::Open(name) => {
                    if let Some(node) = current.take() {
                        survey.enter(&node)?;
                    }
                    current = Some(Node::new(name, tokens.offset()));
                }
                Token::Property(name, value) => {
                    current.as_mut().ok_or(HostError::Structure)?.set(name, value);
                }
                Token::Close => match current.take() {
                    Some(node) => {
                        survey.take_in(&node)?;
                    }
                    None => {
                        survey.parents.pop();
                    }
                },
            }
        }
        survey.finish(blob)
    }

    fn new() -> Self {
        Self {
            info: HostInfo {
                memory: ArrayVec::new(),
                reserved: ArrayVec::new(),
                harts: ArrayVec::new(),
                timebase_frequency: 0,
                console: None,
                plic: None,
                finisher: None,
                rtc: None,
                virtio: ArrayVec::new(),
                initrd: None,
                bootargs: ArrayString::new(),
                rng_seed: ArrayVec::new(),
            },
            parents: ArrayVec::new(),
            intcs: ArrayVec::new(),
            plic_targets: &[],
            uarts: ArrayVec::new(),
        }
    }

    /// Takes in a node and makes it the parent of those that follow.
    fn enter(&mut self, node: &Node<'a>) -> Result<(), HostError> {
        let role = self.take_in(node)?;
        let mut bus = node.bus;
        if role == Role::Reserved {
            // Required to be an empty `ranges`; where it is forgotten, the ranges are no less reserved.
            bus.ranges = bus.ranges.or(Some(&[]));
        }
        self.parents.try_push((role, bus)).map_err(|_| HostError::TooDeep)
    }

    /// Takes in a node whose properties have all been read.
    fn take_in(&mut self, node: &Node<'a>) -> Result<Role, HostError> {
        let Some(&(parent, bus)) = self.parents.last() else { return Ok(Role::Machine) };
        if !node.is_enabled() {
            return Ok(Role::Ignored);
        }
        Ok(match parent {
            Role::Machine if self.parents.len() == 1 && node.name == b"cpus" => {
                self.note_timebase(node);
                Role::Cpus
            }
            Role::Machine if self.parents.len() == 1 && node.name == b"reserved-memory" => Role::Reserved,
            Role::Machine => {
                self.device(node, bus);
                Role::Machine
            }
            Role::Cpus => self.hart(node, bus).map_or(Role::Ignored, Role::Hart),
            Role::Hart(index) => {
                if let (true, Some(phandle)) = (node.is_compatible(CPU_INTC), node.phandle) {
                    // One for each hart fits; a hart with several is not real.
                    let _ = self.intcs.try_push((phandle, index));
                }
                Role::Ignored
            }
            Role::Reserved => {
                for (address, size) in bus.entries(node.reg) {
                    self.reserve(self.to_root(address, size).unwrap_or(address), size)?;
                }
                Role::Ignored
            }
            Role::Ignored => Role::Ignored,
        })
    }

    /// Takes in a hart; its index, or `None` where it is of no use.
    fn hart(&mut self, node: &Node<'a>, cpus: Bus<'a>) -> Option<usize> {
        if !node.is_of_type(b"cpu") {
            return None;
        }
        self.note_timebase(node);
        let (id, _) = cpus.entries(node.reg).next()?;
        let hart = HostHart { id, isa: node.isa.parse()?, mmu_type: node.mmu_type()?, plic_context: None };
        self.info.harts.try_push(hart).ok()?;
        Some(self.info.harts.len() - 1)
    }

    /// `timebase-frequency` stands in `/cpus` or in each hart.
    fn note_timebase(&mut self, node: &Node<'a>) {
        if self.info.timebase_frequency == 0 {
            self.info.timebase_frequency = node.timebase_frequency.unwrap_or(0);
        }
    }

    /// Takes in memory and the devices of interest. Of each kind the first one counts, but of virtio slots all do.
    fn device(&mut self, node: &Node<'a>, bus: Bus<'a>) {
        if node.is_of_type(b"memory") {
            for (address, size) in bus.entries(node.reg) {
                if let Some(extent) = self.extent(address, size) {
                    // What does not fit is not used.
                    let _ = self.info.memory.try_push(extent);
                }
            }
            return;
        }
        let mut entries = bus.entries(node.reg);
        let Some(registers) = entries.next().and_then(|(address, size)| self.extent(address, size)) else {
            return;
        };
        if let Some(console) = node.console(registers) {
            // Beyond the capacity it is not the first, and hardly the console.
            let _ = self.uarts.try_push((node.offset, console));
        } else if node.is_compatible(PLIC) {
            if self.info.plic.is_none() {
                self.info.plic = Some(Plic { registers, sources: node.sources.unwrap_or(0) });
                self.plic_targets = node.interrupts_extended.unwrap_or(&[]);
            }
        } else if node.is_compatible(FINISHER) {
            self.info.finisher = self.info.finisher.or(Some(registers.start));
        } else if node.is_compatible(RTC) {
            self.info.rtc = self.info.rtc.or(Some(registers.start));
        } else if let (true, Some(irq)) = (node.is_compatible(VIRTIO), node.irq()) {
            // What does not fit is not used; nor is what does not interrupt, for nobody polls it.
            let _ = self.info.virtio.try_push(VirtioSlot { registers, irq });
        }
    }

    /// The range that a `reg` entry means; `None` where it is empty, wraps or cannot be reached from the root.
    fn extent(&self, address: u64, size: u64) -> Option<Extent> {
        checked_extent(self.to_root(address, size)?, size)
    }

    /// Translates an address on the innermost bus.
    fn to_root(&self, address: u64, size: u64) -> Option<u64> {
        let outer = self.parents.iter().rev().skip(1);
        self.parents
            .iter()
            .rev()
            .zip(outer)
            .try_fold(address, |address, ((_, bus), (_, parent))| bus.to_parent(*parent, address, size))
    }

    fn reserve(&mut self, address: u64, size: u64) -> Result<(), HostError> {
        // What wraps is reserved up to the end.
        let extent = Extent::new(HostPhysAddr(address), size);
        if extent.size == 0 || self.info.reserved.contains(&extent) {
            return Ok(());
        }
        self.info.reserved.try_push(extent).map_err(|_| HostError::TooManyReserved)
    }

    /// Resolves what was noted and checks that the machine is one.
    fn finish(mut self, blob: Blob<'a>) -> Result<HostInfo, HostError> {
        if self.info.memory.is_empty() {
            return Err(HostError::NoMemory);
        }
        if self.info.harts.is_empty() {
            return Err(HostError::NoHart);
        }
        if self.info.timebase_frequency == 0 {
            return Err(HostError::NoTimebase);
        }
        self.resolve_contexts();
        let stdout_path = self.read_chosen(blob)?;
        self.info.console = self.choose_console(blob, stdout_path)?;
        Ok(self.info)
    }

    /// A PLIC's contexts are numbered by their place in `interrupts-extended`: phandle of a cpu-intc and cause.
    fn resolve_contexts(&mut self) {
        for (context, target) in self.plic_targets.chunks_exact(8).enumerate() {
            if be32(target, 4) != Some(SUPERVISOR_EXTERNAL) {
                continue;
            }
            let intc = self.intcs.iter().find(|(phandle, _)| be32(target, 0) == Some(*phandle));
            if let Some(hart) = intc.and_then(|&(_, index)| self.info.harts.get_mut(index)) {
                hart.plic_context = u32::try_from(context).ok();
            }
        }
    }

    /// Reads `/chosen`; returns its `stdout-path`.
    fn read_chosen(&mut self, blob: Blob<'a>) -> Result<Option<&'a [u8]>, HostError> {
        let (mut stdout_path, mut start, mut end) = (None, None, None);
        let Some(mut chosen) = blob.find(b"/chosen")? else { return Ok(None) };
        while let Some(Token::Property(name, value)) = chosen.read()? {
            match name {
                b"stdout-path" | b"linux,stdout-path" => stdout_path = strings(value).next(),
                b"linux,initrd-start" => start = Some(value),
                b"linux,initrd-end" => end = Some(value),
                b"bootargs" => self.info.bootargs = cut_off(strings(value).next().unwrap_or(&[])),
                b"rng-seed" => self.info.rng_seed = value.iter().copied().take(MAX_SEED).collect(),
                _ => {}
            }
        }
        self.info.initrd = start.zip(end).and_then(|(start, end)| self.initrd(start, end));
        Ok(stdout_path)
    }

    /// The place that two properties give. Where they are numbers of 32 bits, QEMU before version 10 has cut them off: then
    /// it is the lowest place in RAM that they can mean.
    fn initrd(&self, start: &[u8], end: &[u8]) -> Option<Extent> {
        let is_cut = start.len() == 4 && end.len() == 4;
        let (start, mut end) = (number(start)?, number(end)?);
        if is_cut && end < start {
            end = end.checked_add(CUT)?;
        }
        let size = end.checked_sub(start)?;
        let is_ram = |place: &Extent| {
            self.info.memory.iter().any(|ram| ram.start <= place.start && place.end() <= ram.end())
        };
        let at = |high: u64| checked_extent(start.checked_add(high * CUT)?, size);
        let meant = if is_cut { (0..PLACES).filter_map(at).find(is_ram) } else { None };
        meant.or_else(|| at(0))
    }

    /// The UART that `stdout-path` names, a path or an alias with options behind a colon. Without one, or where
    /// no such node exists, the first.
    fn choose_console(&self, blob: Blob<'a>, path: Option<&[u8]>) -> Result<Option<Console>, HostError> {
        let path = path.and_then(|path| path.split(|&byte| byte == b':').next()).unwrap_or(&[]);
        let path = match path.first() {
            Some(b'/') => path,
            Some(_) => {
                blob.property(b"/aliases", path)?.and_then(|value| strings(value).next()).unwrap_or(&[])
            }
            None => path,
        };
        let node = if path.is_empty() { None } else { blob.find(path)? };
        let chosen = |offset| self.uarts.iter().find(|(uart, _)| *uart == offset);
        let uart = match node {
            Some(node) => chosen(node.offset()),
            None => self.uarts.first(),
        };
        Ok(uart.map(|&(_, console)| console))
    }
}

/// The range of `size` bytes at `address`; `None` where it is empty or wraps.
fn checked_extent(address: u64, size: u64) -> Option<Extent> {
    address.checked_add(size).filter(|&end| end > address)?;
    Some(Extent::new(HostPhysAddr(address), size))
}

/// What a number of 32 bits is counted up to, and how many places one is looked for at: all below 64 GiB.
const CUT: u64 = 1 << 32;
/// See `CUT`.
const PLACES: u64 = 16;

/// As much of `text` as fits and is UTF-8.
fn cut_off<const N: usize>(text: &[u8]) -> ArrayString<N> {
    let text = text.get(..N).unwrap_or(text);
    let valid = match core::str::from_utf8(text) {
        Ok(valid) => valid,
        Err(error) => {
            text.get(..error.valid_up_to()).and_then(|valid| core::str::from_utf8(valid).ok()).unwrap_or("")
        }
    };
    ArrayString::from(valid).unwrap_or_default()
}
