//! Lets the harts of a simulated machine take their turns, in an order left to chance.

use world::run::{self, Turn};
use world::{HartId, NotChanged, Status};

use super::build::Made;

/// The shortest and the longest turn, in ticks.
const SHORTEST: u64 = 50;
const LONGEST: u64 = 20_000;

/// Plays a world.
pub struct Driver {
    pub made: Made,
    /// Since when each hart waits, if it does.
    waits: Vec<Option<u64>>,
    /// How the run has ended, if it has.
    pub ended: Option<Status>,
    /// When it began to end.
    pub ended_at: Option<u64>,
    /// The longest turn, in ticks.
    pub longest: u64,
    /// Turns that were taken.
    pub turns: u64,
}

impl Driver {
    pub fn new(made: Made) -> Self {
        let waits = vec![None; made.harts.len()];
        Self { made, waits, ended: None, ended_at: None, longest: LONGEST, turns: 0 }
    }

    pub fn now(&self) -> u64 {
        self.made.state.borrow().now
    }

    /// Everything that was written is shown: the end of the run waits for the line.
    pub fn show_all(&mut self) {
        self.made.state.borrow_mut().line.let_go();
        self.made.world.host.console.flush();
    }

    /// Has a hart do something to a guest, as an operator at it.
    pub fn change(&mut self, hart: usize, guest: usize, change: monitor::Change) -> Result<(), NotChanged> {
        let Made { world, harts, state, .. } = &mut self.made;
        // It does not wait while it does that.
        state.borrow_mut().harts[hart].software = true;
        let hart = &mut harts[hart];
        let result = match change {
            monitor::Change::Start => world.start(hart, guest),
            monitor::Change::Stop => world.stop(hart, guest),
            monitor::Change::Pause => world.pause(hart, guest),
            monitor::Change::Resume => world.resume(hart, guest),
            monitor::Change::Reset => world.reset(hart, guest),
        };
        self.deliver_kicks();
        result
    }

    /// Goes on until `until`, in ticks, or the end of the run.
    pub fn run_until(&mut self, until: u64) {
        while self.ended.is_none() && self.now() < until {
            self.step(until);
        }
    }

    /// A turn of a hart, or, where all wait, the time until something happens.
    pub fn step(&mut self, until: u64) {
        let ready: Vec<usize> = (0..self.waits.len()).filter(|hart| self.is_ready(*hart)).collect();
        if ready.is_empty() {
            let state = &mut *self.made.state.borrow_mut();
            let next = state.harts.iter().map(|hart| hart.timer).min().unwrap_or(u64::MAX);
            let next = next.min(state.next_device_event());
            state.now = state.now.max(next.min(until));
            return;
        }
        let hart = {
            let state = &mut *self.made.state.borrow_mut();
            let hart = ready[state.random.below(ready.len() as u64) as usize];
            let span = SHORTEST + state.random.below(self.longest - SHORTEST);
            // What others wait for is not late by more than the shortest turn.
            let others = state.harts.iter().enumerate().filter(|(other, _)| *other != hart);
            let event =
                others.map(|(_, hart)| hart.timer).min().unwrap_or(u64::MAX).min(state.next_device_event());
            let event = event.max(state.now.saturating_add(SHORTEST));
            state.quantum_end = state.now.saturating_add(span).min(event).min(until.max(state.now + 1));
            hart
        };
        self.turns += 1;
        let Made { world, harts, state, .. } = &mut self.made;
        if let Some(since) = self.waits[hart].take() {
            run::has_waited(world, &mut harts[hart], since);
        } else {
            match run::turn(world, &mut harts[hart]) {
                Turn::Again => {}
                Turn::Wait { since } => self.waits[hart] = Some(since),
                Turn::End(status) => {
                    self.ended_at = Some(state.borrow().now);
                    run::finish(world, &mut harts[0]);
                    self.ended = Some(status);
                }
            }
        }
        self.deliver_kicks();
    }

    fn is_ready(&self, hart: usize) -> bool {
        self.waits[hart].is_none() || self.made.state.borrow().pending(hart) != 0
    }

    fn deliver_kicks(&mut self) {
        let kicks = core::mem::take(&mut self.made.world.kicks);
        let state = &mut *self.made.state.borrow_mut();
        for (number, hart) in state.harts.iter_mut().enumerate() {
            hart.software |= kicks.contains(HartId(number));
        }
    }
}
