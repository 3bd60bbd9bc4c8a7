//! What belongs to the machine: the host's devices, the guests, and each hart's queue. `lives` leads guests from one life to
//! the next; `report` says how one ended.
//!
//! A guest belongs to one hart, which runs it, serves its devices and leads it on. What another hart does to it (an operator's
//! command, a disk that is done, a frame that arrives) that one is to look at: `kicks` names it.

pub mod lives;
mod report;

use alloc::string::String;
use alloc::vec::Vec;

use monitor::Operator;
use scheduler::{EntityId, Scheduler};
use vmm::Host;
use vmm::machine::Clock;

use crate::guest::Guest;
use crate::hart::{Hart, HartId, HartSet};
use crate::host::HostAccess;
use crate::io::Io;
use crate::port::{HartPort, Platform};
use crate::probe::Probes;
use crate::recent::Recent;
use crate::status::Status;

/// What belongs to the machine.
pub struct World<P: Platform> {
    /// What virtual machines see of the host.
    pub host: HostAccess<P>,
    /// The interrupt controller, and which sources at it we know.
    pub interrupts: Option<Interrupts<P>>,
    /// What stands behind the guests' virtio devices.
    pub io: Io<P>,
    /// The guests, in the manifest's order.
    pub guests: Vec<Guest>,
    /// Each hart's queue.
    pub queues: Queues,
    /// Harts that have to look at what another one has done.
    pub kicks: HartSet,
    /// The guests' last exits.
    pub recent: &'static Recent,
    /// Some vCPUs have the same ASIDs, so that one would find what another has left in the TLB.
    pub shares_asids: bool,
    /// What tests have done between two runs of a guest.
    pub probes: Probes,
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
}

/// What waits for a hart.
#[derive(Clone, Debug)]
pub struct Queue {
    /// Who runs there. Each hart's scheduler knows all guests, in the same order; a guest is awake on its own hart only.
    pub scheduler: Scheduler,
    /// Ticks in which the hart had nothing to do.
    pub idle: u64,
}

/// The queues of all harts, by hart.
#[derive(Clone, Debug)]
pub struct Queues(Vec<Queue>);

impl Queues {
    /// A queue for each of these schedulers, which know all guests.
    pub fn new(schedulers: impl IntoIterator<Item = Scheduler>) -> Self {
        Self(schedulers.into_iter().map(|scheduler| Queue { scheduler, idle: 0 }).collect())
    }

    /// A hart's queue.
    pub fn get(&self, hart: HartId) -> Option<&Queue> {
        self.0.get(hart.0)
    }

    /// A hart's queue, to change.
    pub fn get_mut(&mut self, hart: HartId) -> Option<&mut Queue> {
        self.0.get_mut(hart.0)
    }

    /// All of them.
    pub fn iter(&self) -> core::slice::Iter<'_, Queue> {
        self.0.iter()
    }

    /// Charges a guest of hart `owner` for work that hart `at` has done for it from `from` to `now`; whoever runs there does
    /// not pay for it.
    pub fn charge(&mut self, at: HartId, owner: HartId, entity: EntityId, from: u64, now: u64) {
        if at == owner {
            if let Some(queue) = self.get_mut(at) {
                queue.scheduler.charge_for(entity, from, now);
            }
            return;
        }
        if let Some(queue) = self.get_mut(at) {
            queue.scheduler.charge_nobody(from, now);
        }
        if let Some(queue) = self.get_mut(owner) {
            queue.scheduler.charge_besides(entity, from, now);
        }
    }
}

/// The host's interrupts.
pub struct Interrupts<P: Platform> {
    /// The interrupt controller.
    pub plic: P::Interrupts,
    /// The console's source, if it has one.
    pub console: Option<u32>,
}

impl<P: Platform> World<P> {
    /// How long so many ticks are, in nanoseconds.
    pub fn nanoseconds(&self, ticks: u64) -> u64 {
        self.clock.board_time(ticks).0
    }

    /// Credits a guest that leaves the hart with what the hart has counted since it came.
    pub(crate) fn count_for(&mut self, hart: &mut Hart<P>, number: usize) {
        let counts = hart.port.counts();
        if let Some(guest) = self.guests.get_mut(number) {
            guest.counts += counts - hart.counted;
        }
        hart.counted = counts;
    }

    /// Charges a guest for work that `hart` has done for it from `from` until now.
    pub(crate) fn charge(&mut self, hart: HartId, number: usize, from: u64) {
        let now = self.host.now();
        if let Some(guest) = self.guests.get(number) {
            self.queues.charge(hart, guest.hart, guest.entity, from, now);
        }
    }

    /// Has the hart of a guest look at it.
    pub(crate) fn kick(&mut self, number: usize) {
        if let Some(guest) = self.guests.get(number) {
            self.kicks.add(guest.hart);
        }
    }
}
