//! Everything that runs: the hart, the host's devices, and the guests. `lives` leads guests from one life to the next;
//! `report` says how one ended; `run` is the loop.

mod lives;
mod report;

use alloc::string::String;
use alloc::vec::Vec;

use bundle::{OnReset, OnStop};
use hart::{Hart, HartCounts};
use lifecycle::{Backoff, Life, Times};
use monitor::{Allowance, Operator};
use scheduler::{EntityId, Scheduler, Share};
use vmm::machine::Clock;
use vmm::vm::Vm;
use vmm::{StopReason, timer::Alarm};

use crate::drivers::plic::Plic;
use crate::finish::Status;
use crate::host::RealHost;
use crate::io::Io;
use crate::io::host_disks::PATIENCE;

/// Everything that runs.
#[derive(Debug)]
pub struct World {
    /// The hart.
    pub hart: Hart,
    /// What virtual machines see of it.
    pub host: RealHost,
    /// The interrupt controller, and which sources at it we know.
    pub interrupts: Option<Interrupts>,
    /// What stands behind the guests' virtio devices.
    pub io: Io,
    /// The guests, in the manifest's order.
    pub guests: Vec<Guest>,
    /// Who runs.
    pub scheduler: Scheduler,
    /// What the hart's timer is set to.
    pub alarm: Alarm,
    /// The guest whose vCPU is on the hart.
    pub current: Option<usize>,
    /// What the hart had counted when that one came.
    pub counted: HartCounts,
    /// Some vCPUs have the same ASIDs, so that one would find what another has left in the TLB.
    pub shares_asids: bool,
    /// Exits between two scans of the shadow tables; 0 is never.
    pub check_every: u32,
    /// How the whole run ends, if it does.
    pub ending: Option<Status>,
    /// Who carries out what the operator types at the monitor's prompt.
    pub operator: Operator,
    /// What the machine is, in words.
    pub facts: Vec<(&'static str, String)>,
    /// The clock of the machine.
    pub clock: Clock,
    /// When all this was started, in ticks.
    pub started: u64,
    /// Ticks in which there was nothing to do.
    pub idle: u64,
}

/// The host's interrupts.
#[derive(Debug)]
pub struct Interrupts {
    /// The interrupt controller.
    pub plic: Plic,
    /// The console's source, if it has one.
    pub console: Option<u32>,
}

/// A guest: its virtual machine, and what becomes of it.
#[derive(Debug)]
pub struct Guest {
    /// The virtual machine.
    pub vm: Vm,
    /// What it is doing.
    pub life: Life,
    /// How it has ended last, by itself.
    ended: Option<StopReason>,
    /// That was told.
    is_told: bool,
    /// Its next end is told, whatever was said before: it does not start again by itself.
    is_last: bool,
    /// How much may be said about it.
    allowance: Allowance,
    /// When its consoles have their next turn, in ticks, if it ends and they have more to say.
    next_turn: u64,
    /// Its vCPU, for the scheduler.
    pub entity: EntityId,
    /// What its reset does.
    pub on_reset: OnReset,
    /// What happens when it cannot go on.
    pub on_stop: OnStop,
    /// How much of its memory we had written at the last FENCE.I.
    pub writes_seen: u64,
    /// What the hart has counted for it.
    pub counts: HartCounts,
    /// Cycles that the hart was in the guest, what the assembly served included. Only counted with the scanner on.
    pub executed: u64,
    /// How it ended last.
    pub status: Status,
}

impl Guest {
    /// A guest that was never started, on a host with a timebase of so many ticks a second.
    pub fn new(vm: Vm, entity: EntityId, config: &bundle::VmConfig, timebase: u64) -> Self {
        let times = Times::for_frequency(timebase, u64::from(config.max_restart_delay));
        Self {
            vm,
            life: Life::new(Backoff::new(times), PATIENCE.saturating_mul(timebase)),
            ended: None,
            is_told: true,
            is_last: false,
            allowance: Allowance::new(timebase),
            next_turn: 0,
            entity,
            on_reset: config.on_reset,
            on_stop: config.on_stop,
            writes_seen: 0,
            counts: HartCounts::default(),
            executed: 0,
            status: Status::PoweredOff,
        }
    }

    /// What the scheduler is to give a guest.
    pub fn share(config: &bundle::VmConfig) -> Share {
        Share { weight: config.weight, cap: config.cap }
    }
}

impl World {
    /// How long so many ticks are, in nanoseconds.
    pub fn nanoseconds(&self, ticks: u64) -> u64 {
        self.clock.board_time(ticks).0
    }

    /// Credits a guest that leaves the hart with what the hart has counted since it came.
    pub fn count_for(&mut self, number: usize) {
        let counts = self.hart.counts();
        if let Some(guest) = self.guests.get_mut(number) {
            guest.counts += counts - self.counted;
        }
        self.counted = counts;
    }
}
