//! Forty address spaces as a kernel's processes use them, at random and seldom far apart: entered, left, run in user mode,
//! reached into, given new pages, fenced by each kind of fence while another one runs; and a kernel in the upper half, which all
//! spaces share, that goes from one to another. Each must always see its own pages.
#![no_std]
#![no_main]

use features::arena::{self, DATA, USER, USER_RWX, frame_with, load, user_load, user_store};
use features::random::Random;
use features::{exec, fault, hot, modes, outcome};
use guest_rt::isa::Exception::StorePageFault;
use guest_rt::isa::csr::sstatus::{MXR, SUM};
use guest_rt::paging::{self, Mode, Pte, Tables};
use guest_rt::sbi;
use guest_rt::{check, csr_clear, csr_set, csr_write};

features::feature!(checks);

/// More than a hypervisor is likely to have at hand.
const PROCESSES: usize = 40;
/// Times that a process is entered.
const TURNS: usize = 6_000;

fn checks(_hart: u64, _device_tree: u64) {
    for mode in modes() {
        let mut system = System::new(mode);
        let wrong = (0..TURNS).filter(|_| !system.turn()).count();
        paging::deactivate();
        check!(format_args!("{mode:?}_each_process_sees_its_own_pages"), wrong, 0);
        switches_in_the_upper_half(mode);
    }
}

/// An address space with one page of data, and what its user mode must find there.
struct Process {
    tables: Tables,
    asid: u16,
    frames: [u64; 2],
    used: usize,
    value: u64,
}

impl Process {
    fn new(mode: Mode, code: u64, asid: u16) -> Self {
        let process = Self {
            tables: Tables::with_kernel(mode),
            asid,
            frames: [0; 2].map(frame_with),
            used: 0,
            value: 0,
        };
        process.tables.map(USER, code, 0, USER_RWX & !Pte::W);
        process.map(USER_RWX);
        process
    }

    fn map(&self, flags: u64) {
        self.tables.map(DATA, self.frames[self.used], 0, flags);
    }

    /// A fence of this process's page, from whichever space.
    fn fence(&self, random: &mut Random) {
        match random.below(4) {
            0 => paging::fence_all(),
            1 => paging::fence_address_asid(DATA, u64::from(self.asid)),
            _ => paging::fence_asid(u64::from(self.asid)),
        }
    }
}

struct System {
    processes: [Process; PROCESSES],
    /// Who is likely to come next.
    near: [usize; 3],
    random: Random,
}

impl System {
    fn new(mode: Mode) -> Self {
        let code = exec::page(&arena::USER_ACCESSES);
        let mut asid = 0;
        let processes = [(); PROCESSES].map(|()| {
            asid += 1;
            Process::new(mode, code, asid)
        });
        paging::fence_all();
        Self { processes, near: [0, 1, 2], random: Random::new(1) }
    }

    /// Changes some process's page now and then, enters one and looks; false if it does not see what it should.
    fn turn(&mut self) -> bool {
        let Self { processes, near, random } = self;
        let other = random.below(PROCESSES as u64) as usize;
        match random.below(24) {
            0 => paging::fence_all(),
            1 => processes[other].fence(random),
            2 => processes[random.pick(near)].fence(random),
            3 => {
                let process = &mut processes[random.pick(near)];
                process.used = 1 - process.used;
                process.value = random.number();
                arena::poke(process.frames[process.used], process.value);
                process.map(USER_RWX);
                process.fence(random);
            }
            // The time that a hypervisor has for its own affairs.
            4 => drop(sbi::probe(sbi::TIME)),
            5 => near[random.below(3) as usize] = other,
            _ => {}
        }
        let process = &mut processes[random.pick(near)];
        csr_write!(SATP, process.tables.satp(process.asid));
        match random.below(16) {
            0 => {
                csr_set!(SSTATUS, SUM | MXR);
                let seen = load(DATA);
                csr_clear!(SSTATUS, SUM | MXR);
                seen == Ok(process.value)
            }
            1 => {
                process.map(USER_RWX & !Pte::W);
                process.fence(random);
                let refused = outcome(user_store(DATA, 1)) == fault(StorePageFault, DATA);
                process.map(USER_RWX);
                process.fence(random);
                refused && user_load(DATA) == Ok(process.value)
            }
            2..=6 => {
                csr_set!(SSTATUS, SUM);
                let seen = load(DATA);
                csr_clear!(SSTATUS, SUM);
                seen == Ok(process.value)
            }
            7..=10 => {
                let seen = user_load(DATA) == Ok(process.value);
                process.value = random.number();
                seen && user_store(DATA, process.value).is_ok()
            }
            // Entered, and left again.
            11..=12 => true,
            _ => user_load(DATA) == Ok(process.value),
        }
    }
}

features::code! {
    /// a0 points at [`Switches`]. Gives what is at `data` in the space of `here`, which was fenced, left, and entered again.
    fn visit =
        "ld t0, 0(a0)", "ld t1, 8(a0)", "ld t2, 16(a0)", "ld t3, 24(a0)", "ld t4, 32(a0)", "li t5, 0x40000",
        "csrw satp, t0", "csrs sstatus, t5", "ld a0, 0(t4)", "csrc sstatus, t5",
        "sfence.vma zero, t1", "csrw satp, t2", "csrw satp, t0",
        "csrs sstatus, t5", "ld a0, 0(t4)", "csrc sstatus, t5",
        "csrw satp, t3", "ret";
}

/// What [`visit`] goes by.
#[repr(C)]
struct Switches {
    here: u64,
    fenced: u64,
    there: u64,
    back: u64,
    data: u64,
}

/// The lower half of these spaces is never used but with SUM set, as with a kernel that lives in the upper half.
fn switches_in_the_upper_half(mode: Mode) {
    const SPACES: u64 = 12;
    const UPPER: u64 = 0xffff_ffd0_0000_0000;
    let code = hot::page_of(visit());
    let space = |number: u64| {
        let tables = Tables::with_kernel(mode);
        tables.map(UPPER, code, 0, paging::RWX & !Pte::W | Pte::G);
        tables.map(DATA, frame_with(1000 + number), 0, USER_RWX);
        tables.satp(100 + number as u16)
    };
    let own = space(SPACES);
    let spaces: [u64; SPACES as usize] = core::array::from_fn(|number| space(number as u64));
    paging::fence_all();
    csr_write!(SATP, own);
    let mut random = Random::new(2);
    let mut wrong = 0;
    let mut near = [0, 1, 2];
    for _ in 0..5000 {
        if random.one_in(8) {
            near[random.below(3) as usize] = random.below(SPACES);
        }
        let (here, there, fenced) = (random.pick(&near), random.pick(&near), random.pick(&near));
        let switches = Switches {
            here: spaces[here as usize],
            fenced: 100 + if random.one_in(2) { here } else { fenced },
            there: spaces[there as usize],
            back: own,
            data: DATA,
        };
        wrong += usize::from(hot::call(UPPER, (&raw const switches).addr() as u64) != Ok(1000 + here));
    }
    paging::deactivate();
    check!(format_args!("{mode:?}_a_kernel_in_the_upper_half_sees_each_space"), wrong, 0);
}
