//! Which vCPU runs on a hart, and for how long: fair by weight, with an optional cap.
//!
//! Pure: knows neither vCPUs nor clocks. Times are ticks that the caller reads and hands in; they must not go
//! backwards. An *entity* is what is scheduled, a vCPU. One `Scheduler` is one hart's.
//!
//! Each entity has a *virtual time*, which advances while it runs, the slower the greater its weight; the one that is
//! behind the others runs next. How sleepers are dealt with is in `entity`, the reasons in docs/adr.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod entity;

use alloc::vec::Vec;

use entity::Entity;
pub use entity::{Accounts, Share};

/// An entity of a scheduler: its place in the order in which entities were added, from 0 on.
pub type EntityId = usize;

/// Durations that a scheduler goes by, in ticks, none of them 0.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Tuning {
    /// How long an entity runs while others wait.
    pub slice: u64,
    /// How long it runs at least before one that wakes up may take its place: the bound of a wake-up's latency where the
    /// waking one is behind.
    pub protected: u64,
    /// The period over which caps are kept.
    pub period: u64,
}

impl Tuning {
    /// A slice of 4 ms, 250 µs of which are protected, and caps over 100 ms, for a clock of `frequency` ticks a second.
    pub const fn for_frequency(frequency: u64) -> Self {
        const fn at_least_one(ticks: u64) -> u64 {
            if ticks == 0 { 1 } else { ticks }
        }
        Self {
            slice: at_least_one(frequency / 250),
            protected: at_least_one(frequency / 4000),
            period: at_least_one(frequency / 10),
        }
    }
}

/// What a hart does next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Decision {
    /// Runs this entity, and asks again at this time at the latest; `u64::MAX` is never.
    Run(EntityId, u64),
    /// Nothing, until this time at the latest or until an entity wakes up.
    Idle(u64),
}

/// The entities of one hart.
#[derive(Clone, Debug)]
pub struct Scheduler {
    tuning: Tuning,
    entities: Vec<Entity>,
    /// How far all have come: no entity that is ready is behind it. Never goes backwards.
    floor: u128,
    running: Option<Running>,
}

/// The entity that was chosen last.
#[derive(Clone, Copy, Debug)]
struct Running {
    id: EntityId,
    /// When it was chosen.
    since: u64,
    /// Up to when its time was charged.
    charged: u64,
}

impl Scheduler {
    /// A hart without entities.
    pub const fn new(tuning: Tuning) -> Self {
        Self { tuning, entities: Vec::new(), floor: 0, running: None }
    }

    /// Adds an entity, asleep.
    pub fn add(&mut self, share: Share) -> EntityId {
        self.entities.push(Entity::new(share, self.floor));
        self.entities.len().wrapping_sub(1)
    }

    /// Changes what an entity gets from now on.
    pub fn set_share(&mut self, id: EntityId, share: Share) {
        if let Some(entity) = self.entities.get_mut(id) {
            entity.share = share;
        }
    }

    /// An entity has something to do. One that is awake already stays as it is.
    pub fn wake(&mut self, id: EntityId, now: u64) {
        if self.entities.get(id).is_none_or(Entity::is_ready) {
            return;
        }
        // What has run meanwhile counts, or the sleeper would be put behind where nobody is any more.
        self.charge_running(now);
        self.raise_floor();
        let (floor, slice) = (self.floor, self.tuning.slice);
        if let Some(entity) = self.entities.get_mut(id) {
            entity.wake(now, floor, slice);
        }
    }

    /// An entity has nothing to do.
    pub fn sleep(&mut self, id: EntityId, now: u64) {
        self.charge_running(now);
        if self.running.is_some_and(|running| running.id == id) {
            self.running = None;
        }
        if let Some(entity) = self.entities.get_mut(id) {
            entity.sleep(now);
        }
        self.raise_floor();
    }

    /// Charges an entity for work that was done for it from `from` to `now` while another was running, which does not
    /// pay for it.
    pub fn charge_for(&mut self, id: EntityId, from: u64, now: u64) {
        self.charge_nobody(from, now);
        let period = self.tuning.period;
        if let Some(entity) = self.entities.get_mut(id) {
            entity.charge(now.saturating_sub(from), now, period);
        }
    }

    /// Charges an entity for work that another hart did for it from `from` to `now`, beside whoever ran here.
    pub fn charge_besides(&mut self, id: EntityId, from: u64, now: u64) {
        let period = self.tuning.period;
        if let Some(entity) = self.entities.get_mut(id) {
            entity.charge(now.saturating_sub(from), now, period);
        }
    }

    /// Charges nobody for what was done from `from` to `now`.
    pub fn charge_nobody(&mut self, from: u64, now: u64) {
        self.charge_running(from);
        if let Some(running) = &mut self.running {
            running.charged = now;
        }
    }

    /// Chooses what runs from `now` on.
    pub fn choose(&mut self, now: u64) -> Decision {
        self.charge_running(now);
        self.raise_floor();
        let period = self.tuning.period;
        let candidates = self.entities.iter().enumerate();
        let ready = candidates.filter(|(_, entity)| entity.is_ready() && !entity.is_capped(now, period));
        let best = ready.min_by_key(|(_, entity)| entity.virtual_time).map(|(id, _)| id);
        let current = self.running.filter(|running| self.can_run(running.id, now));
        let Some(best) = best else {
            self.put_back(now);
            return Decision::Idle(self.next_refill(now));
        };
        let (chosen, until) = match current {
            // In its slice, and nobody is behind it: it goes on.
            Some(running) if !self.is_over(running, now) => match self.protected_until(running, best, now) {
                Some(until) => (running.id, until),
                None => (best, now.saturating_add(self.tuning.slice)),
            },
            _ => (best, now.saturating_add(self.tuning.slice)),
        };
        self.run(chosen, now);
        let until = if self.is_alone(chosen) { u64::MAX } else { until };
        let allowance = self.entities.get(chosen).map_or(u64::MAX, |entity| entity.allowance(now, period));
        Decision::Run(chosen, until.min(now.saturating_add(allowance)).min(self.next_refill(now)))
    }

    /// What an entity has had, up to the last time that it was charged.
    pub fn accounts(&self, id: EntityId) -> Accounts {
        self.entities.get(id).map(|entity| entity.accounts).unwrap_or_default()
    }

    fn charge_running(&mut self, now: u64) {
        let period = self.tuning.period;
        if let Some(running) = &mut self.running
            && let Some(entity) = self.entities.get_mut(running.id)
        {
            entity.charge(now.saturating_sub(running.charged), now, period);
            running.charged = now;
        }
    }

    fn can_run(&self, id: EntityId, now: u64) -> bool {
        let is_allowed = |entity: &Entity| entity.is_ready() && !entity.is_capped(now, self.tuning.period);
        self.entities.get(id).is_some_and(is_allowed)
    }

    fn is_over(&self, running: Running, now: u64) -> bool {
        now.saturating_sub(running.since) >= self.tuning.slice
    }

    /// Up to when the running entity stays although `best` is at most as far; `None` where it makes way now.
    fn protected_until(&self, running: Running, best: EntityId, now: u64) -> Option<u64> {
        let end = running.since.saturating_add(self.tuning.slice);
        let woke = |id: EntityId| self.entities.get(id).is_some_and(|entity| entity.has_woken);
        // Others that were there when it was chosen wait for the slice to end.
        if best == running.id || !woke(best) {
            return Some(end);
        }
        let protected = running.since.saturating_add(self.tuning.protected);
        (now < protected).then_some(protected.min(end))
    }

    /// Lets an entity run; the one that ran before waits.
    fn run(&mut self, id: EntityId, now: u64) {
        let is_same = self.running.is_some_and(|running| running.id == id);
        if let Some(running) = self.running.filter(|running| !self.is_over(*running, now))
            && is_same
        {
            self.running = Some(running);
            return;
        }
        if !is_same {
            self.put_back(now);
        }
        if let Some(entity) = self.entities.get_mut(id) {
            entity.start(now);
        }
        self.running = Some(Running { id, since: now, charged: now });
    }

    fn put_back(&mut self, now: u64) {
        if let Some(running) = self.running.take()
            && let Some(entity) = self.entities.get_mut(running.id)
        {
            entity.put_back(now);
        }
    }

    fn is_alone(&self, id: EntityId) -> bool {
        !self.entities.iter().enumerate().any(|(other, entity)| other != id && entity.is_ready())
    }

    /// When the first entity that its cap holds up may run again.
    fn next_refill(&self, now: u64) -> u64 {
        let period = self.tuning.period;
        let capped = self.entities.iter().filter(|entity| entity.is_ready() && entity.is_capped(now, period));
        capped.map(|entity| entity.refilled_at(now, period)).min().unwrap_or(u64::MAX)
    }

    fn raise_floor(&mut self) {
        let ready = self.entities.iter().filter(|entity| entity.is_ready());
        if let Some(lowest) = ready.map(|entity| entity.virtual_time).min() {
            self.floor = self.floor.max(lowest);
        }
    }
}
