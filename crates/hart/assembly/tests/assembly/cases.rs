//! One exit after another: the assembly serves it, and what it has done is compared with what Rust does of the same state; or
//! it leaves it to Rust, and then has changed nothing (*bail-first*).
//!
//! What is compared is all that the guest sees and that the next exit goes by: its registers, CSRs, privilege and pc, the roots
//! at hand and the space's tag, the real satp, senvcfg, stvec, FS and VS; and what the assembly has written to shadow tables.
//! These differ by design:
//! - counters: `fast_exits`, `fast_fences` and `switch_flushes` are the assembly's, `Vcpu::exits` and such are Rust's;
//! - a fill of Rust's takes along the neighbours of the page, and makes hints;
//! - a fence of Rust's empties the TLB, where nothing has changed that it could hold; the assembly knows that it has not;
//! - a page of the shared half may be filled in where the guest does not run under that: see `Player::again`;
//! - `filled_writable` is the assembly's note, for which Rust has its own;
//! - Rust may find more roots at hand than the assembly has.

use core::mem::offset_of;

use isa::csr::{CsrAddr, sstatus};
use isa::paging::{Pte, Satp};
use isa::{Interrupt, Privilege, Reg};
use vhart::tables::Slots;
use vhart::{CsrFile, Handlers, Roots, VcpuFrame, layout};

use crate::coverage::Counts;
use crate::cpu::{Cpu, Csrs, RETURN, Stop};
use crate::exits::{self, Exit, Trap};
use crate::guest::{Guest, Kind, Lent};
use crate::handlers::handlers;
use crate::image::Image;
use crate::memory::{Change, Memory, What, now};
use crate::random::Random;

/// Cases of one guest; then comes another.
const OF_ONE_GUEST: u64 = 2500;
/// Words of the hypervisor's stack.
const STACK: usize = 64;
/// Bytes of a frame that the assembly reaches.
const FRAME: usize = layout::SPACES + vhart::space::SPACES * size_of::<vhart::Space>();

/// What the guest sees and what the next exit goes by.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Seen {
    registers: [u64; 32],
    pc: u64,
    privilege: Privilege,
    csrs: [u64; CSRS.len()],
    units: u64,
    roots: Roots,
    /// The root that the guest runs under.
    satp: u64,
}

const CSRS: [CsrAddr; 11] = [
    CsrAddr::SSTATUS,
    CsrAddr::SIE,
    CsrAddr::SIP,
    CsrAddr::STVEC,
    CsrAddr::SCOUNTEREN,
    CsrAddr::SENVCFG,
    CsrAddr::SSCRATCH,
    CsrAddr::SEPC,
    CsrAddr::SCAUSE,
    CsrAddr::STVAL,
    CsrAddr::SATP,
];

impl Seen {
    fn of(guest: &Guest, satp: u64) -> Self {
        let frame = &guest.vcpu.frame;
        Self {
            registers: core::array::from_fn(|number| frame.get(Reg::new(number as u32))),
            pc: frame.pc,
            privilege: frame.privilege,
            csrs: CSRS.map(|csr| guest.csr(csr)),
            units: frame.csr.unit_states(),
            roots: frame.fast.roots,
            satp,
        }
    }
}

/// How often what was the outcome.
#[derive(Clone, Copy, Default, Debug)]
pub struct Outcomes {
    /// Exits that the assembly served, and Rust did, too.
    pub compared: u64,
    /// Exits that the assembly served, after which the guest went on.
    pub kept: u64,
    /// Exits that the assembly served, so that the guest trapped again.
    pub again: u64,
    /// Exits that the assembly left to Rust.
    pub left: u64,
    /// Traps of the hypervisor's own.
    pub own_faults: u64,
}

impl Outcomes {
    /// Adds what another has counted.
    pub const fn add(&mut self, other: &Self) {
        self.compared += other.compared;
        self.kept += other.kept;
        self.again += other.again;
        self.left += other.left;
        self.own_faults += other.own_faults;
    }

    /// All.
    pub const fn total(&self) -> u64 {
        self.compared + self.kept + self.left + self.own_faults
    }
}

/// Plays cases.
pub struct Player<'a> {
    image: &'a Image,
    handlers: Handlers,
    lent: Lent,
    guest: Guest,
    cpu: Cpu,
    memory: Memory,
    stack: Box<[u64]>,
    slots: Option<u64>,
    changes: Vec<Change>,
    random: Random,
    seed: u64,
    played: u64,
    pub counts: Counts,
    pub outcomes: Outcomes,
}

impl<'a> Player<'a> {
    /// Plays cases of this seed's on memory of its own.
    pub fn new(image: &'a Image, seed: u64, lent: Lent) -> Self {
        let (mut random, handlers) = (Random::new(seed), handlers(image));
        Self {
            image,
            handlers,
            lent,
            guest: new_guest(handlers, lent, &mut random),
            cpu: Cpu::new(),
            memory: Memory::default(),
            stack: vec![0; STACK].into_boxed_slice(),
            slots: None,
            changes: Vec::new(),
            random,
            seed,
            played: 0,
            counts: Counts::new(image),
            outcomes: Outcomes::default(),
        }
    }

    /// Plays so many cases.
    ///
    /// # Errors
    /// What is wrong with one of them.
    pub fn play(&mut self, cases: u64) -> Result<(), String> {
        for _ in 0..cases {
            if self.played % OF_ONE_GUEST == OF_ONE_GUEST - 1 {
                self.check_shadow()?;
                self.guest = new_guest(self.handlers, self.lent, &mut self.random);
                self.slots = None;
            }
            self.case().map_err(|error| {
                let Self { seed, played, guest: Guest { kind, .. }, .. } = self;
                format!("case {played} of seed {seed}, {kind:?}: {error}")
            })?;
            self.played += 1;
        }
        Ok(())
    }

    fn check_shadow(&self) -> Result<(), String> {
        let checked = mmu::check::check(&self.guest.vcpu.caches.shadow, &self.guest.machine.ram);
        checked.map(|_| ()).map_err(|violation| violation.to_string())
    }

    fn case(&mut self) -> Result<(), String> {
        if self.random.below(300) == 0 {
            return self.case_without_tables();
        }
        let exit = Exit::random(&mut self.random);
        exits::vary(&mut self.guest, exit, &mut self.random);
        let entry = self.guest.prepare();
        let trap = exits::trap(&mut self.guest, exit, &mut self.random);
        let is_fast = !self.random.chance(2);
        let frame = core::ptr::from_mut(&mut self.guest.vcpu.frame);
        self.enter(frame, entry.root.bits(), is_fast)?;
        if self.random.chance(2) {
            return self.own_fault(trap);
        }
        let before = Seen::of(&self.guest, entry.root.bits());
        self.cpu.trap(trap.cause, trap.value, false);
        match self.execute() {
            Stop::Returned => self.left(trap, &before),
            Stop::Guest(_) => self.served(trap, &before),
            other => Err(format!("{trap:x?}: {other:x?}")),
        }
    }

    /// Lets the hart run the guest, as `Hart::run` does.
    fn enter(&mut self, frame: *mut VcpuFrame, root: u64, is_fast: bool) -> Result<(), String> {
        self.add_ranges(frame);
        let at = frame.addr() as u64;
        // SAFETY: it is the guest's, or the one that was just made, and nobody changes it here.
        let frame = unsafe { &*frame };
        let vector = match frame.privilege {
            _ if !is_fast => self.image.exit,
            Privilege::User => self.image.vector_user,
            Privilege::Supervisor => self.image.vector,
        };
        self.cpu = Cpu::new();
        self.cpu.csrs = Csrs {
            sstatus: sstatus::SPIE | frame.csr.unit_states(),
            senvcfg: frame.fast.senvcfg(frame.privilege),
            satp: root,
            ..Csrs::default()
        };
        self.cpu.pc = self.image.switch;
        self.cpu.x[1] = RETURN;
        self.cpu.x[2] = self.stack.as_ptr_range().end.addr() as u64;
        (self.cpu.x[10], self.cpu.x[11]) = (at, vector);
        let stop = self.cpu.run(self.image, &mut self.memory, &mut self.counts);
        self.memory.take_changes(&mut self.changes);
        let is_own = |change: &Change| change.address == at + layout::HOST_SP as u64;
        let registers = (1..32_u32).all(|number| self.cpu.x[number as usize] == frame.get(Reg::new(number)));
        if stop == Stop::Guest(frame.pc) && registers && self.changes.iter().all(is_own) {
            return Ok(());
        }
        Err(format!("the way into the guest: {stop:x?}, {:x?}, {:x?}", self.cpu, self.changes))
    }

    /// Executes the assembly from where the trap has led.
    fn execute(&mut self) -> Stop {
        let stop = self.cpu.run(self.image, &mut self.memory, &mut self.counts);
        self.memory.take_changes(&mut self.changes);
        stop
    }

    /// The assembly has left an exit to Rust: it has changed nothing, *bail-first*.
    fn left(&mut self, trap: Trap, before: &Seen) -> Result<(), String> {
        self.outcomes.left += 1;
        let told = (self.cpu.x[10], self.cpu.x[11]);
        if told != (trap.cause, trap.value) {
            return Err(format!("{trap:x?} is told as {told:x?}"));
        }
        self.check_unchanged(trap, core::ptr::from_ref(&self.guest.vcpu.frame))?;
        self.guest.vcpu.frame.csr.take_unit_states(self.cpu.csrs.sstatus);
        let after = Seen::of(&self.guest, self.cpu.csrs.satp);
        if after != *before {
            return Err(format!("{trap:x?} was left to Rust, but\n{before:x?}\nbecame\n{after:x?}"));
        }
        if trap.is_served {
            // What ends the machine is nothing to go on from.
            let _ = self.guest.serve(trap.cause, trap.value);
        }
        Ok(())
    }

    /// Whether all that was stored to is what it was, but for what nobody reads.
    fn check_unchanged(&self, trap: Trap, frame: *const VcpuFrame) -> Result<(), String> {
        let frame = frame.addr() as u64;
        for (nth, change) in self.changes.iter().enumerate() {
            let is_first = !self.changes[..nth].iter().any(|other| other.address == change.address);
            if is_first && now(change) != change.old && change.address != frame + layout::X as u64 {
                return Err(format!("{trap:x?} was left to Rust, but {change:x?} is now {:#x}", now(change)));
            }
        }
        Ok(())
    }

    /// The assembly has served an exit: the guest runs. It is interrupted at once.
    fn served(&mut self, trap: Trap, before: &Seen) -> Result<(), String> {
        let ran = self.cpu.clone();
        let mut written = core::mem::take(&mut self.changes);
        self.cpu.trap(Interrupt::Timer.cause(), 0, false);
        let stop = self.execute();
        written.append(&mut self.changes);
        self.changes = written;
        if stop != Stop::Returned {
            return Err(format!("{trap:x?} was served, and then an interrupt: {stop:x?}"));
        }
        let units = self.guest.vcpu.frame.csr.unit_states();
        self.guest.vcpu.frame.csr.take_unit_states(self.cpu.csrs.sstatus);
        let fast = Seen::of(&self.guest, ran.csrs.satp);
        let complaint = |what: &str| Err(format!("{trap:x?} from\n{before:x?}: {what}\n{ran:x?}\n{fast:x?}"));
        let frame = &self.guest.vcpu.frame;
        let vector = match frame.privilege {
            Privilege::User => self.image.vector_user,
            Privilege::Supervisor => self.image.vector,
        };
        if ran.csrs.stvec != vector {
            return complaint("another mode's vector");
        }
        if ran.csrs.senvcfg != frame.fast.senvcfg(frame.privilege) {
            return complaint("another mode's senvcfg");
        }
        if ran.csrs.sstatus & (sstatus::SPP | sstatus::SUM | sstatus::MXR) != 0 {
            return complaint("a wrong sstatus");
        }
        if fast.satp != before.satp && frame.fast.flushes_on_switch() && !ran.has_fenced {
            return complaint("another root, and no fence");
        }
        if let Some(change) = self.changes.iter().find(|change| !self.may_change(change)) {
            return complaint(&format!("stores to {change:x?}"));
        }
        if let Err(what) = self.check_counts(trap) {
            return complaint(&what);
        }
        let leaf =
            self.changes.iter().find(|change| change.what == What::Shadow).map(|change| change.address);
        if let Some(Err(what)) = leaf.map(|leaf| self.check_fill(trap, leaf)) {
            return complaint(&what);
        }
        if leaf.is_some() && leaf != self.guest.last_entry(before.satp, trap.value) {
            return if fast == *before { self.again(trap, before) } else { complaint("fills, and more") };
        }
        if self.random.chance(70) {
            self.guest.vcpu.frame.csr.take_unit_states(units);
            self.compare(trap, before, &fast)
        } else {
            self.go_on(trap, before, &fast)
        }
    }

    /// The assembly has filled in a page of the shared half where the guest does not run under that, but with an upper half of
    /// its own, or without translation. So the guest traps again, and now finds the page filled in: that is left to Rust.
    fn again(&mut self, trap: Trap, before: &Seen) -> Result<(), String> {
        self.outcomes.again += 1;
        if before.privilege != Privilege::Supervisor || (trap.value as i64) >= 0 {
            return Err(format!("{trap:x?} from\n{before:x?} fills in a page elsewhere"));
        }
        let frame = core::ptr::from_mut(&mut self.guest.vcpu.frame);
        self.enter(frame, before.satp, true)?;
        self.cpu.trap(trap.cause, trap.value, false);
        match self.execute() {
            Stop::Returned => self.left(trap, before),
            other => Err(format!("{trap:x?} comes again: {other:x?}")),
        }
    }

    /// The assembly counts what it serves.
    fn check_counts(&self, trap: Trap) -> Result<(), String> {
        let frame = core::ptr::from_ref(&self.guest.vcpu.frame).addr() as u64;
        for (name, field, wanted) in [
            ("exits", layout::FAST_EXITS, Some(1)),
            ("fences", layout::FAST_FENCES, Some(u64::from(trap.is_fence()))),
            ("flushes", layout::SWITCH_FLUSHES, None),
        ] {
            let mut changes = self.changes.iter().filter(|change| change.address == frame + field as u64);
            let counted = changes.next().map_or(0, |change| now(change).wrapping_sub(change.old));
            if counted > 1 || changes.next().is_some() || wanted.is_some_and(|wanted| wanted != counted) {
                return Err(format!("{counted} {name} counted"));
            }
        }
        Ok(())
    }

    /// The assembly has written this entry of a shadow table: what has to be noted of it is noted.
    fn check_fill(&self, trap: Trap, leaf: u64) -> Result<(), String> {
        let tables = self.lent.tables.as_ptr().addr() as u64;
        let half = size_of_val(self.lent.tables) as u64 / 2;
        let word = |what, address| now(&Change { what, address, bytes: 8, old: 0 });
        let (number, slot) = ((leaf - tables) / memory::PAGE_SIZE, (leaf % memory::PAGE_SIZE) / 8);
        let slots = self.slots.ok_or("no hint was known")? + number * size_of::<Slots>() as u64;
        let (entry, seen) = (Pte(word(What::Shadow, leaf)), word(What::Shadow, leaf + half));
        if Some(seen) != self.guest.word(trap.value) {
            return Err(format!("what the leaf was made of is noted as {seen:#x}"));
        }
        let used = word(What::Slots, slots + offset_of!(Slots, used) as u64 + slot / 64 * 8);
        if used >> (slot % 64) & 1 == 0 {
            return Err("the slot is not noted as used".into());
        }
        let blocks = word(What::Slots, slots + offset_of!(Slots, blocks) as u64);
        let frame = core::ptr::from_ref(&self.guest.vcpu.frame).addr() as u64;
        let is_flag = |change: &Change| change.address == frame + layout::FILLED_WRITABLE as u64;
        if self.changes.iter().any(|change| is_flag(change) && now(change) == 0) {
            return Err("that some leaf can be written is forgotten".into());
        }
        // *plain-block*: else there may be what was in the memory before, or code of ours.
        if !self.guest.is_plain(entry.address()) {
            return Err("the block is not plain".into());
        }
        let is_told = self.changes.iter().any(is_flag);
        let is_noted = blocks >> (entry.address() / memory::BLOCK_SIZE % 64) & 1 != 0;
        if entry.has(Pte::W) && !(is_told && is_noted) {
            return Err("that the leaf can be written is not noted".into());
        }
        Ok(())
    }

    /// Whether the assembly may write there when it serves an exit.
    fn may_change(&self, change: &Change) -> bool {
        const ROOTS: usize = layout::ROOT_USER;
        let frame = core::ptr::from_ref(&self.guest.vcpu.frame).addr() as u64;
        match change.what {
            What::Shadow | What::Slots => true,
            What::Frame => {
                let offset = (change.address - frame) as usize;
                let in_csrs = (layout::CSR..layout::CSR + size_of::<CsrFile>()).contains(&offset);
                let in_roots = (ROOTS..ROOTS + size_of::<Roots>()).contains(&offset);
                let in_registers = (layout::X..layout::X + 32 * 8).contains(&offset);
                let others = [
                    layout::PC,
                    layout::PRIVILEGE,
                    layout::FAST_EXITS,
                    layout::FAST_FENCES,
                    layout::SWITCH_FLUSHES,
                    layout::FILLED_WRITABLE,
                ];
                in_csrs || in_roots || in_registers || others.contains(&offset)
            }
            _ => false,
        }
    }

    /// What the assembly has done is taken back, and Rust serves the same exit.
    fn compare(&mut self, trap: Trap, before: &Seen, fast: &Seen) -> Result<(), String> {
        self.outcomes.compared += 1;
        let written: Vec<_> = self.changes.iter().map(|change| (*change, now(change))).collect();
        self.memory.take_back(&self.changes);
        let back = Seen::of(&self.guest, before.satp);
        assert_eq!(back, *before, "what was taken back");
        // Where the space changes, the address means another entry.
        let entry = |guest: &Guest| if trap.is_page_fault() { guest.word(trap.value) } else { None };
        let word = entry(&self.guest);
        let complaint = |what: &str| Err(format!("{trap:x?} from\n{before:x?}: {what}\n{fast:x?}"));
        if let Err(reason) = self.guest.serve(trap.cause, trap.value) {
            return complaint(&format!("Rust stops: {reason}; the assembly made"));
        }
        let root = self.guest.prepare().root.bits();
        let slow = Seen::of(&self.guest, root);
        if !is_same(fast, &slow) {
            return complaint(&format!("Rust makes\n{slow:x?}\nand the assembly"));
        }
        if entry(&self.guest) != word {
            return complaint("Rust changes the guest's entry, and the assembly not");
        }
        for (change, value) in written {
            let is_wrong = match change.what {
                What::Shadow => now(&change) != value,
                What::Slots => value & !now(&change) != 0,
                _ => false,
            };
            if is_wrong {
                let own = now(&change);
                return complaint(&format!("{change:x?}: {value:#x} by the assembly, {own:#x} by Rust"));
            }
        }
        Ok(())
    }

    /// The guest goes on from what the assembly has made, which is what Rust would go on with.
    fn go_on(&mut self, trap: Trap, before: &Seen, fast: &Seen) -> Result<(), String> {
        self.outcomes.kept += 1;
        let root = self.guest.prepare().root.bits();
        let slow = Seen::of(&self.guest, root);
        if is_same(fast, &slow) {
            return Ok(());
        }
        Err(format!("{trap:x?} from\n{before:x?}\nwas served as\n{fast:x?}\nof which Rust makes\n{slow:x?}"))
    }

    /// The hypervisor itself traps at some instruction of the assembly: no guest is told, *own-fault*.
    fn own_fault(&mut self, trap: Trap) -> Result<(), String> {
        self.outcomes.own_faults += 1;
        let cause = self.random.pick(&[5, 7, 12, 13, 15]);
        self.cpu.own_fault = Some((self.random.below(30) as u32, cause));
        self.cpu.trap(trap.cause, trap.value, false);
        let stop = self.execute();
        let is_raised = self.cpu.own_fault.is_none();
        self.memory.take_back(&self.changes);
        if is_raised && stop != Stop::OwnFault {
            return Err(format!("{trap:x?}, and a fault of our own with cause {cause}: {stop:x?}"));
        }
        Ok(())
    }

    /// A vCPU that has no tables yet leaves all faults to Rust.
    fn case_without_tables(&mut self) -> Result<(), String> {
        self.outcomes.left += 1;
        let mut frame = Box::new(VcpuFrame::new(*self.guest.vcpu.frame.csr.features()));
        frame.pc = self.random.word() & !1;
        frame.privilege = self.random.pick(&[Privilege::User, Privilege::Supervisor]);
        let satp = Satp { ppn: self.random.below(1000), ..Satp::BARE }.bits();
        self.enter(core::ptr::from_mut(&mut frame), satp, true)?;
        let cause = self.random.pick(&[8, 12, 13, 15]);
        let trap = Trap { cause, value: Guest::address(&mut self.random), is_served: false, site: None };
        self.cpu.trap(trap.cause, trap.value, false);
        match self.execute() {
            Stop::Returned => self.check_unchanged(trap, &raw const *frame),
            other => Err(format!("a vCPU without tables: {other:x?}")),
        }
    }

    /// Says where the assembly may reach.
    fn add_ranges(&mut self, frame: *mut VcpuFrame) {
        let at = frame.expose_provenance() as u64;
        let memory = &mut self.memory;
        memory.clear();
        let read =
            |offset: usize| now(&Change { what: What::Frame, address: at + offset as u64, bytes: 8, old: 0 });
        let hints = read(layout::HINTS);
        // SAFETY: all of it belongs to the guest, whose memory is there while it is; nothing of it is used while the assembly
        // is executed. Atomic words are changed by nobody else.
        unsafe {
            memory.add(What::Frame, at, FRAME);
            let stack = self.stack.as_mut_ptr().expose_provenance() as u64;
            memory.add(What::Stack, stack, size_of_val(&*self.stack));
            memory.add(What::Sites, read(layout::SITES), vhart::site::SITES << layout::SITE_SHIFT);
            self.image.add_to(memory);
            if hints != 0 {
                memory.add(What::Hints, hints, vhart::hint::HINTS << layout::HINT_SHIFT);
                let ram = &self.guest.machine.ram;
                memory.add(What::RamState, read(layout::MEMORY_BLOCKS), size_of_val(ram.blocks()));
                memory.add(What::RamState, read(layout::MEMORY_UNWATCHED), 8);
            }
            let ram = self.lent.ram.as_ptr().expose_provenance() as u64;
            memory.add(What::Ram, ram, size_of_val(self.lent.ram));
            let tables = self.lent.tables.as_ptr().expose_provenance() as u64;
            memory.add(What::Shadow, tables, size_of_val(self.lent.tables));
        }
        self.add_slots(hints);
    }

    /// Where the bits of the slots in use are, the hints alone tell.
    fn add_slots(&mut self, hints: u64) {
        if self.slots.is_none() && hints != 0 {
            let word = |nth: usize, field: usize| {
                let address = hints + (nth << layout::HINT_SHIFT) as u64 + field as u64;
                now(&Change { what: What::Hints, address, bytes: 8, old: 0 })
            };
            let tables = self.lent.tables.as_ptr().addr() as u64;
            let found = (0..vhart::hint::HINTS).find(|nth| word(*nth, layout::HINT_USED) != 0);
            self.slots = found.map(|nth| {
                let number = (word(nth, layout::HINT_SHADOW) - tables) / memory::PAGE_SIZE;
                let own = number * size_of::<Slots>() as u64 + offset_of!(Slots, used) as u64;
                word(nth, layout::HINT_USED) - own
            });
        }
        if let Some(slots) = self.slots {
            let bytes = self.lent.tables.len() / 2 * size_of::<Slots>();
            // SAFETY: as in `add_ranges`.
            unsafe { self.memory.add(What::Slots, slots, bytes) };
        }
    }
}

/// Whether the guest and the next exit find the same. Rust may have more roots at hand.
fn is_same(fast: &Seen, slow: &Seen) -> bool {
    fast == slow
}

fn new_guest(handlers: Handlers, lent: Lent, random: &mut Random) -> Guest {
    let kind = Kind::random(random);
    Guest::new(kind, lent, handlers, random)
}
