//! A guest that is against everything: a small interpreter whose programs come from a seed. Its instructions are accesses to
//! every register of every device, virtqueues that are set up half rightly and changed at every moment, the SBI with
//! arguments at all borders, page tables that change, code that changes, timers, interrupts; and now and then it dies, to be
//! started again by the hypervisor. It has a pattern of its own in memory and registers, and looks for that of its
//! neighbour (`sibling`).
//!
//! Its command line: `fuzz=SEED until=MILLISECONDS`, of the clock that all guests have. Its last line is its verdict. What
//! it does itself with all that is checked nowhere, but for one thing: nothing of the neighbour's is seen.
#![no_std]
#![no_main]

mod calls;
mod code;
mod devices;
mod places;
mod raw;
mod rings;
mod tables;
mod tape;

use features::arena::{peek, poke};
use features::hart_state::SINGLE_ZERO;
use features::poison::{self, floats, has_vectors, memory, set_floats, set_vectors, vectors};
use features::random::Random;
use features::role;
use guest_rt::paging::{self, PAGE};
use guest_rt::trap::catch;
use guest_rt::{check, csr_write, finisher, mmio, println, sbi, time};
use rings::Driver;
use tables::Spaces;
use tape::{Instruction, program};

features::feature!(checks);

/// The patterns. Taken for a page-table entry, the own one is not valid.
const OWN: u8 = b'x';
const NEIGHBOUR: u8 = b's';

fn checks(_hart: u64, device_tree: u64) {
    let born = time::now();
    let number = |key| role(device_tree, key).parse::<u64>().unwrap_or_else(|_| panic!("{key} is no number"));
    let (seed, end) = (number("fuzz="), number("until=") * (time::FREQUENCY / 1000));
    is_new(device_tree);
    // Each life goes another way.
    let mut tape = Random::new(seed ^ born << 20);
    memory(device_tree).for_each(|at| poke(at, poison::pattern(OWN)));
    code::prepare();
    let mut machine = Machine {
        driver: Driver::default(),
        spaces: Spaces::new(&mut tape),
        last: 0,
        steps: 0,
        seen: 0,
        has_vectors: has_vectors(),
    };
    while time::now() < end {
        machine.run(&program(&mut tape));
    }
    csr_write!(SATP, 0);
    paging::fence_all();
    machine.report();
    println!("fuzz: seed {seed}, a life from {born} ends");
    check!("nothing_of_the_neighbour_was_seen", machine.seen, 0);
}

/// Nothing of an earlier life or another guest's is left.
fn is_new(device_tree: u64) {
    let dirty = memory(device_tree).find(|at| peek(*at) != 0).map(|at| (at, peek(at)));
    check!("memory_is_zero", dirty, None);
    check!("floating_point_registers_are_zero", floats(), [SINGLE_ZERO; 32]);
    if has_vectors() {
        check!("vector_registers_are_zero", vectors().iter().all(|byte| *byte == 0));
    }
}

/// The UART as a driver wants it, whatever was done to it, with nothing else on the terminal; and a new line.
fn quiet_terminal() {
    rings::silence();
    for (register, value) in [(3, 3), (4, 0), (1, 0), (2, 7)] {
        mmio::write8(mmio::UART + register, value);
    }
    println!();
}

/// What the programs have.
struct Machine {
    driver: Driver,
    spaces: Spaces,
    /// What was read last: the one register.
    last: u64,
    steps: u64,
    /// Words of the neighbour's.
    seen: u64,
    has_vectors: bool,
}

impl Machine {
    /// Runs a program: each instruction, and loops back now and then.
    fn run(&mut self, program: &[Instruction]) {
        let mut left = 4 * program.len();
        let mut pc = 0;
        while let Some(instruction) = program.get(pc)
            && left > 0
        {
            left -= 1;
            pc += 1;
            self.steps += 1;
            if instruction.action < 8 {
                let back = instruction.operands as usize % 8;
                // A loop that always goes back ends with the budget.
                if self.last & 1 == 0 {
                    pc = pc.saturating_sub(back);
                }
                self.last ^= 1;
                continue;
            }
            catch(|| {
                self.step(*instruction);
                tables::settle();
            });
            // Also where that trapped.
            tables::settle();
        }
    }

    fn step(&mut self, Instruction { action, operands }: Instruction) {
        let tape = &mut Random::new(operands);
        match action {
            0..=95 => self.last = devices::poke(tape, self.last),
            96..=103 => {
                let slot = rings::slot(tape);
                self.driver.set_up(tape, slot);
            }
            104..=131 => self.driver.offer(tape),
            132..=139 => rings::mutate(tape),
            140..=141 => rings::flood(tape),
            142..=145 => rings::reset(tape),
            146..=149 => self.driver.acknowledge(tape),
            150..=177 => self.last = calls::call(tape),
            178..=183 => calls::timer(tape),
            184..=186 => calls::interrupt(tape),
            187..=189 => calls::wait(tape),
            190..=193 => self.spaces.switch(tape),
            194..=209 => self.spaces.change(tape),
            210..=225 => self.last = self.spaces.touch(tape),
            226..=231 => self.spaces.run_user(tape),
            232..=233 => self.spaces.write_to_code(tape),
            234..=239 => code::write(tape),
            240..=247 => self.last = code::run(tape, self.last),
            248..=252 => self.look(tape),
            253..=254 => self.fill(tape),
            255 if tape.one_in(LIFE) => self.die(tape),
            255 => {}
        }
    }

    /// Looks for the neighbour's pattern.
    fn look(&mut self, tape: &mut Random) {
        let pattern = poison::pattern(NEIGHBOUR);
        let page = places::page(tape);
        let mut seen = (page..page + PAGE).step_by(8).filter(|at| peek(*at) == pattern).count();
        seen += floats().iter().filter(|value| **value == pattern).count();
        if self.has_vectors {
            seen += vectors().chunks_exact(8).filter(|bytes| **bytes == pattern.to_ne_bytes()).count();
        }
        self.seen += seen as u64;
    }

    /// What this life came to.
    fn report(&self) {
        quiet_terminal();
        let Driver { answered, broken, .. } = self.driver;
        println!("fuzz: {} steps, {answered} chains answered, {broken} devices broken", self.steps);
    }

    /// Leaves the own pattern.
    fn fill(&mut self, tape: &mut Random) {
        let page = places::page(tape);
        (page..page + PAGE).step_by(8).for_each(|at| poke(at, poison::pattern(OWN)));
        set_floats(poison::pattern(OWN));
        if self.has_vectors {
            set_vectors(OWN);
        }
    }

    /// Ends this life, with requests under way. The hypervisor starts another.
    fn die(&mut self, tape: &mut Random) {
        self.report();
        check!("nothing_of_the_neighbour_was_seen_in_this_life", self.seen, 0);
        for _ in 0..8 {
            self.driver.offer(tape);
        }
        match tape.below(5) {
            0 => drop(sbi::system_reset(1, 0)),
            1 => drop(sbi::system_reset(2, 1)),
            2 => mmio::write32(finisher::ADDRESS, 0x7777),
            3 => {
                // A vector that cannot be fetched from.
                csr_write!(STVEC, mmio::HOLE);
                raw::call(mmio::HOLE, 0);
            }
            _ => {
                csr_write!(SATP, 8 << 60 | places::outside(tape) >> 12);
                paging::fence_all();
            }
        }
    }
}

/// One in so many of its kind of instruction ends a life.
const LIFE: u64 = 20;
