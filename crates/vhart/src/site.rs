//! Rewritten sites as the assembly finds them: by pc, decoded once and for all.
//!
//! A site has one of two places, so that two hot ones seldom drive each other out. A site in memory that the guest maps
//! in all its address spaces alike is found in all of them; another one only in its own.

use alloc::boxed::Box;
use alloc::vec;

use isa::csr::CsrAddr;
use isa::instr::{CsrOp, CsrSource, decode};
use isa::{Instr, Reg};
use memory::HartAuthority;

use crate::csr::{CsrRule, InAssembly, rule};

/// Assembly that serves a part of an exit. Not to be called: it runs on the guest's registers.
pub type Handler = unsafe extern "C" fn();

/// What the assembly can do by itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(usize)]
pub enum Op {
    /// Leaves the site to Rust.
    Bail,
    /// Reads a CSR that is a field of the frame.
    Read,
    /// Writes one.
    Write,
    /// Swaps one with a register.
    Swap,
    /// Reads sstatus.
    StatusRead,
    /// Clears sstatus.SIE.
    InterruptsOff,
    /// Reads sstatus and clears SIE.
    InterruptsOffRead,
    /// Sets sstatus.SIE.
    InterruptsOn,
    /// Sets sstatus.SIE if the operand has it.
    InterruptsRestore,
    /// Sets bits of sstatus.
    StatusSet,
    /// Clears bits of sstatus.
    StatusClear,
    /// Writes sstatus.
    StatusWrite,
    /// Writes stvec.
    Vector,
    /// Writes satp.
    Satp,
    /// SRET.
    Sret,
    /// SFENCE.VMA of all addresses.
    Fence,
}

impl Op {
    /// How many there are.
    pub const COUNT: usize = Self::Fence as usize + 1;
}

/// The assembly that serves sites. Only the world switch has it; without it no site is served fast.
#[derive(Clone, Copy, Debug)]
pub struct Handlers(HandlerTables);

impl Handlers {
    /// These, which are as `HandlerTables` says.
    pub const fn new(tables: HandlerTables, _: HartAuthority) -> Self {
        Self(tables)
    }
}

/// The assembly's addresses.
#[derive(Clone, Copy, Debug)]
pub struct HandlerTables {
    /// By operation.
    pub ops: [Handler; Op::COUNT],
    /// Takes the operand out of a register, by its number, and goes on with the operation.
    pub sources: [Handler; 32],
    /// Takes the operand from the site, and goes on with the operation.
    pub immediate: Handler,
    /// Puts the result in a register, by its number, and returns to the guest.
    pub finishes: [Handler; 32],
    /// Does all of `Op::InterruptsOffRead`, by the number of the result's register.
    pub off_reads: [Handler; 32],
    /// Does all of `Op::InterruptsRestore` where the operand is a register, by its number.
    pub restores: [Handler; 32],
}

/// A site. Its handlers are there where the table has them.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
pub struct Site {
    pub(crate) tag: u64,
    pub(crate) first: Option<Handler>,
    pub(crate) op: Option<Handler>,
    pub(crate) finish: Option<Handler>,
    pub(crate) operand: u64,
    pub(crate) field: u64,
    pub(crate) mask: u64,
    bits: u32,
    /// The number of the page that it lies in.
    page: u32,
}

impl Site {
    /// A pc is even, so this one is never found.
    const NOWHERE: Self = Self {
        tag: 1,
        first: None,
        op: None,
        finish: None,
        operand: 0,
        field: 0,
        mask: 0,
        bits: 0,
        page: u32::MAX,
    };

    fn new(pc: u64, tag: u64, bits: u32, page: u64, handlers: Option<&Handlers>) -> Self {
        let site = Self { tag: pc ^ tag, bits, page: page as u32, ..Self::NOWHERE };
        let Some(Handlers(handlers)) = handlers else { return site };
        let plan = Plan::of(&decode(bits));
        let op = handlers.ops.get(plan.op as usize).copied();
        let (first, operand) = match plan.source {
            Some(CsrSource::Reg(reg)) if plan.op == Op::InterruptsRestore => {
                (handlers.restores.get(reg.index()).copied(), 0)
            }
            _ if plan.op == Op::InterruptsOffRead => (handlers.off_reads.get(plan.rd.index()).copied(), 0),
            None => (op, 0),
            Some(CsrSource::Reg(reg)) => (handlers.sources.get(reg.index()).copied(), 0),
            Some(CsrSource::Imm(value)) => (Some(handlers.immediate), u64::from(value)),
        };
        let finish = handlers.finishes.get(plan.rd.index()).copied();
        Self { first, op, finish, operand, field: plan.field as u64, mask: plan.mask, ..site }
    }
}

/// How an instruction is served.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Plan {
    op: Op,
    /// Where the operand comes from, if there is one.
    source: Option<CsrSource>,
    rd: Reg,
    /// Where among the frame's CSRs it is.
    field: usize,
    mask: u64,
}

impl Plan {
    const BAIL: Self = Self { op: Op::Bail, source: None, rd: Reg::ZERO, field: 0, mask: 0 };

    fn of(instr: &Instr) -> Self {
        match *instr {
            Instr::Sret => Self { op: Op::Sret, ..Self::BAIL },
            Instr::SfenceVma { rs1: Reg::ZERO, .. } => Self { op: Op::Fence, ..Self::BAIL },
            Instr::Csr { op, csr, rd, src } => Self::of_csr(op, csr, rd, src),
            _ => Self::BAIL,
        }
    }

    fn of_csr(op: CsrOp, csr: CsrAddr, rd: Reg, src: CsrSource) -> Self {
        let is_zero = matches!(src, CsrSource::Reg(Reg::ZERO) | CsrSource::Imm(0));
        let writes = op == CsrOp::Write || !is_zero;
        let plan = Self { source: Some(src), rd, ..Self::BAIL };
        let sie_alone = matches!(src, CsrSource::Imm(value) if value & 2 != 0);
        let Some(CsrRule { field: Some(field), writable, in_assembly, .. }) = rule(csr) else {
            return Self::BAIL;
        };
        let (field, mask) = (*field, *writable);
        match (in_assembly, op) {
            (InAssembly::Nothing, _) => Self::BAIL,
            (InAssembly::Status, _) if !writes => Self { op: Op::StatusRead, source: None, ..plan },
            // The other bits that an immediate can name are not there.
            (InAssembly::Status, CsrOp::Clear) if sie_alone => {
                let op = if rd == Reg::ZERO { Op::InterruptsOff } else { Op::InterruptsOffRead };
                Self { op, source: None, ..plan }
            }
            (InAssembly::Status, CsrOp::Set) if sie_alone && rd == Reg::ZERO => {
                Self { op: Op::InterruptsOn, source: None, ..plan }
            }
            (InAssembly::Status, CsrOp::Set) if rd == Reg::ZERO => Self { op: Op::InterruptsRestore, ..plan },
            (InAssembly::Status, CsrOp::Set) => Self { op: Op::StatusSet, ..plan },
            (InAssembly::Status, CsrOp::Clear) => Self { op: Op::StatusClear, ..plan },
            (InAssembly::Status, CsrOp::Write) => Self { op: Op::StatusWrite, ..plan },
            _ if !writes => Self { op: Op::Read, source: None, field, ..plan },
            (InAssembly::Root, CsrOp::Write) if rd == Reg::ZERO => Self { op: Op::Satp, ..plan },
            (InAssembly::Vector, CsrOp::Write) if rd == Reg::ZERO => Self { op: Op::Vector, ..plan },
            (InAssembly::ReadWrite, CsrOp::Write) => {
                let op = if rd == Reg::ZERO { Op::Write } else { Op::Swap };
                Self { op, field, mask, ..plan }
            }
            _ => Self::BAIL,
        }
    }
}

/// Places of the table.
pub const SITES: usize = 4096;

/// Sites by pc.
#[derive(Clone, Debug)]
#[repr(C)]
pub struct SiteTable {
    places: Box<[Site; SITES]>,
    handlers: Option<Box<Handlers>>,
    /// Pages that may have sites here, by their numbers modulo `PAGES`, a bit each: most that are to be forgotten have none.
    pages: Box<[u64; PAGES / 64]>,
}

const PAGES: usize = 4096;

/// Where in a table the pointer to its places is.
pub(crate) const PLACES_AT: usize = core::mem::offset_of!(SiteTable, places);
/// How far a pc is folded onto itself for its second place.
pub(crate) const FOLD: u32 = 12;

impl SiteTable {
    /// An empty table, whose sites Rust serves.
    pub fn new() -> Self {
        // By way of the heap: it would be large for a stack.
        let Ok(places) = vec![Site::NOWHERE; SITES].into_boxed_slice().try_into() else { wrong_length() };
        Self { places, handlers: None, pages: Box::new([0; PAGES / 64]) }
    }

    /// Lets the assembly serve the sites.
    pub fn set_handlers(&mut self, handlers: Handlers) {
        self.clear();
        self.handlers = Some(Box::new(handlers));
    }

    /// Whether the assembly serves the sites.
    pub fn is_fast(&self) -> bool {
        self.handlers.is_some()
    }

    /// The instruction that stands at `pc` in the space with `tag`, if it is here.
    pub fn find(&self, pc: u64, tag: u64) -> Option<u32> {
        places(pc)
            .into_iter()
            .filter_map(|place| self.places.get(place))
            .find(|site| site.tag == pc || site.tag == pc ^ tag)
            .map(|site| site.bits)
    }

    /// Puts in the site at `pc`, which stands for the privileged instruction `bits` and lies in the guest-physical page
    /// with the number `page`: where it has been, else in a place that is free, else in the place of another. `tag` is
    /// the space's that it is found in, or 0 where it is found in all.
    pub fn insert(&mut self, pc: u64, tag: u64, bits: u32, page: u64) {
        let site = Site::new(pc, tag, bits, page, self.handlers.as_deref());
        let [first, second] = places(pc);
        let tag_at = |place: usize| self.places.get(place).map_or(0, |old| old.tag);
        let free = Site::NOWHERE.tag;
        let takes_first = tag_at(first) == site.tag
            || tag_at(second) != site.tag && (tag_at(first) == free || tag_at(second) != free);
        let place = if takes_first { first } else { second };
        if let Some(place) = self.places.get_mut(place) {
            *place = site;
        }
        let (word, bit) = page_bit(page);
        if let Some(word) = self.pages.get_mut(word) {
            *word |= bit;
        }
    }

    /// Forgets the sites of the guest-physical page with this number.
    pub fn forget_page(&mut self, page: u64) {
        let (word, bit) = page_bit(page);
        if self.pages.get(word).is_none_or(|word| word & bit == 0) {
            return;
        }
        self.forget(|site| site.page == page as u32);
        let alike =
            |site: &Site| site.tag != Site::NOWHERE.tag && page_bit(u64::from(site.page)) == (word, bit);
        if !self.places.iter().any(alike)
            && let Some(word) = self.pages.get_mut(word)
        {
            *word &= !bit;
        }
    }

    /// Forgets the sites at the addresses of one virtual page, in all spaces.
    pub fn forget_addresses(&mut self, page: u64) {
        const ADDRESS: u64 = 0x0000_ffff_ffff_f000;
        self.forget(|site| (site.tag ^ page) & ADDRESS == 0);
    }

    /// Forgets all.
    pub fn clear(&mut self) {
        // The table is large, and often there is nothing in it.
        if self.pages.iter().all(|word| *word == 0) {
            return;
        }
        self.places.fill(Site::NOWHERE);
        self.pages.fill(0);
    }

    fn forget(&mut self, is_meant: impl Fn(&Site) -> bool) {
        let sites = self.places.iter_mut().filter(|site| site.tag != Site::NOWHERE.tag);
        sites.filter(|site| is_meant(site)).for_each(|site| *site = Site::NOWHERE);
    }
}

impl Default for SiteTable {
    fn default() -> Self {
        Self::new()
    }
}

/// The word and the bit that stand for a page.
const fn page_bit(page: u64) -> (usize, u64) {
    let number = page as usize % PAGES;
    (number / 64, 1 << (number % 64))
}

/// The two places of a pc; the assembly computes the same.
fn places(pc: u64) -> [usize; 2] {
    let index = |bits: u64| (bits >> 1) as usize % SITES;
    [index(pc), index(pc ^ pc >> FOLD)]
}

#[cold]
#[allow(clippy::panic, reason = "the vector is made with this very length")]
fn wrong_length() -> ! {
    panic!("a site table of the wrong length")
}

#[cfg(test)]
mod tests;
