//! What a guest is doing, from one life to the next: started, paused, ending, waiting for its next life, stopped.
//!
//! Pure: knows neither virtual machines nor devices. Times are ticks that the caller reads and hands in; they must not go
//! backwards. Events change the [`Phase`] at once. Whatever needs others (output that is not yet shown, disk requests under
//! way) is awaited in the phase [`Phase::Ending`], which [`Life::advance`] leads out of, so that nobody else waits for it
//! (*nobody-waits*).
//! `backoff` decides how long a guest that ends again and again waits before it is started anew.
#![no_std]
#![forbid(unsafe_code)]

mod backoff;

pub use backoff::{Backoff, LONG_LIFE, Times};

/// What a guest is doing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Phase {
    /// It has its share of the hart.
    Running,
    /// It keeps its state, and time goes by.
    Paused,
    /// It does not run any more; what it has begun is awaited.
    Ending(Ending),
    /// It is started once its delay has passed.
    Waiting {
        /// When, in ticks.
        until: u64,
    },
    /// It has to be started from the bundle.
    Stopped(End),
}

/// What is awaited of a guest that has ended, and what comes then.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ending {
    /// What comes then.
    then: Then,
    /// Up to when it is awaited, in ticks.
    deadline: u64,
    /// Its output is out.
    is_silent: bool,
}

/// What follows the end of a life.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Then {
    /// Another life, not before this time.
    Start { not_before: u64 },
    /// Nothing.
    Stop(End),
}

/// How a guest came to be stopped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    /// It was never started.
    NotStarted,
    /// The operator stopped it.
    ByOperator,
    /// It ended by itself.
    ByItself,
    /// It should have been started again, but the host's devices still work on its memory.
    Stuck,
}

/// Why something cannot be done to a guest.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refused {
    /// It runs already, or is paused.
    IsStarted,
    /// It is stopped, or about to be.
    IsStopped,
    /// It is paused already.
    IsPaused,
    /// It runs, or is about to.
    IsRunning,
    /// It is between two lives.
    IsEnding,
}

/// What a guest that has ended has not finished.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Unfinished {
    /// Output that the console has not taken.
    pub output: bool,
    /// Requests that the host's devices work on: its memory may be written to.
    pub requests: bool,
}

/// What the caller has to do for a guest whose time has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    /// Its output is out: say how it ended.
    Tell {
        /// Not all of its output: the console did not take the rest in time.
        is_cut: bool,
        /// It is started again.
        restarts: bool,
    },
    /// A new life begins, with fresh memory. If that fails, [`Life::fail`].
    Start,
    /// It is stopped.
    Stop {
        /// How it came to be.
        end: End,
        /// Requests are still under way.
        is_busy: bool,
    },
}

/// A guest's life.
#[derive(Clone, Copy, Debug)]
pub struct Life {
    phase: Phase,
    backoff: Backoff,
    /// How long what is unfinished is awaited, in ticks.
    patience: u64,
    /// How often it was started.
    starts: u64,
}

impl Life {
    /// A guest that was never started. What it has not finished at its end is awaited for `patience` ticks.
    pub const fn new(backoff: Backoff, patience: u64) -> Self {
        Self { phase: Phase::Stopped(End::NotStarted), backoff, patience, starts: 0 }
    }

    /// What it is doing.
    pub const fn phase(&self) -> Phase {
        self.phase
    }

    /// Whether it has its share of the hart.
    pub const fn is_running(&self) -> bool {
        matches!(self.phase, Phase::Running)
    }

    /// Whether it is stopped, and not only about to be.
    pub const fn is_stopped(&self) -> bool {
        matches!(self.phase, Phase::Stopped(_))
    }

    /// How often it was started anew.
    pub const fn restarts(&self) -> u64 {
        self.starts.saturating_sub(1)
    }

    /// When [`Self::advance`] has to be called at the latest, in ticks; `u64::MAX` is never.
    pub const fn deadline(&self) -> u64 {
        match self.phase {
            Phase::Ending(ending) => ending.deadline,
            Phase::Waiting { until } => until,
            Phase::Running | Phase::Paused | Phase::Stopped(_) => u64::MAX,
        }
    }

    /// The operator wants a stopped guest to be started; one that is about to be stopped or waits for its next life is
    /// started without delay.
    ///
    /// # Errors
    /// Where it runs or is paused.
    pub fn start(&mut self, now: u64) -> Result<(), Refused> {
        match &mut self.phase {
            Phase::Running | Phase::Paused => return Err(Refused::IsStarted),
            Phase::Ending(ending) => ending.then = Then::Start { not_before: now },
            Phase::Waiting { until } => *until = now,
            Phase::Stopped(_) => self.end_with(Then::Start { not_before: now }, now),
        }
        Ok(())
    }

    /// The operator wants it to be stopped.
    ///
    /// # Errors
    /// Where it is stopped, or about to be.
    pub fn stop(&mut self, now: u64) -> Result<(), Refused> {
        let stop = Then::Stop(End::ByOperator);
        match &mut self.phase {
            Phase::Stopped(_) | Phase::Ending(Ending { then: Then::Stop(_), .. }) => {
                return Err(Refused::IsStopped);
            }
            Phase::Ending(ending) => ending.then = stop,
            Phase::Running | Phase::Paused | Phase::Waiting { .. } => self.end_with(stop, now),
        }
        Ok(())
    }

    /// The operator wants it to stand still.
    ///
    /// # Errors
    /// Where it does not run.
    pub fn pause(&mut self) -> Result<(), Refused> {
        match self.phase {
            Phase::Running => self.phase = Phase::Paused,
            Phase::Paused => return Err(Refused::IsPaused),
            Phase::Ending(_) | Phase::Waiting { .. } => return Err(Refused::IsEnding),
            Phase::Stopped(_) => return Err(Refused::IsStopped),
        }
        Ok(())
    }

    /// The operator wants it to go on.
    ///
    /// # Errors
    /// Where it is not paused.
    pub fn resume(&mut self) -> Result<(), Refused> {
        match self.phase {
            Phase::Paused => self.phase = Phase::Running,
            Phase::Running => return Err(Refused::IsRunning),
            Phase::Ending(_) | Phase::Waiting { .. } => return Err(Refused::IsEnding),
            Phase::Stopped(_) => return Err(Refused::IsStopped),
        }
        Ok(())
    }

    /// The operator wants it to be started again, without delay.
    ///
    /// # Errors
    /// Where it is stopped, or about to be.
    pub fn reset(&mut self, now: u64) -> Result<(), Refused> {
        match &mut self.phase {
            Phase::Stopped(_) | Phase::Ending(Ending { then: Then::Stop(_), .. }) => {
                return Err(Refused::IsStopped);
            }
            Phase::Ending(ending) => ending.then = Then::Start { not_before: now },
            Phase::Waiting { until } => *until = now,
            Phase::Running | Phase::Paused => self.end_with(Then::Start { not_before: now }, now),
        }
        Ok(())
    }

    /// A guest that runs has ended by itself, and is started again or not; says whether it ran.
    pub fn end(&mut self, restarts: bool, now: u64) -> bool {
        if !self.is_running() {
            return false;
        }
        let then = if restarts {
            Then::Start { not_before: now.saturating_add(self.backoff.delay(now)) }
        } else {
            Then::Stop(End::ByItself)
        };
        self.end_with(then, now);
        true
    }

    /// Goes on with a guest that is between two phases: gives the next thing to do, if its time has come. To be called
    /// again until it gives nothing.
    pub fn advance(&mut self, unfinished: Unfinished, now: u64) -> Option<Step> {
        match &mut self.phase {
            Phase::Running | Phase::Paused | Phase::Stopped(_) => None,
            Phase::Waiting { until } if now < *until => None,
            Phase::Waiting { .. } => Some(self.begin(now)),
            Phase::Ending(ending) => {
                let is_late = now >= ending.deadline;
                if !ending.is_silent {
                    let is_cut = unfinished.output;
                    if is_cut && !is_late {
                        return None;
                    }
                    ending.is_silent = true;
                    return Some(Step::Tell { is_cut, restarts: matches!(ending.then, Then::Start { .. }) });
                }
                let is_busy = unfinished.requests;
                if is_busy && !is_late {
                    return None;
                }
                match ending.then {
                    Then::Stop(end) => Some(self.finish(end, is_busy)),
                    Then::Start { .. } if is_busy => Some(self.finish(End::Stuck, is_busy)),
                    Then::Start { not_before } if now < not_before => {
                        self.phase = Phase::Waiting { until: not_before };
                        None
                    }
                    Then::Start { .. } => Some(self.begin(now)),
                }
            }
        }
    }

    /// The new life could not begin.
    pub fn fail(&mut self) {
        self.phase = Phase::Stopped(End::ByItself);
    }

    fn begin(&mut self, now: u64) -> Step {
        self.phase = Phase::Running;
        self.starts = self.starts.saturating_add(1);
        self.backoff.begin(now);
        Step::Start
    }

    fn finish(&mut self, end: End, is_busy: bool) -> Step {
        self.phase = Phase::Stopped(end);
        Step::Stop { end, is_busy }
    }

    fn end_with(&mut self, then: Then, now: u64) {
        let deadline = now.saturating_add(self.patience);
        self.phase = Phase::Ending(Ending { then, deadline, is_silent: false });
    }
}

impl Ending {
    /// Whether it is to be started again.
    pub const fn restarts(&self) -> bool {
        matches!(self.then, Then::Start { .. })
    }
}
