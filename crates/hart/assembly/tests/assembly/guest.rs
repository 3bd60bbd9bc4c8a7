//! A virtual machine with one vCPU whose exits the assembly serves, in RAM that has page tables of all kinds; all of it the
//! hypervisor's own code but the hardware.

use std::sync::atomic::AtomicU64;

use arrayvec::ArrayVec;
use devices::Board;
use isa::csr::{CsrAddr, sstatus};
use isa::paging::{Mode, Pte, Satp};
use isa::{Exception, FReg, Privilege, Reg, TrapInfo};
use memory::{BLOCK_SIZE, GuestPhysAddr, GuestRam, GuestVirtAddr, HartAuthority, HostPhysAddr, PAGE_SIZE};
use mmu::shadow::MIN_TABLES;
use mmu::{AsidSpace, ShadowMmu};
use rewrite::CodePages;
use vhart::csr::Read;
use vhart::{Handlers, HostTables, SharedTable, Window};
use vmm::machine::Clock;
use vmm::vcpu::{RunState, Start};
use vmm::{CsrFeatures, Host, Machine, Next, StopReason, Vcpu, vm};

use crate::random::Random;

/// Where the guest's RAM is, and where that is on the host.
const RAM: u64 = 0x8000_0000;
const HOST_RAM: u64 = 0x1_8000_0000;
/// Blocks of it: tables; pages; pages among which some are guarded at times; what nobody has looked at.
const BLOCKS: u64 = 4;
const GUARDED: u64 = 2;
/// Where the shadow tables are.
const TABLES: u64 = 0x1_0000_0000;
/// Address spaces of the guest.
pub const SPACES: u64 = 5;
/// Ranges of 2 MiB that each of them has in its lower half, and that all of them have in the upper.
const RANGES: u64 = 2;
/// Where those are.
const LOWER: u64 = 0x4000_0000;
const UPPER: u64 = 0xffff_ffff_8000_0000;
/// A table's pages, from the first of RAM on: for each space its root, a table of pointers, and last tables; then the
/// shared ones.
const TABLES_OF_SPACE: u64 = 2 + RANGES;

/// Memory that one guest after another has.
#[derive(Clone, Copy, Debug)]
pub struct Lent {
    pub ram: &'static [AtomicU64],
    pub tables: &'static [SharedTable],
}

impl Lent {
    /// Takes it, for ever.
    pub fn take() -> Self {
        let words = BLOCKS * BLOCK_SIZE / 8;
        Self {
            ram: (0..words).map(|_| AtomicU64::new(!0)).collect::<Vec<_>>().leak(),
            tables: (0..2 * MIN_TABLES).map(|_| SharedTable::filled_with(!0)).collect::<Vec<_>>().leak(),
        }
    }
}

/// What kind of guest it is, and of host.
#[derive(Clone, Copy, Debug)]
pub struct Kind {
    /// Whether the host's hart has enough ASIDs.
    pub host_asids: bool,
    /// Whether the kernel gives its address spaces ASIDs.
    pub guest_asids: bool,
    /// Whether the kernel has shown that it fences what it changes.
    pub trusted: bool,
    /// Whether there is all that a hart can have.
    pub full: bool,
    /// Whether the guest leaves its tables alone, so that they are watched in the end.
    pub quiet: bool,
}

impl Kind {
    pub fn random(random: &mut Random) -> Self {
        Self {
            host_asids: random.chance(60),
            guest_asids: random.chance(60),
            trusted: random.chance(60),
            full: random.chance(60),
            quiet: random.chance(40),
        }
    }
}

/// A host that has nothing to do.
#[derive(Debug)]
pub struct FakeHost;

impl Host for FakeHost {
    fn now(&self) -> u64 {
        1000
    }

    fn cycle(&self) -> u64 {
        0
    }

    fn instret(&self) -> u64 {
        0
    }

    fn console_write(&mut self, bytes: &[u8]) -> usize {
        bytes.len()
    }

    fn console_read(&mut self) -> Option<u8> {
        None
    }

    fn fp_read(&mut self, _: FReg) -> u64 {
        0
    }

    fn fp_write(&mut self, _: FReg, _: u64) {}
}

/// The virtual machine.
#[derive(Debug)]
pub struct Guest {
    pub kind: Kind,
    pub machine: Machine,
    /// In one place, for the assembly knows where.
    pub vcpu: Box<Vcpu>,
    lent: Lent,
}

impl Guest {
    /// A guest of this kind, whose address spaces are filled in at random.
    pub fn new(kind: Kind, lent: Lent, handlers: Handlers, random: &mut Random) -> Self {
        let ram = GuestRam::new(lent.ram, GuestPhysAddr(RAM), HostPhysAddr(HOST_RAM), Vec::new());
        let code = CodePages::new(&[], HostPhysAddr(0x2_0000_0000));
        let machine = Machine::new(ram, code, Board::new(1, 0, Vec::new()), 1, Clock::new(10_000_000));
        let window = Window { first_slot: 500, entries: ArrayVec::from_iter([Pte(7)]) };
        let base = HostPhysAddr(TABLES);
        let mode = if random.chance(50) { Mode::Sv48 } else { Mode::Sv57 };
        let tables = HostTables::new(lent.tables, base, mode, window, HartAuthority::simulated());
        let asids = if kind.host_asids { AsidSpace::new(16, 1).deal() } else { None };
        let features = CsrFeatures {
            widest_mode: Mode::Sv39,
            float: kind.full,
            vector: kind.full,
            cache_blocks: kind.full,
            cache_zero: kind.full,
            svinval: kind.full,
        };
        let mut vcpu = Box::new(Vcpu::new(0, features, ShadowMmu::new(tables, asids)));
        vcpu.frame.fast.sites.set_handlers(handlers);
        machine.links[0].set_state(vmm::link::HartState::Started);
        vcpu.start(Start { address: RAM, opaque: 0 });
        let mut guest = Self { kind, machine, vcpu, lent };
        guest.make_tables(random);
        if kind.trusted {
            guest.earn_trust();
        }
        if kind.quiet {
            guest.settle(random);
        }
        guest
    }

    /// Uses pages and fences them, again and again, until the tables are watched.
    fn settle(&mut self, random: &mut Random) {
        for turn in 0..20 {
            self.write(CsrAddr::SATP, self.satp(turn % SPACES));
            for privilege in [Privilege::User, Privilege::Supervisor] {
                self.vcpu.frame.privilege = privilege;
                for _ in 0..8 {
                    let _ = self.serve(Exception::LoadPageFault.code(), Self::address(random));
                    self.vcpu.frame.privilege = privilege;
                    self.prepare();
                }
            }
        }
        for turn in 0..20 * SPACES {
            self.write(CsrAddr::SATP, self.satp(turn % SPACES));
            self.vcpu.caches.shadow.fence(&self.machine.ram, None, None);
            for privilege in [Privilege::User, Privilege::Supervisor] {
                self.vcpu.frame.privilege = privilege;
                self.prepare();
            }
        }
    }

    /// Fences an address in all address spaces.
    pub fn fence(&mut self, address: u64) {
        self.vcpu.caches.shadow.fence(&self.machine.ram, Some(GuestVirtAddr(address)), None);
    }

    /// satp for one of the address spaces.
    pub fn satp(&self, space: u64) -> u64 {
        let asid = if self.kind.guest_asids { space as u16 + 1 } else { 0 };
        Satp { mode: Mode::Sv39, asid, ppn: (RAM + space * TABLES_OF_SPACE * PAGE_SIZE) / PAGE_SIZE }.bits()
    }

    /// The address space that the guest is in.
    pub fn space(&self) -> Option<u64> {
        (0..SPACES).find(|space| self.satp(*space) == self.vcpu.frame.csr.satp_bits())
    }

    fn make_tables(&mut self, random: &mut Random) {
        for page in 0..(SPACES + 1) * TABLES_OF_SPACE {
            for slot in 0..PAGE_SIZE / 8 {
                self.set_word(RAM + page * PAGE_SIZE + slot * 8, 0);
            }
        }
        let index = |address: u64, level: u32| address >> (12 + 9 * level) & 511;
        for space in 0..=SPACES {
            let root = RAM + space * TABLES_OF_SPACE * PAGE_SIZE;
            let (first, is_shared) = if space == SPACES { (UPPER, true) } else { (LOWER, false) };
            let pointers = root + PAGE_SIZE;
            let global = if is_shared && random.chance(50) { Pte::G } else { 0 };
            if !is_shared {
                self.set_word(root + index(first, 2) * 8, Pte::new(pointers, Pte::V).0);
                let shared = RAM + SPACES * TABLES_OF_SPACE * PAGE_SIZE + PAGE_SIZE;
                self.set_word(root + index(UPPER, 2) * 8, Pte::new(shared, Pte::V).0);
            }
            for range in 0..RANGES {
                let table = pointers + (1 + range) * PAGE_SIZE;
                let slot = index(first + range * BLOCK_SIZE, 1);
                self.set_word(pointers + slot * 8, Pte::new(table, Pte::V | global).0);
            }
        }
        for space in 0..=SPACES {
            for page in 0..RANGES * BLOCK_SIZE / PAGE_SIZE {
                let address = if space == SPACES { UPPER } else { LOWER } + page * PAGE_SIZE;
                self.set_page(space, address, random);
            }
        }
    }

    /// Where the entry of an address is in a space's last table, if it has any; above all there is one for the upper half.
    fn entry(space: u64, address: u64) -> Option<u64> {
        let (first, space) = if (address as i64) < 0 { (UPPER, SPACES) } else { (LOWER, space) };
        let page = address.wrapping_sub(first) / PAGE_SIZE;
        let table = RAM + (space * TABLES_OF_SPACE + 2) * PAGE_SIZE;
        (page < RANGES * BLOCK_SIZE / PAGE_SIZE).then_some(table + page * 8)
    }

    /// The guest's entry for an address in the space that it is in; all have the upper half, also where the guest is in none.
    pub fn word(&self, address: u64) -> Option<u64> {
        let space = if (address as i64) < 0 { SPACES } else { self.space()? };
        let at = Self::entry(space, address)?;
        self.machine.ram.read_word(GuestPhysAddr(at))
    }

    /// Whether this place in the host's memory is the guest's, in a block that is filled in and of which no page is guarded.
    pub fn is_plain(&self, host: u64) -> bool {
        let block = host.wrapping_sub(HOST_RAM) / BLOCK_SIZE;
        self.machine.ram.blocks().get(block as usize).is_some_and(memory::Block::is_plain)
    }

    /// Where the entry is that the hardware comes to at last when it looks an address up under this root.
    pub fn last_entry(&self, satp: u64, address: u64) -> Option<u64> {
        let mut table = (Satp::from_bits(satp)?.ppn) * PAGE_SIZE;
        // Sv48 is 9, with four levels.
        for level in (0..(satp >> 60) - 5).rev() {
            let entries = self.lent.tables.get((table.checked_sub(TABLES)? / PAGE_SIZE) as usize)?.entries();
            let entry = &entries[(address >> (12 + 9 * level) & 511) as usize];
            if level == 0 || !Pte(entry.get()).is_table() {
                return Some(core::ptr::from_ref(entry).addr() as u64);
            }
            table = Pte(entry.get()).address();
        }
        None
    }

    /// Maps a page otherwise.
    pub fn set_page(&mut self, space: u64, address: u64, random: &mut Random) {
        let Some(at) = Self::entry(space, address) else { return };
        let is_upper = (address as i64) < 0;
        let page = random.below(BLOCK_SIZE / PAGE_SIZE) * PAGE_SIZE;
        let block = match random.below(100) {
            0..75 => 1,
            75..91 => GUARDED,
            91..94 => 3,
            // Behind the end, and before the beginning.
            94..97 => BLOCKS,
            _ => 0_u64.wrapping_sub(1),
        };
        let mut flags = 0;
        let mut set = |percent, flag| flags |= if random.chance(percent) { flag } else { 0 };
        set(94, Pte::V);
        set(96, Pte::R);
        set(90, Pte::A);
        set(50, Pte::X);
        set(if is_upper { 4 } else { 85 }, Pte::U);
        set(if is_upper { 90 } else { 5 }, Pte::G);
        set(60, Pte::W);
        set(60, Pte::D);
        set(1, 1 << 60);
        self.set_word(at, Pte::new(RAM.wrapping_add(block.wrapping_mul(BLOCK_SIZE)) + page, flags).0);
    }

    /// Lets pages of a block be guarded, or no longer.
    pub fn guard(&mut self, is_guarded: bool) {
        let page = GuestPhysAddr(RAM + GUARDED * BLOCK_SIZE);
        if is_guarded {
            self.machine.ram.note_scanned(page);
            self.vcpu.caches.shadow.guard(&self.machine.ram, page);
        } else {
            self.machine.ram.forget_scanned(page);
        }
    }

    /// An address of the ranges that have tables.
    pub fn address(random: &mut Random) -> u64 {
        let first = if random.chance(50) { UPPER } else { LOWER };
        first + random.below(RANGES * BLOCK_SIZE)
    }

    fn set_word(&mut self, address: u64, value: u64) {
        self.machine.ram.write_word(GuestPhysAddr(address), value).expect("RAM");
    }

    /// Lets the kernel show that its fences name what it has changed, and that it fences where it switches.
    fn earn_trust(&mut self) {
        const SPARE: u64 = LOWER + 5 * PAGE_SIZE;
        const ALL: u64 = Pte::V | Pte::R | Pte::W | Pte::X | Pte::A | Pte::D;
        let at = Self::entry(0, SPARE).expect("an entry");
        self.write(CsrAddr::SATP, self.satp(0));
        for _ in 0..20 {
            self.set_word(at, Pte::new(RAM + BLOCK_SIZE, ALL).0);
            let _ = self.serve(Exception::LoadPageFault.code(), SPARE);
            self.set_word(at, 0);
            self.vcpu.caches.shadow.fence(&self.machine.ram, Some(GuestVirtAddr(SPARE)), None);
        }
        for turn in 0..20 {
            self.write(CsrAddr::SATP, self.satp(turn % SPACES));
            self.vcpu.caches.shadow.fence(&self.machine.ram, None, None);
            self.prepare();
        }
    }

    /// The guest writes a CSR, and Rust serves that: with what may follow from it.
    pub fn write(&mut self, csr: CsrAddr, value: u64) {
        const A0: u32 = 10;
        let (privilege, old) = (self.vcpu.frame.privilege, self.vcpu.frame.get(Reg::A0));
        self.vcpu.frame.privilege = Privilege::Supervisor;
        self.vcpu.frame.set(Reg::A0, value);
        // CSRRW x0.
        let bits = u32::from(csr.as_u16()) << 20 | A0 << 15 | 1 << 12 | 0x73;
        let _ = self.serve(Exception::IllegalInstruction.code(), bits.into());
        self.vcpu.frame.privilege = privilege;
        self.vcpu.frame.set(Reg::A0, old);
    }

    /// Rust serves an exception.
    pub fn serve(&mut self, cause: u64, value: u64) -> Result<(), StopReason> {
        vm::serve(&self.machine, &mut self.vcpu, TrapInfo { cause, value }, &mut FakeHost)
    }

    /// The run loop's way to the guest's next instruction, and what `Hart::run` does of it; gives the root.
    pub fn prepare(&mut self) -> vm::Entry {
        let entry = loop {
            match vm::prepare(&self.machine, &mut self.vcpu) {
                Next::Run(entry) => break entry,
                Next::Idle => self.vcpu.state = RunState::Running,
            }
        };
        let states = self.vcpu.frame.csr.unit_states();
        let missing = states & self.vcpu.frame.guarded;
        self.vcpu.frame.take_units(missing);
        entry
    }

    /// A CSR's value.
    pub fn csr(&self, csr: CsrAddr) -> u64 {
        match self.vcpu.frame.csr.read(csr, Privilege::Supervisor) {
            Ok(Read::Value(value)) => value,
            other => panic!("{csr:?}: {other:?}"),
        }
    }

    /// Where the registers of units are: at hand, or not.
    pub fn set_units(&mut self, random: &mut Random) {
        let units = self.vcpu.frame.csr.unit_mask();
        self.vcpu.frame.guarded = sstatus::MXR | units & random.pick(&[0, sstatus::FS, sstatus::VS, !0]);
    }
}
