//! Page tables that change all the time, and accesses through them.

use crate::places;
use crate::raw::{self, Form};
use crate::tape::value;
use features::arena::{DATA, poke};
use features::exec;
use features::random::Random;
use guest_rt::isa::Interrupt;
use guest_rt::isa::csr::sstatus;
use guest_rt::mmio::PLIC;
use guest_rt::paging::{self, Mode, PAGE, Pte, RW, RWX, Tables};
use guest_rt::trap::Frame;
use guest_rt::{csr_clear, csr_set, csr_write, sbi, time, user};

/// Address spaces.
const SPACES: usize = 3;
/// The entries of 1 GiB that are changed: so many from `DATA` on.
const ENTRIES: u64 = 4;

/// The address spaces. Each maps the core, by entries that nothing else writes.
pub struct Spaces {
    spaces: [Tables; SPACES],
    current: usize,
}

impl Spaces {
    /// New ones, none of them active.
    pub fn new(tape: &mut Random) -> Self {
        let modes = [Mode::Sv39, Mode::Sv48];
        let spaces = core::array::from_fn(|_| {
            let mode = tape.pick(&modes);
            let tables = Tables::with_kernel(if paging::supports(mode) { mode } else { Mode::Sv39 });
            // The tables above what is changed belong to the core.
            tables.set(DATA, 2, Pte::new(places::table(0), Pte::V));
            tables
        });
        Self { spaces, current: 0 }
    }

    /// Goes to an address space, or to none, with a fence or without.
    pub fn switch(&mut self, tape: &mut Random) {
        self.current = tape.below(SPACES as u64) as usize;
        if tape.one_in(8) {
            csr_write!(SATP, 0);
        } else {
            csr_write!(SATP, self.spaces[self.current].satp(tape.pick(&[0, 1, 2, 0xffff])));
        }
        fence(tape);
    }

    /// Writes an entry of some level.
    pub fn change(&self, tape: &mut Random) {
        if tape.one_in(4) {
            let tables = self.spaces[tape.below(SPACES as u64) as usize];
            tables.set(DATA + (tape.below(ENTRIES) << 30), 2, self.entry(tape));
        } else {
            let index = if tape.one_in(8) { tape.below(512) } else { tape.below(4) };
            poke(places::table(tape.number()) + 8 * index, self.entry(tape).0);
        }
        if tape.one_in(2) {
            fence(tape);
        }
    }

    /// A page of code and of data at once: what is stored there ends copies of it.
    pub fn write_to_code(&self, tape: &mut Random) {
        let tables = self.spaces[self.current];
        let page = DATA + (ENTRIES << 30);
        tables.set(page, 2, Pte::new(places::table(1), Pte::V));
        poke(places::table(1), Pte::new(places::table(2), Pte::V).0);
        poke(places::table(2), Pte::new(places::code(), RW).0);
        fence(tape);
        raw::store(Form::any(tape), page + PAGE / 2 + tape.below(PAGE / 2 - 8), tape.number());
    }

    /// Loads or stores at an address that may be mapped. Stores keep to the second half of a page: a table of the core may
    /// lie there, and what maps the core is in its first half.
    pub fn touch(&self, tape: &mut Random) -> u64 {
        csr_write!(SSTATUS, tape.number() & (sstatus::SUM | sstatus::MXR) | sstatus::FS_INITIAL);
        let (address, form) = (address(tape), Form::any(tape));
        let offset = PAGE / 2 + tape.below(PAGE / 2 - 8);
        if tape.one_in(2) {
            raw::load(form, address + tape.below(PAGE))
        } else {
            raw::store(form, address + offset, value(tape));
            0
        }
    }

    /// Random words in user mode, with registers that lead to where something may be mapped.
    pub fn run_user(&self, tape: &mut Random) {
        let words: [u32; 16] = core::array::from_fn(|_| user_word(tape));
        exec::write(places::user_code() + 4 * tape.below(1000), &words);
        let mut frame =
            Frame { pc: address(tape), sstatus: sstatus::FS_INITIAL | sstatus::VS_INITIAL, ..Frame::ZERO };
        if !tape.one_in(4) {
            let tables = self.spaces[self.current];
            tables.set(DATA, 2, Pte::new(places::table(0), Pte::V));
            poke(places::table(0), Pte::new(places::table(3), Pte::V).0);
            poke(places::table(3), Pte::new(places::user_code(), RWX | Pte::U).0);
            fence(tape);
            frame.pc = DATA + 4 * tape.below(1000);
        }
        for register in &mut frame.x {
            *register = if tape.one_in(2) { address(tape) } else { value(tape) };
        }
        // What does not trap ends by the timer.
        csr_write!(SIE, Interrupt::Timer.mask());
        sbi::set_timer(time::now() + time::FREQUENCY / 20_000);
        user::run(&mut frame);
        csr_write!(SIE, 0);
        sbi::set_timer(u64::MAX);
    }

    /// An entry that leads anywhere but to a page of the core that could be written.
    fn entry(&self, tape: &mut Random) -> Pte {
        let to = match tape.below(12) {
            0..=3 => places::table(tape.number()),
            4 | 5 => places::page(tape),
            // A large page's.
            6 => places::page(tape) & !((2 << 20) - 1),
            7 => self.spaces[tape.below(SPACES as u64) as usize].root(),
            8 => PLIC,
            9 => places::user_code(),
            _ => places::outside(tape),
        };
        let flags = match tape.below(8) {
            0..=2 => Pte::V,
            3 => RWX,
            4 => RWX | Pte::U,
            5 => RWX & tape.number() | Pte::V,
            6 => tape.number() & 0x3ff | Pte::V,
            _ => tape.number() & 0xffc0_0000_0000_03ff,
        };
        let entry = Pte::new(to, 0).0 | flags;
        let is_core = places::is_core(Pte(entry).address()) || places::is_core(to);
        Pte(if is_core { entry & !(Pte::W | Pte::U) } else { entry })
    }
}

/// An address at which something may be mapped.
fn address(tape: &mut Random) -> u64 {
    let small = |tape: &mut Random| if tape.one_in(8) { tape.below(512) } else { tape.below(4) };
    let upper = if tape.one_in(16) { 0xffff_ffc0_0000_0000 } else { 0 };
    upper | (DATA + (tape.below(ENTRIES) << 30) + (small(tape) << 21) + (small(tape) << 12))
}

/// A fence of some kind, or none.
pub fn fence(tape: &mut Random) {
    match tape.below(6) {
        0 => {}
        1 => paging::fence_address(address(tape)),
        2 => paging::fence_asid(value(tape)),
        3 => paging::fence_address_asid(address(tape), value(tape)),
        _ => paging::fence_all(),
    }
}

/// Loads and stores more often than random words have them, of all widths and through all registers.
fn user_word(tape: &mut Random) -> u32 {
    let random = tape.number() as u32;
    let opcode = tape.pick(&[0x03, 0x07, 0x23, 0x27, 0x2f, 0x73, 0x57]);
    if tape.one_in(2) { random & !0x7f | opcode } else { random }
}

/// Leaves everything behind as this program wants it.
pub fn settle() {
    csr_clear!(SSTATUS, sstatus::SIE | sstatus::SUM | sstatus::MXR);
    csr_write!(SIE, 0);
    csr_set!(SSTATUS, sstatus::FS_INITIAL | sstatus::VS_INITIAL);
}
