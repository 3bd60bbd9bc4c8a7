//! The pages, where they are mapped, and what is done to both between two runs.

use crate::code::{self, ADDRESSES, MXR, SLOTS, SPACES, SPP, SUM, Style, WHOLE, WORDS, ZONE};
use crate::sandbox::{self, State};
use core::arch::asm;
use features::arena::peek;
use features::exec::fence_i;
use features::random::Random;
use guest_rt::isa::Interrupt;
use guest_rt::isa::csr::sstatus;
use guest_rt::paging::{self, Mode, PAGE, Pte, RW, RWX, Tables};
use guest_rt::trap::catch;
use guest_rt::{csr_clear, csr_read, csr_set, csr_write, println, sbi, time};

/// Where the code lies: two pages in a row, some more of the same 2 MiB, and two that are 16 MiB away from the first two.
const BLOCK: u64 = 0x8300_0000;
const PAGES: [u64; 8] = [
    BLOCK,
    BLOCK + PAGE,
    BLOCK + 2 * PAGE,
    BLOCK + 5 * PAGE,
    BLOCK + 0x3_7000,
    BLOCK + 0x1f_f000,
    BLOCK + (16 << 20),
    BLOCK + (16 << 20) + PAGE,
];

/// Where they are mapped by pages, in turns: by leaves for the kernel, for user mode, and to be written only.
const VIEWS: [u64; 3] = [0x10_0000_0000, 0x10_4000_0000, 0x10_8020_0000];
const KERNEL: usize = 0;
const USER: usize = 1;
/// Where the block is mapped whole, or in pieces, for the kernel and for user mode.
const BLOCKS: [u64; 2] = [0x11_0000_0000, 0x11_4000_0000];
/// How long a run may take, on a machine that may stand still now and then. None has been seen to take longer.
const WATCHDOG: u64 = 60 * time::FREQUENCY;

struct Space {
    tables: Tables,
    asid: u16,
}

pub struct Harness {
    spaces: [Space; 2],
}

/// What a seed is about.
struct Run<'a> {
    harness: &'a mut Harness,
    random: Random,
    style: Style,
    /// 0, or 2 where instructions lie at odd multiples of two.
    phase: u64,
    sum: u64,
    /// What the last run was begun with.
    last: State,
    traced: bool,
}

impl Harness {
    pub fn new() -> Self {
        let space = |asid| Space { tables: Tables::with_kernel(Mode::Sv39), asid };
        Self { spaces: [space(1), space(2)] }
    }

    /// Runs a seed and gives what it comes to. `tell` gets each step, what it was and the sum so far.
    pub fn run(
        &mut self,
        seed: u64,
        steps: u64,
        traced: bool,
        mut tell: impl FnMut(u64, core::fmt::Arguments, u64),
    ) -> u64 {
        let mut random = Random::new(seed);
        let style = Style {
            privileged: random.pick(&[2, 4, 30]),
            has_wfi: random.one_in(2),
            has_traps: random.one_in(2),
        };
        let phase = 2 * random.below(2);
        let mut run = Run { harness: self, random, style, phase, sum: seed, last: State::ZERO, traced };
        run.begin();
        for step in 0..steps {
            run.step(step, &mut tell);
        }
        run.sum
    }
}

impl Run<'_> {
    fn begin(&mut self) {
        csr_write!(SATP, 0);
        paging::fence_all();
        csr_clear!(SIE, u64::MAX);
        if self.style.has_wfi {
            csr_set!(SIE, Interrupt::Software.mask());
            csr_set!(SIP, Interrupt::Software.mask());
        } else {
            csr_clear!(SIP, Interrupt::Software.mask());
            csr_set!(SIE, Interrupt::Timer.mask());
        }
        for page in 0..PAGES.len() {
            self.fill(page);
        }
        for space in 0..2 {
            for view in [KERNEL, USER] {
                for place in 0..PAGES.len() {
                    self.map(space, view, place);
                }
                self.map_block(space, view);
            }
            for (place, page) in PAGES.iter().enumerate() {
                self.tables(space).map(VIEWS[2] + place as u64 * PAGE, *page, 0, RW);
            }
        }
        paging::fence_all();
        fence_i();
    }

    fn tables(&self, space: usize) -> Tables {
        self.harness.spaces[space].tables
    }

    fn satp(&self, space: usize) -> u64 {
        let space = &self.harness.spaces[space];
        space.tables.satp(space.asid)
    }

    /// Maps some page at a place, with some rights.
    fn map(&mut self, space: usize, view: usize, place: usize) {
        let page = self.random.below(PAGES.len() as u64) as usize;
        let user = if view == USER { Pte::U } else { 0 };
        let rights =
            [RWX, RWX, RWX & !Pte::W, RWX & !(Pte::W | Pte::R), RWX & !Pte::D, RWX & !(Pte::A | Pte::D)];
        let flags = self.random.pick(&rights) | user;
        self.tables(space).map(VIEWS[view] + place as u64 * PAGE, PAGES[page], 0, flags);
    }

    /// Maps the block whole or in pieces.
    fn map_block(&mut self, space: usize, view: usize) {
        let flags = RWX | if view == USER { Pte::U } else { 0 };
        let tables = self.tables(space);
        let is_whole = self.random.one_in(2);
        let place = tables.slot(BLOCKS[view], 1);
        if is_whole {
            // SAFETY: a slot of a table of the pool.
            unsafe { place.write_volatile(Pte::new(BLOCK, flags).0) };
        } else {
            let table = lazy_table(space, view);
            for n in 0..512 {
                // SAFETY: a table of the pool.
                unsafe {
                    (table as *mut u64).add(n).write_volatile(Pte::new(BLOCK + n as u64 * PAGE, flags).0)
                };
            }
            // SAFETY: as above.
            unsafe { place.write_volatile(Pte::new(table, Pte::V).0) };
        }
    }

    fn write_slot(&mut self, page: usize, slot: u64, word: u32) {
        let at = PAGES[page] + slot * 4 + self.phase;
        store16(at, word as u16);
        // The second half of the last one is the next page's.
        if self.phase == 0 || slot < SLOTS - 1 {
            store16(at + 2, (word >> 16) as u16);
        }
    }

    /// An instruction that may stand alone in a slot.
    fn single(&mut self, slot: u64) -> u32 {
        if slot == SLOTS - 1 {
            return code::torn(&mut self.random, self.style);
        }
        code::single(&mut self.random, self.style, (ZONE - slot % ZONE).saturating_sub(1))
    }

    /// Fills a page anew.
    fn fill(&mut self, page: usize) {
        // The second half of what the page before begins.
        let torn = code::torn(&mut self.random, self.style);
        store16(PAGES[page], (torn >> 16) as u16);
        for zone in (0..SLOTS).step_by(ZONE as usize) {
            let mut slot = zone;
            while slot < zone + WHOLE {
                let sequence = code::sequence(&mut self.random, self.style, self.phase != 0);
                let words = sequence.words();
                if slot + words.len() as u64 > zone + WHOLE {
                    let word = code::single(&mut self.random, self.style, 0);
                    self.write_slot(page, slot, word);
                    slot += 1;
                    continue;
                }
                for word in words {
                    self.write_slot(page, slot, *word);
                    slot += 1;
                }
            }
            while slot < zone + ZONE {
                let word = self.single(slot);
                self.write_slot(page, slot, word);
                slot += 1;
            }
        }
    }

    /// A slot that may be overwritten, with those behind it in reach of an offset.
    fn target(&mut self) -> u64 {
        let zone = self.random.below(SLOTS / ZONE) * ZONE;
        zone + WHOLE + self.random.below(ZONE - WHOLE - 18)
    }

    fn entry(&mut self) -> u64 {
        let zone = self.random.below(SLOTS / ZONE) * ZONE;
        let slot = if self.random.one_in(3) { zone } else { zone + WHOLE + self.random.below(ZONE - WHOLE) };
        slot * 4 + self.phase
    }

    /// The start of some mapping of some page, for a mode.
    fn mapping(&mut self, is_user: bool) -> u64 {
        let view = if is_user { USER } else { KERNEL };
        let place = self.random.below(PAGES.len() as u64);
        match self.random.below(8) {
            0..=3 => VIEWS[view] + place * PAGE,
            4 | 5 => BLOCKS[view] + (PAGES[self.random.below(6) as usize] - BLOCK),
            6 if !is_user => PAGES[place as usize],
            _ if !is_user => VIEWS[2] + place * PAGE,
            _ => VIEWS[view] + place * PAGE,
        }
    }

    fn step(&mut self, step: u64, tell: &mut impl FnMut(u64, core::fmt::Arguments, u64)) {
        let action = self.random.below(16);
        match action {
            0..=2 => self.overwrite(),
            3 => {
                let page = self.random.below(PAGES.len() as u64) as usize;
                self.fill(page);
                fence_i();
            }
            4 | 5 => self.remap(),
            6 => self.remap_block(),
            7 => self.read(),
            _ => {}
        }
        if action >= 4 {
            let times = if self.random.one_in(6) { 40 } else { self.random.below(3) + 1 };
            self.choose();
            for _ in 0..times {
                let start = self.last;
                let end = self.execute();
                if self.traced {
                    self.tell_pages();
                }
                tell(
                    step,
                    format_args!(
                        "{:#x} status {:#x} satp {:#x} ends at {:#x} cause {:#x} tval {:#x} status {:#x} x {:x?}",
                        start.pc, start.sstatus, start.satp, end.pc, end.cause, end.tval, end.sstatus, end.x
                    ),
                    self.sum,
                );
            }
        } else {
            tell(step, format_args!("action {action}"), self.sum);
        }
    }

    /// Prints a sum of each page.
    fn tell_pages(&self) {
        let sums = PAGES.map(|page| (page..page + PAGE).step_by(8).map(peek).fold(0, added));
        println!("pages {sums:x?}");
    }

    /// Chooses where a run begins and with what.
    fn choose(&mut self) {
        let is_user = self.random.one_in(4);
        let is_bare = self.random.one_in(8);
        let mut state = State::ZERO;
        state.pc = match is_bare {
            true => PAGES[self.random.below(PAGES.len() as u64) as usize],
            false => loop {
                let start = self.mapping(is_user);
                if start & !0xf_ffff != VIEWS[2] & !0xf_ffff {
                    break start;
                }
            },
        } + self.entry();
        let space = self.random.below(2) as usize;
        state.satp = if is_bare { 0 } else { self.satp(space) };
        let mode = if is_user { 0 } else { sstatus::SPP };
        let enabled = if self.style.has_wfi { 0 } else { sstatus::SPIE };
        let rights = [0, 0, sstatus::SUM, sstatus::MXR, sstatus::SUM | sstatus::MXR];
        state.sstatus = csr_read!(SSTATUS)
            & !(sstatus::SPP | sstatus::SPIE | sstatus::SIE | sstatus::SUM | sstatus::MXR)
            | mode
            | enabled
            | self.random.pick(&rights);
        for register in 1..32 {
            state.x[register] = self.random.number() >> 32;
        }
        for register in ADDRESSES {
            let start = if is_bare {
                PAGES[self.random.below(PAGES.len() as u64) as usize]
            } else {
                let of_user = is_user || self.random.one_in(4);
                self.mapping(of_user)
            };
            state.x[register as usize] = start + self.target() * 4 + self.phase;
        }
        for register in WORDS {
            let [low, high] = [0; 2].map(|_| u64::from(code::single(&mut self.random, self.style, 0)));
            state.x[register as usize] = high << 32 | low;
        }
        for (register, space) in SPACES.iter().zip(0..2) {
            state.x[*register as usize] = self.satp(space);
        }
        for (register, bit) in [(SPP, sstatus::SPP), (SUM, sstatus::SUM), (MXR, sstatus::MXR)] {
            state.x[register as usize] = bit;
        }
        self.last = state;
    }

    /// Runs, and adds what that comes to.
    fn execute(&mut self) -> State {
        if !self.style.has_wfi {
            sbi::set_timer(time::now() + WATCHDOG);
        }
        let mut state = self.last;
        // The interrupt that ends each WFI would be taken in user mode.
        let is_taken = self.style.has_wfi && state.sstatus & sstatus::SPP == 0;
        let enabled = if is_taken { Interrupt::Software.mask() } else { 0 };
        csr_clear!(SIE, enabled);
        sandbox::run(&mut state);
        csr_set!(SIE, enabled);
        if state.cause == Interrupt::Timer.cause() {
            // What was reached depends on time: all anew, and the sum is another one.
            println!("the watchdog has ended a run");
            self.add(state.cause);
            (0..PAGES.len()).for_each(|page| self.fill(page));
            fence_i();
            return State { cause: state.cause, ..State::ZERO };
        }
        let State { x, pc, sstatus, satp, cause, mut tval } = state;
        // QEMU names the aligned word that a misaligned access to nowhere has a piece of.
        if matches!(cause, 5 | 7) {
            tval &= !7;
        }
        for value in x.into_iter().skip(1).chain([pc, sstatus, satp, cause, tval]) {
            self.add(value);
        }
        state
    }

    fn add(&mut self, value: u64) {
        self.sum = added(self.sum, value);
    }

    /// Overwrites some instructions, by some mapping.
    fn overwrite(&mut self) {
        let is_bare = self.random.one_in(4);
        let space = self.random.below(2) as usize;
        if !is_bare {
            csr_write!(SATP, self.satp(space));
            paging::fence_all();
            csr_set!(SSTATUS, sstatus::SUM);
        }
        for _ in 0..=self.random.below(6) {
            let page = self.random.below(PAGES.len() as u64) as usize;
            let slot = self.target();
            let start = if is_bare {
                PAGES[page]
            } else {
                let is_user = self.random.one_in(3);
                self.mapping(is_user)
            };
            let word = u64::from(self.single(slot));
            let next = u64::from(self.single(slot + 1));
            let at = start + slot * 4 + self.phase;
            let way = self.random.below(8);
            // Where the mapping allows it.
            let refused = catch(|| store(way, at, next << 32 | word));
            self.add(refused.map_or(0, |trap| trap.cause ^ trap.tval));
            if self.traced {
                println!("store {way} {at:#x}: {next:x} {word:x} {refused:x?}");
            }
        }
        fence_i();
        csr_clear!(SSTATUS, sstatus::SUM);
        csr_write!(SATP, 0);
        paging::fence_all();
    }

    /// Maps a place anew, and fences it in some way that suffices.
    fn remap(&mut self) {
        let space = self.random.below(2) as usize;
        let view = self.random.below(2) as usize;
        let place = self.random.below(PAGES.len() as u64) as usize;
        self.map(space, view, place);
        let (at, asid) = (VIEWS[view] + place as u64 * PAGE, u64::from(self.harness.spaces[space].asid));
        match self.random.below(4) {
            0 => paging::fence_all(),
            1 => paging::fence_address(at),
            2 => paging::fence_asid(asid),
            _ => paging::fence_address_asid(at, asid),
        }
    }

    fn remap_block(&mut self) {
        let space = self.random.below(2) as usize;
        let view = self.random.below(2) as usize;
        self.map_block(space, view);
        paging::fence_all();
    }

    /// Adds what loads find, of all widths and by all mappings.
    fn read(&mut self) {
        let space = self.random.below(2) as usize;
        csr_write!(SATP, self.satp(space));
        paging::fence_all();
        csr_set!(SSTATUS, sstatus::SUM | sstatus::MXR);
        for _ in 0..self.random.below(200) {
            let is_user = self.random.one_in(3);
            let start = self.mapping(is_user);
            let at = start + self.random.below(PAGE - 8);
            let way = self.random.below(5);
            let mut value = 0;
            let refused = catch(|| value = load(way, at));
            self.add(refused.map_or(value, |trap| trap.cause ^ trap.tval));
            if self.traced {
                println!("load {way} {at:#x}: {value:#x} {refused:x?}");
            }
        }
        csr_clear!(SSTATUS, sstatus::SUM | sstatus::MXR);
        csr_write!(SATP, 0);
        paging::fence_all();
    }
}

/// A sum with one value more, which tells their order.
fn added(sum: u64, value: u64) -> u64 {
    (sum ^ value).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(23)
}

/// The last table of a block in pieces.
fn lazy_table(space: usize, view: usize) -> u64 {
    static TABLES: [paging::LazyFrame; 4] = [const { paging::LazyFrame::new() }; 4];
    TABLES[2 * space + view].address()
}

fn store16(at: u64, half: u16) {
    // SAFETY: memory of this guest's that nothing else lies in.
    unsafe { (at as *mut u16).write_volatile(half) };
}

/// Stores four or eight bytes in some way.
fn store(way: u64, at: u64, value: u64) {
    // SAFETY: in the pages of code, or it traps.
    unsafe {
        match way {
            0 | 1 => asm!("sw {1}, 0({0})", in(reg) at, in(reg) value, options(nostack)),
            2 | 3 => asm!("sd {1}, 0({0})", in(reg) at, in(reg) value, options(nostack)),
            4 => asm!("sh {1}, 0({0})", "srli {2}, {1}, 16", "sh {2}, 2({0})",
                in(reg) at, in(reg) value, out(reg) _, options(nostack)),
            5 => asm!("sb {1}, 0({0})", "srli {2}, {1}, 8", "sb {2}, 1({0})", "srli {2}, {2}, 8",
                "sb {2}, 2({0})", "srli {2}, {2}, 8", "sb {2}, 3({0})",
                in(reg) at, in(reg) value, out(reg) _, options(nostack)),
            6 if at.is_multiple_of(4) => {
                asm!("amoswap.w {2}, {1}, ({0})", in(reg) at, in(reg) value, out(reg) _, options(nostack))
            }
            // A trap between the two may cost the reservation.
            7 if at.is_multiple_of(4) => {
                asm!("li {3}, 4", "2:", "li {2}, 0", "lr.w zero, ({0})", "sc.w {2}, {1}, ({0})",
                "addi {3}, {3}, -1", "beqz {3}, 3f", "bnez {2}, 2b", "3:",
                in(reg) at, in(reg) value, out(reg) _, out(reg) _, options(nostack))
            }
            _ => asm!("sw {1}, 0({0})", in(reg) at, in(reg) value, options(nostack)),
        }
    }
}

fn load(way: u64, at: u64) -> u64 {
    let mut value = 0;
    // SAFETY: in the pages of code, or it traps.
    unsafe {
        match way {
            0 => asm!("lbu {1}, 0({0})", in(reg) at, inout(reg) value, options(nostack)),
            1 => asm!("lh {1}, 0({0})", in(reg) at, inout(reg) value, options(nostack)),
            2 => asm!("lwu {1}, 0({0})", in(reg) at, inout(reg) value, options(nostack)),
            3 => asm!("lw {1}, 0({0})", in(reg) at, inout(reg) value, options(nostack)),
            _ => asm!("ld {1}, 0({0})", in(reg) at, inout(reg) value, options(nostack)),
        }
    }
    value
}
