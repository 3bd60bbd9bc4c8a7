//! What a guest may do when, said once more and in few words. It hears of the operator's commands and of the guests' own ends,
//! sees the states that the world shows, and objects to what cannot be.

use bundle::{OnReset, OnStop, VmConfig};
use monitor::{Change, State};
use vmm::StopReason;
use world::Status;

use crate::sim::{FREQUENCY, MS};

/// Seconds for which what is unfinished is awaited.
const PATIENCE: u64 = 30 * FREQUENCY;
/// How late something may be that is to be done at once, in ticks: slices of others and turns of all harts.
pub const SOON: u64 = 60 * MS;

/// What a guest is doing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Phase {
    Stopped,
    Running,
    Paused,
    /// It ends; then it is started, not before a time, or not.
    Ending {
        starts: Option<u64>,
        since: u64,
    },
    Waiting {
        until: u64,
    },
}

/// One guest.
#[derive(Clone, Debug)]
pub struct Model {
    pub phase: Phase,
    on_reset: OnReset,
    on_stop: OnStop,
    longest: u64,
    next_delay: u64,
    began_at: u64,
    /// How it ended last.
    pub status: Status,
    /// Its end ends the run.
    pub ends_the_run: bool,
    /// It ended by itself, or could not be started, after all others: the run is over.
    pub ended_by_itself: bool,
}

/// What is known of a guest when its model looks at it.
#[derive(Clone, Copy, Debug)]
pub struct Seen {
    pub now: u64,
    pub state: State,
    pub requests: usize,
    /// The terminal takes what is written.
    pub line_works: bool,
}

impl Model {
    pub fn new(config: &VmConfig) -> Self {
        Self {
            phase: Phase::Stopped,
            on_reset: config.on_reset,
            on_stop: config.on_stop,
            longest: u64::from(config.max_restart_delay) * MS,
            next_delay: 0,
            began_at: 0,
            status: Status::PoweredOff,
            ends_the_run: false,
            ended_by_itself: false,
        }
    }

    /// Whether a command is to be carried out; if so, it was.
    pub fn command(&mut self, change: Change, now: u64) -> bool {
        let ending = |starts, phase| match phase {
            Phase::Ending { since, .. } => Phase::Ending { starts, since },
            _ => Phase::Ending { starts, since: now },
        };
        let next = match (change, self.phase) {
            (Change::Start, Phase::Stopped | Phase::Ending { .. }) => ending(Some(now), self.phase),
            (Change::Start | Change::Reset, Phase::Waiting { .. }) => Phase::Waiting { until: now },
            (Change::Reset, Phase::Running | Phase::Paused | Phase::Ending { starts: Some(_), .. }) => {
                ending(Some(now), self.phase)
            }
            (Change::Stop, Phase::Running | Phase::Paused | Phase::Waiting { .. }) => {
                ending(None, self.phase)
            }
            (Change::Stop, Phase::Ending { starts: Some(_), .. }) => ending(None, self.phase),
            (Change::Pause, Phase::Running) => Phase::Paused,
            (Change::Resume, Phase::Paused) => Phase::Running,
            _ => return false,
        };
        self.phase = next;
        self.ended_by_itself = false;
        true
    }

    /// It has ended by itself.
    pub fn end(&mut self, reason: StopReason, now: u64) {
        let (restarts, exits, status) = match reason {
            StopReason::PowerOff => (false, false, Status::PoweredOff),
            StopReason::Reset => (
                self.on_reset == OnReset::Restart,
                self.on_reset == OnReset::Exit,
                if self.on_reset == OnReset::Stop { Status::PoweredOff } else { Status::Reset },
            ),
            StopReason::Failed(_) => {
                (self.on_stop == OnStop::Restart, self.on_stop == OnStop::Exit, Status::GuestFailed)
            }
            StopReason::Fatal(_) => {
                (self.on_stop == OnStop::Restart, self.on_stop == OnStop::Exit, Status::Stopped)
            }
        };
        (self.status, self.ends_the_run) = (status, exits);
        let starts = restarts.then(|| {
            if now - self.began_at >= 60 * FREQUENCY {
                self.next_delay = 0;
            }
            let delay = self.next_delay.min(self.longest);
            self.next_delay = if delay == 0 { 10 * MS } else { 2 * delay };
            now + delay
        });
        self.ended_by_itself = !restarts;
        self.phase = Phase::Ending { starts, since: now };
    }

    /// When its next life may begin, if it may.
    pub fn may_begin(&self) -> Option<u64> {
        match self.phase {
            Phase::Ending { starts, .. } => starts,
            Phase::Waiting { until } => Some(until),
            _ => None,
        }
    }

    /// Looks at what has become of it; what cannot be.
    pub fn look(&mut self, seen: Seen) -> Result<(), String> {
        let Seen { now, state, requests, line_works } = seen;
        let wrong =
            |why: &str| Err(format!("{now}: {why}: {state:?} after {:?}, {requests} requests", self.phase));
        let is_stopped = !state.is_alive();
        match (self.phase, state) {
            (Phase::Running, State::Running) | (Phase::Paused, State::Paused) => Ok(()),
            (Phase::Stopped, _) if is_stopped => Ok(()),
            (Phase::Ending { starts: Some(_), since }, State::Resetting)
            | (Phase::Ending { starts: None, since }, State::Stopping) => {
                if now > since + PATIENCE + SOON {
                    return wrong("it ends for too long");
                }
                // It may have been settled just now.
                if requests == 0 && line_works && now > since + PATIENCE / 2 {
                    return wrong("nothing holds it up");
                }
                Ok(())
            }
            (Phase::Ending { starts: Some(until), .. }, State::Waiting) if now < until + SOON => {
                self.phase = Phase::Waiting { until };
                Ok(())
            }
            (Phase::Waiting { until }, State::Waiting) if now < until + SOON => Ok(()),
            (Phase::Ending { starts: Some(until), .. } | Phase::Waiting { until }, State::Running) => {
                // That nothing was under way is seen when it begins.
                if now < until {
                    return wrong("it began too early");
                }
                (self.phase, self.began_at) = (Phase::Running, now);
                Ok(())
            }
            (Phase::Ending { starts: None, since }, _) if is_stopped => {
                if requests > 0 && now < since + PATIENCE {
                    return wrong("it stopped with requests under way");
                }
                self.phase = Phase::Stopped;
                Ok(())
            }
            (Phase::Ending { starts: Some(_), since }, State::Crashed) => {
                if requests == 0 || now < since + PATIENCE {
                    return wrong("it is given up without need");
                }
                (self.phase, self.status, self.ended_by_itself) = (Phase::Stopped, Status::Stopped, true);
                Ok(())
            }
            _ => wrong("this cannot be"),
        }
    }
}
