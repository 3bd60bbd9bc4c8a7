//! A guest's way from one life to the next. What can be done to it from outside changes its `Life` at once; what has to be
//! awaited (its last output, its disk requests, its delay) is looked at by the run loop, while others run.

use core::fmt;

use bundle::{OnReset, OnStop};
use devices::BoardTime;
use lifecycle::{End, Life, Phase, Refused, Step, Unfinished};
use memory::NotRam;
use monitor::State;
use vmm::machine::ConsoleTurn;
use vmm::{Host, StopReason};

use super::World;
use crate::guest::Guest;
use crate::hart::Hart;
use crate::host::Level;
use crate::port::Platform;
use crate::status::Status;

/// How long after a turn of a virtio console that has more to say the next one comes: it has no share of the hart that
/// would bound it.
const CONSOLE_PAUSE: BoardTime = BoardTime(1_000_000);

/// Why a change of a guest was not made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NotChanged {
    /// There is no guest with this number.
    NoGuest,
    /// It is not the time for that.
    Refused(Refused),
    /// Its device tree does not lie in its RAM.
    NoRoom,
}

impl fmt::Display for NotChanged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoGuest => "there is no such guest",
            Self::Refused(Refused::IsStarted) => "it is started already; reset starts it again",
            Self::Refused(Refused::IsStopped) => "it is stopped; start it first",
            Self::Refused(Refused::IsPaused) => "it is paused already",
            Self::Refused(Refused::IsRunning) => "it is not paused",
            Self::Refused(Refused::IsEnding) => "it is between two lives; wait, or stop it",
            Self::NoRoom => "its device tree does not lie in its RAM",
        })
    }
}

impl Guest {
    /// What it is doing, in the operator's words.
    pub fn state(&self) -> State {
        match self.life.phase() {
            Phase::Running => State::Running,
            Phase::Paused => State::Paused,
            Phase::Ending(ending) if ending.restarts() => State::Resetting,
            Phase::Ending(_) => State::Stopping,
            Phase::Waiting { .. } => State::Waiting,
            Phase::Stopped(End::NotStarted | End::ByOperator) => State::Stopped,
            Phase::Stopped(End::Stuck) => State::Crashed,
            Phase::Stopped(End::ByItself) => match self.ended {
                None | Some(StopReason::PowerOff | StopReason::Reset) => State::Off,
                Some(StopReason::Failed(_)) => State::Failed,
                Some(StopReason::Fatal(_)) => State::Crashed,
            },
        }
    }

    /// Whether it starts again after such an end.
    const fn restarts(&self, reason: StopReason) -> bool {
        match reason {
            StopReason::PowerOff => false,
            StopReason::Reset => matches!(self.on_reset, OnReset::Restart),
            StopReason::Failed(_) | StopReason::Fatal(_) => matches!(self.on_stop, OnStop::Restart),
        }
    }

    /// Whether the whole run ends with it.
    const fn ends_the_run(&self, reason: StopReason) -> bool {
        match reason {
            StopReason::PowerOff => false,
            StopReason::Reset => matches!(self.on_reset, OnReset::Exit),
            StopReason::Failed(_) | StopReason::Fatal(_) => matches!(self.on_stop, OnStop::Exit),
        }
    }

    pub(super) const fn status_after(&self, reason: StopReason) -> Status {
        match reason {
            StopReason::PowerOff => Status::PoweredOff,
            StopReason::Reset if matches!(self.on_reset, OnReset::Stop) => Status::PoweredOff,
            StopReason::Reset => Status::Reset,
            StopReason::Failed(_) => Status::GuestFailed,
            StopReason::Fatal(_) => Status::Stopped,
        }
    }
}

/// What can be done to a guest by its number, by a hart. It does not run on unchanged; what it has begun may have to be awaited,
/// and where it belongs to another hart, that one goes on with it.
impl<P: Platform> World<P> {
    /// Starts a stopped guest from the bundle, with fresh memory.
    ///
    /// # Errors
    /// Where there is none, or it is not stopped, or cannot start.
    pub fn start(&mut self, hart: &mut Hart<P>, number: usize) -> Result<(), NotChanged> {
        self.change(hart, number, Life::start)
    }

    /// Stops a guest. Its memory stays, for somebody to look at, until it is started again.
    ///
    /// # Errors
    /// Where there is none, or it is stopped already.
    pub fn stop(&mut self, hart: &mut Hart<P>, number: usize) -> Result<(), NotChanged> {
        self.change(hart, number, Life::stop)
    }

    /// Lets a guest stand still. The clocks that it sees go on.
    ///
    /// # Errors
    /// Where there is none, or it does not run.
    pub fn pause(&mut self, hart: &mut Hart<P>, number: usize) -> Result<(), NotChanged> {
        self.change(hart, number, |life, _| life.pause())
    }

    /// Lets a paused guest go on.
    ///
    /// # Errors
    /// Where there is none, or it is not paused.
    pub fn resume(&mut self, hart: &mut Hart<P>, number: usize) -> Result<(), NotChanged> {
        self.change(hart, number, |life, _| life.resume())
    }

    /// Starts a guest that runs or is paused again from the bundle, with fresh memory.
    ///
    /// # Errors
    /// Where there is none, or it is stopped, or cannot start.
    pub fn reset(&mut self, hart: &mut Hart<P>, number: usize) -> Result<(), NotChanged> {
        self.change(hart, number, Life::reset)
    }

    /// Ends a guest that cannot or does not want to go on; what its manifest says is done once it has nothing under way.
    pub fn ended(&mut self, hart: &mut Hart<P>, number: usize, reason: StopReason) {
        let now = self.host.now();
        let Some(guest) = self.guests.get_mut(number) else { return };
        if !guest.life.end(guest.restarts(reason), now) {
            return;
        }
        guest.ended = Some(reason);
        guest.is_told = false;
        // A failure is told when it happens.
        let _ = self.follow(hart, number);
        // It sleeps meanwhile, so nobody else pays for its report and for its next start.
        self.charge(hart.id, number, now);
    }

    /// Goes on with guests of this hart that are between two lives, and says when that has to be done again at the latest, in
    /// ticks.
    pub fn advance_lives(&mut self, hart: &mut Hart<P>) -> u64 {
        let mut next = u64::MAX;
        for number in 0..self.guests.len() {
            let Some(Guest { life, hart: owner, allowance, next_turn, .. }) = self.guests.get(number) else {
                continue;
            };
            let (ends, tells, next_turn) = (life.deadline(), allowance.deadline(), *next_turn);
            if ends.min(tells) == u64::MAX || *owner != hart.id {
                continue;
            }
            let from = self.host.now();
            if ends != u64::MAX && from >= next_turn.min(ends) {
                // A failure is told when it happens.
                let more = self.advance(hart, number).unwrap_or(false);
                if more && let Some(guest) = self.guests.get_mut(number) {
                    guest.next_turn = self.host.now().saturating_add(self.clock.ticks(CONSOLE_PAUSE));
                }
            }
            if from >= tells {
                self.tell_what_is_due(number);
            }
            // The one that ends pays, not the one that runs.
            self.charge(hart.id, number, from);
            let Some(Guest { life, allowance, next_turn, .. }) = self.guests.get(number) else { continue };
            next = next.min(life.deadline()).min(allowance.deadline());
            if *next_turn > from {
                next = next.min(*next_turn);
            }
        }
        next
    }

    fn change(
        &mut self,
        hart: &mut Hart<P>,
        number: usize,
        change: impl FnOnce(&mut Life, u64) -> Result<(), Refused>,
    ) -> Result<(), NotChanged> {
        let now = self.host.now();
        let guest = self.guests.get_mut(number).ok_or(NotChanged::NoGuest)?;
        change(&mut guest.life, now).map_err(NotChanged::Refused)?;
        self.follow(hart, number).map_err(|NotRam| NotChanged::NoRoom)
    }

    /// Lets scheduler, console and disks know of a change of a guest's life, and goes on with it as far as that can be done
    /// now. What is to be done by the guest's own hart is left to that one.
    fn follow(&mut self, hart: &mut Hart<P>, number: usize) -> Result<(), NotRam> {
        if self.guests.get(number).is_some_and(|guest| matches!(guest.life.phase(), Phase::Ending(_))) {
            self.io.disks.abandon(number);
        }
        self.show_state(number);
        if self.guests.get(number).is_some_and(|guest| guest.hart != hart.id) {
            self.kick(number);
            return Ok(());
        }
        self.advance(hart, number).map(|_| ())
    }

    /// Goes on with a guest that is between two lives; says whether its console wants another turn.
    fn advance(&mut self, hart: &mut Hart<P>, number: usize) -> Result<bool, NotRam> {
        let Some(before) = self.guests.get(number).map(Guest::state) else { return Ok(false) };
        let (unfinished, more) = self.unfinished(number);
        let mut result = Ok(more);
        while let Some(guest) = self.guests.get_mut(number)
            && let Some(step) = guest.life.advance(unfinished, self.host.now())
        {
            match step {
                Step::Tell { is_cut, restarts } => {
                    guest.is_last = !restarts;
                    if is_cut {
                        self.keep_output(number);
                    }
                    self.tell_end(hart, number);
                }
                Step::Start => {
                    if let Err(error) = self.begin(hart, number) {
                        result = Err(error);
                        break;
                    }
                }
                Step::Stop { end, is_busy } => self.stopped(number, end, is_busy),
            }
        }
        if self.guests.get(number).is_some_and(|guest| guest.state() != before) {
            self.show_state(number);
        }
        result
    }

    /// What a guest that ends has not finished, after a turn of its consoles; and whether they want another one.
    fn unfinished(&mut self, number: usize) -> (Unfinished, bool) {
        let Self { guests, host, io, .. } = self;
        let Some(guest) = guests.get_mut(number).filter(|it| matches!(it.life.phase(), Phase::Ending(_)))
        else {
            return (Unfinished::default(), false);
        };
        let machine = &mut guest.vm.machine;
        host.serve(number);
        let (mut output, mut more) = (!machine.drain_console(host), false);
        for slot in machine.consoles() {
            let turn = machine.serve_console(slot, host);
            more |= turn == Some(ConsoleTurn::More);
            output |= matches!(turn, Some(ConsoleTurn::More | ConsoleTurn::Full));
        }
        (Unfinished { output, requests: io.disks.in_flight(number) > 0 }, more)
    }

    fn show_state(&mut self, number: usize) {
        let now = self.host.now();
        let Some(guest) = self.guests.get(number) else { return };
        self.host.console.set_state(number, guest.state());
        let Some(queue) = self.queues.get_mut(guest.hart) else { return };
        if guest.life.is_running() {
            queue.scheduler.wake(guest.entity, now);
        } else {
            queue.scheduler.sleep(guest.entity, now);
        }
    }

    /// Begins a life.
    fn begin(&mut self, hart: &mut Hart<P>, number: usize) -> Result<(), NotRam> {
        self.io.disks.flush(number);
        let Some(guest) = self.guests.get_mut(number) else { return Ok(()) };
        let started = guest.vm.start();
        if started.is_err() {
            guest.life.fail();
            self.tell_of_refusal(number, NotChanged::NoRoom);
            self.end_if_last();
        } else if hart.current == Some(number) {
            // The hart must not take it for the one that it was.
            self.count_for(hart, number);
            hart.current = None;
        }
        started
    }

    /// A guest is stopped for now.
    fn stopped(&mut self, number: usize, end: End, is_busy: bool) {
        self.io.disks.flush(number);
        let Some(guest) = self.guests.get_mut(number) else { return };
        if end == End::Stuck {
            guest.status = Status::Stopped;
        }
        let exits = guest.ended.is_some_and(|reason| guest.ends_the_run(reason));
        let status = guest.status;
        if is_busy {
            self.tell_of_busy_disk(number, end);
        }
        if matches!(end, End::ByItself | End::Stuck) {
            if exits {
                self.ending = Some(status);
            }
            self.end_if_last();
        }
    }

    /// With the last guest the run ends, as the worst of them has. An operator at the monitor's prompt is looking at what
    /// is left of them, or about to start one again.
    fn end_if_last(&mut self) {
        if !self.guests.iter().all(|guest| guest.life.is_stopped()) {
            return;
        }
        if self.host.console.monitor_is_open() {
            self.host.say(Level::Info, format_args!("no guest is left; `start` one, or `shutdown`"));
        } else if self.ending.is_none() {
            self.ending = self.guests.iter().map(|guest| guest.status).max();
        }
    }
}
