//! A guest: its virtual machine, and what becomes of it.

use bundle::{OnReset, OnStop};
use lifecycle::{Backoff, Life, Times};
use monitor::Allowance;
use scheduler::{EntityId, Share};
use trace::HartCounts;
use vmm::StopReason;
use vmm::vm::Vm;

use crate::hart::HartId;
use crate::port::PATIENCE;
use crate::probe::Losses;
use crate::status::Status;

/// A guest: its virtual machine, and what becomes of it.
#[derive(Debug)]
pub struct Guest {
    /// The virtual machine.
    pub vm: Vm,
    /// What it is doing.
    pub life: Life,
    /// How it has ended last, by itself.
    pub(crate) ended: Option<StopReason>,
    /// That was told.
    pub(crate) is_told: bool,
    /// Its next end is told, whatever was said before: it does not start again by itself.
    pub(crate) is_last: bool,
    /// How much may be said about it.
    pub(crate) allowance: Allowance,
    /// When its consoles have their next turn, in ticks, if it ends and they have more to say.
    pub(crate) next_turn: u64,
    /// The hart that it belongs to.
    pub hart: HartId,
    /// Its vCPU, for the schedulers: its place among the guests.
    pub entity: EntityId,
    /// What its reset does.
    pub on_reset: OnReset,
    /// What happens when it cannot go on.
    pub on_stop: OnStop,
    /// How much of its memory we had written at the last FENCE.I.
    pub writes_seen: u64,
    /// What the hart has counted for it.
    pub counts: HartCounts,
    /// Cycles that the hart was in the guest, what the assembly served included. Only counted with probes.
    pub executed: u64,
    /// What its vCPU has lost for a test.
    pub(crate) losses: Losses,
    /// How it ended last.
    pub status: Status,
}

impl Guest {
    /// A guest that was never started, of hart `hart`, on a host with a timebase of so many ticks a second.
    pub fn new(vm: Vm, hart: HartId, entity: EntityId, config: &bundle::VmConfig, timebase: u64) -> Self {
        let times = Times::for_frequency(timebase, u64::from(config.max_restart_delay));
        Self {
            vm,
            life: Life::new(Backoff::new(times), PATIENCE.saturating_mul(timebase)),
            ended: None,
            is_told: true,
            is_last: false,
            allowance: Allowance::new(timebase),
            next_turn: 0,
            hart,
            entity,
            on_reset: config.on_reset,
            on_stop: config.on_stop,
            writes_seen: 0,
            counts: HartCounts::default(),
            executed: 0,
            losses: Losses::default(),
            status: Status::PoweredOff,
        }
    }

    /// What the scheduler is to give a guest.
    pub fn share(config: &bundle::VmConfig) -> Share {
        Share { weight: config.weight, cap: config.cap }
    }
}
