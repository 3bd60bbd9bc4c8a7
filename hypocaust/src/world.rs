//! Everything that runs: the hart, the host's devices, and the guests with their states. What can be done to a guest from
//! outside is here; `report` says how one ended; `run` is the loop.

mod report;

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use bundle::{OnReset, OnStop};
use hart::{Hart, HartCounts};
use monitor::Operator;
use scheduler::{EntityId, Scheduler, Share};
use vmm::machine::{Clock, ConsoleTurn};
use vmm::vm::Vm;
use vmm::{StopReason, timer::Alarm};

use crate::drivers::plic::Plic;
use crate::finish::Status;
use crate::host::{Level, RealHost};
use crate::io::Io;

/// Turns that a virtio console of a guest that ends still has: other guests wait meanwhile. Drivers that wait for what they
/// print, as Linux's does, have nothing left by then.
const LAST_TURNS: usize = 2;

/// Everything that runs.
#[derive(Debug)]
pub struct World {
    /// The hart.
    pub hart: Hart,
    /// What virtual machines see of it.
    pub host: RealHost,
    /// The interrupt controller, and which sources at it we know.
    pub interrupts: Option<Interrupts>,
    /// Something was typed that was not looked at yet.
    pub typed: bool,
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
    /// Whether it runs.
    pub state: State,
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

/// Whether a guest runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    /// It has its share of the hart.
    Running,
    /// It keeps its state, and time goes by.
    Paused,
    /// It has to be started from the bundle.
    Stopped(Ended),
}

/// How a guest came to be stopped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ended {
    /// It was never started.
    NotStarted,
    /// The operator stopped it.
    ByOperator,
    /// It ended by itself.
    ByItself(StopReason),
}

/// Why something cannot be done to a guest.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refused {
    /// There is no guest with this number.
    NoGuest,
    /// It runs already, or is paused.
    IsStarted,
    /// It is stopped.
    IsStopped,
    /// It is paused already.
    IsPaused,
    /// It runs.
    IsRunning,
    /// Its device tree does not lie in its RAM.
    NoRoom,
    /// The host's devices still work on its memory.
    IsBusy,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoGuest => "there is no such guest",
            Self::IsStarted => "it is started already; reset starts it again",
            Self::IsStopped => "it is stopped; start it first",
            Self::IsPaused => "it is paused already",
            Self::IsRunning => "it is not paused",
            Self::NoRoom => "its device tree does not lie in its RAM",
            Self::IsBusy => "a disk of the host's does not answer, and may still write to its memory",
        })
    }
}

impl Guest {
    /// A guest that was never started.
    pub fn new(vm: Vm, entity: EntityId, config: &bundle::VmConfig) -> Self {
        Self {
            vm,
            state: State::Stopped(Ended::NotStarted),
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

/// What can be done to a guest by its number. Each takes effect before a guest runs again.
impl World {
    /// Starts a stopped guest from the bundle, with fresh memory.
    ///
    /// # Errors
    /// Where there is none, or it is not stopped.
    pub fn start(&mut self, number: usize) -> Result<(), Refused> {
        match self.guest(number)?.state {
            State::Stopped(_) => self.restart(number),
            State::Running | State::Paused => Err(Refused::IsStarted),
        }
    }

    /// Stops a guest. Its memory stays, for somebody to look at, until it is started again.
    ///
    /// # Errors
    /// Where there is none, or it is stopped already.
    pub fn stop(&mut self, number: usize) -> Result<(), Refused> {
        match self.guest(number)?.state {
            State::Stopped(_) => Err(Refused::IsStopped),
            State::Running | State::Paused => {
                self.io.disks.flush(number);
                self.set_state(number, State::Stopped(Ended::ByOperator))
            }
        }
    }

    /// Lets a guest stand still. The clocks that it sees go on.
    ///
    /// # Errors
    /// Where there is none, or it does not run.
    pub fn pause(&mut self, number: usize) -> Result<(), Refused> {
        match self.guest(number)?.state {
            State::Running => self.set_state(number, State::Paused),
            State::Paused => Err(Refused::IsPaused),
            State::Stopped(_) => Err(Refused::IsStopped),
        }
    }

    /// Lets a paused guest go on.
    ///
    /// # Errors
    /// Where there is none, or it is not paused.
    pub fn resume(&mut self, number: usize) -> Result<(), Refused> {
        match self.guest(number)?.state {
            State::Paused => self.set_state(number, State::Running),
            State::Running => Err(Refused::IsRunning),
            State::Stopped(_) => Err(Refused::IsStopped),
        }
    }

    /// Starts a guest that runs or is paused again from the bundle, with fresh memory.
    ///
    /// # Errors
    /// Where there is none, or it is stopped.
    pub fn reset(&mut self, number: usize) -> Result<(), Refused> {
        match self.guest(number)?.state {
            State::Running | State::Paused => self.restart(number),
            State::Stopped(_) => Err(Refused::IsStopped),
        }
    }

    /// Ends a guest that cannot or does not want to go on, and does what its manifest says.
    pub fn ended(&mut self, number: usize, reason: StopReason) {
        self.flush_console(number);
        self.io.disks.flush(number);
        self.report_exits(number);
        let Some(guest) = self.guests.get_mut(number) else { return };
        let name = &guest.vm.name;
        let say = |host: &mut RealHost, level, message| host.say(level, message);
        guest.status = match reason {
            StopReason::PowerOff => Status::PoweredOff,
            StopReason::Reset if guest.on_reset == OnReset::Stop => Status::PoweredOff,
            StopReason::Reset => Status::Reset,
            StopReason::Failed(_) => Status::GuestFailed,
            StopReason::Fatal(_) => Status::Stopped,
        };
        match reason {
            StopReason::Fatal(_) => {
                say(&mut self.host, Level::Error, format_args!("guest `{name}` was stopped: {reason}"));
                self.report_registers(number);
            }
            _ => say(&mut self.host, Level::Info, format_args!("guest `{name}` {reason}")),
        }
        let Some(guest) = self.guests.get_mut(number) else { return };
        let (restarts, exits) = match reason {
            StopReason::PowerOff => (false, false),
            StopReason::Reset => (guest.on_reset == OnReset::Restart, guest.on_reset == OnReset::Exit),
            StopReason::Failed(_) | StopReason::Fatal(_) => {
                (guest.on_stop == OnStop::Restart, guest.on_stop == OnStop::Exit)
            }
        };
        if exits {
            self.ending = Some(guest.status);
        }
        let restarted =
            restarts && self.restart(number).map_err(|why| self.tell_of_refusal(number, why)).is_ok();
        if !restarted {
            // The number is a guest's.
            let _ = self.set_state(number, State::Stopped(Ended::ByItself(reason)));
            self.end_if_last();
        }
    }

    /// How long so many ticks are, in nanoseconds.
    pub fn nanoseconds(&self, ticks: u64) -> u64 {
        self.clock.board_time(ticks).0
    }

    /// With the last guest the run ends, as the worst of them has. An operator at the monitor's prompt is looking at what
    /// is left of them, or about to start one again.
    fn end_if_last(&mut self) {
        if !self.guests.iter().all(|guest| matches!(guest.state, State::Stopped(_))) {
            return;
        }
        if self.host.console.monitor_is_open() {
            self.host.say(Level::Info, format_args!("no guest is left; `start` one, or `shutdown`"));
        } else if self.ending.is_none() {
            self.ending = self.guests.iter().map(|guest| guest.status).max();
        }
    }

    fn guest(&self, number: usize) -> Result<&Guest, Refused> {
        self.guests.get(number).ok_or(Refused::NoGuest)
    }

    fn restart(&mut self, number: usize) -> Result<(), Refused> {
        if !self.settle(number) {
            return Err(Refused::IsBusy);
        }
        let guest = self.guests.get_mut(number).ok_or(Refused::NoGuest)?;
        guest.vm.start().map_err(|memory::NotRam| Refused::NoRoom)?;
        if self.current == Some(number) {
            // The hart must not take it for the one that it was.
            self.count_for(number);
            self.current = None;
        }
        self.set_state(number, State::Running)
    }

    fn set_state(&mut self, number: usize, state: State) -> Result<(), Refused> {
        let now = hart::time::now();
        let guest = self.guests.get_mut(number).ok_or(Refused::NoGuest)?;
        guest.state = state;
        self.host.console.set_state(number, state.into());
        match state {
            State::Running => self.scheduler.wake(guest.entity, now),
            State::Paused | State::Stopped(_) => self.scheduler.sleep(guest.entity, now),
        }
        Ok(())
    }

    /// Credits a guest that leaves the hart with what the hart has counted since it came.
    pub fn count_for(&mut self, number: usize) {
        let counts = self.hart.counts();
        if let Some(guest) = self.guests.get_mut(number) {
            guest.counts += counts - self.counted;
        }
        self.counted = counts;
    }

    fn flush_console(&mut self, number: usize) {
        let Some(guest) = self.guests.get_mut(number) else { return };
        self.host.serve(number);
        while !guest.vm.machine.drain_console(&mut self.host) {
            self.host.console.flush();
        }
        for slot in guest.vm.machine.consoles() {
            for _ in 0..LAST_TURNS {
                match guest.vm.machine.serve_console(slot, &mut self.host) {
                    Some(ConsoleTurn::More) => {}
                    Some(ConsoleTurn::Full) => self.host.console.flush(),
                    Some(ConsoleTurn::Done) | None => break,
                }
            }
        }
    }
}
