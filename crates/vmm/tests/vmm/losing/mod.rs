//! A vCPU that loses its caches now and then, and with them all but its state in bytes, does what one does that keeps them:
//! *droppable-caches*. Whole programs run, under the shadow tables that they are given.

mod hardware;
mod program;

use vmm::vm::{self, Next};
use vmm::{Vcpu, VcpuState};

use crate::model::State;
use crate::support::random::Random;
use crate::support::{Guest, RAM, new_shadow};
use hardware::Hardware;
use memory::GuestPhysAddr;

/// What a program comes to.
#[derive(PartialEq, Eq, Debug)]
struct End {
    state: State,
    now: u64,
    output: Vec<u8>,
    ram: Vec<u8>,
}

/// When a vCPU loses what.
struct Loss {
    /// The most exits between two losses.
    every: u32,
    random: Random,
    /// Exits until the next one.
    left: u32,
    last_pc: Option<u64>,
    losses: u32,
}

impl Loss {
    fn new(every: u32) -> Self {
        Self { every, random: Random::new(), left: 1, last_pc: None, losses: 0 }
    }

    /// After an exit. An instruction may need several fills, an exit each, so not twice in a row at one place.
    fn after_exit(&mut self, guest: &mut Guest) {
        self.left -= 1;
        if self.left > 0 {
            return;
        }
        self.left = 1 + self.random.below(self.every);
        if self.last_pc.replace(guest.pc()) == Some(guest.pc()) {
            return;
        }
        self.losses += 1;
        if self.random.flag() {
            return guest.vcpu.drop_caches();
        }
        let link = &guest.machine.links[0];
        let bytes = VcpuState::of(&guest.vcpu, link).to_bytes().unwrap();
        guest.vcpu.reset();
        link.take_software_interrupt();
        VcpuState::from_bytes(&bytes).unwrap().restore(&mut guest.vcpu, link, &guest.machine.ram).unwrap();
    }
}

/// Plays a program to its end.
fn play(seed: u32, mut loss: Option<&mut Loss>) -> End {
    let mut guest = Guest::new();
    let hardware = Hardware::new(&mut guest);
    program::write(&mut guest, seed);
    for exits in 0_u32.. {
        assert!(exits < 1_000_000, "program {seed} does not end");
        let Next::Run(entry) = guest.prepare() else {
            // WFI may end at any time.
            let deadline = vm::deadline_of_sleeper(&guest.machine, &guest.vcpu);
            if deadline == u64::MAX {
                guest.vcpu.state = vmm::vcpu::RunState::Running;
            } else {
                let now = deadline.max(guest.host.now);
                guest.tick(now);
            }
            continue;
        };
        let trap = loop {
            if guest.pc() == program::END {
                return result(&guest);
            }
            if vm::deadline(&guest.machine, &guest.vcpu) <= guest.host.now {
                break None;
            }
            match hardware.step(&mut guest, entry.root) {
                Ok(()) => guest.host.now += 1,
                Err(trap) => break Some(trap),
            }
        };
        match trap {
            None => guest.tick(guest.host.now),
            Some((cause, value)) => {
                let pc = guest.pc();
                guest.serve(cause, value).expect("the guest goes on");
                // Time goes on with what the hart executes, by itself or with help. How many privileged instructions are
                // carried out in one exit is left open.
                if matches!(cause, 13 | 15) && guest.pc() == pc + 4 {
                    guest.host.now += 1;
                }
            }
        }
        if let Some(loss) = &mut loss {
            loss.after_exit(&mut guest);
            if exits.is_multiple_of(1000) {
                mmu::check::check(&guest.vcpu.caches.shadow, &guest.machine.ram)
                    .expect("the shadow's invariants");
            }
        }
    }
    unreachable!()
}

fn result(guest: &Guest) -> End {
    let mut ram = vec![0; memory::BLOCK_SIZE as usize];
    guest.machine.ram.read(GuestPhysAddr(RAM), &mut ram).unwrap();
    End { state: State::of(guest), now: guest.host.now, output: guest.host.output.clone(), ram }
}

#[test]
fn programs_come_to_the_same_whatever_is_lost_meanwhile() {
    let mut losses = 0;
    for seed in 0..12 {
        let expected = play(seed, None);
        for every in [1, 3, 40] {
            let mut loss = Loss::new(every);
            let found = play(seed, Some(&mut loss));
            losses += loss.losses;
            let End { state, now, output, ram } = &found;
            assert_eq!(*state, expected.state, "program {seed}, every {every}");
            assert_eq!((*now, output), (expected.now, &expected.output), "program {seed}, every {every}");
            assert!(*ram == expected.ram, "program {seed}, every {every}: RAM differs");
        }
    }
    assert!(losses > 10_000, "{losses} losses");
}

/// A snapshot of a vCPU goes on as another vCPU, which was never the first one.
#[test]
fn another_vcpu_goes_on_where_the_first_was() {
    let mut guest = Guest::new();
    guest.set_reg(10, 7);
    let link = &guest.machine.links[0];
    let state = VcpuState::of(&guest.vcpu, link);
    let mut other = Vcpu::new(0, crate::support::FEATURES, new_shadow());
    state.restore(&mut other, link, &guest.machine.ram).unwrap();
    guest.vcpu = other;
    assert_eq!((guest.reg(10), guest.pc()), (7, crate::support::ENTRY));
    assert!(matches!(guest.prepare(), Next::Run(_)));
}
