//! Carries commands out: asks the hypervisor for facts or changes, and puts the answer into words.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;

use crate::command::Command;
use crate::control::{Change, Control, State};
use crate::report;
use crate::text::rate;

/// What a command comes to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Reply {
    /// Lines for the operator.
    Text(String),
    /// A question; `y` carries out the command behind it.
    Ask(String, Command),
    /// Lines, behind which nothing more comes.
    Last(String),
    /// The operator wants this guest's console.
    Console(usize),
}

/// What the operator was told before: rates are since then.
#[derive(Debug, Default)]
pub struct Operator {
    vms: Sample<Vec<u64>>,
    stat: Vec<Sample<Vec<(&'static str, u64)>>>,
}

/// Counts, and when they were taken in nanoseconds since the start.
#[derive(Clone, Debug, Default)]
struct Sample<T> {
    at: u64,
    counts: T,
}

impl<T> Sample<T> {
    /// Replaces it; gives the old one and the nanoseconds since then.
    fn renew(&mut self, now: u64, counts: T) -> (T, u64) {
        let elapsed = now.saturating_sub(self.at);
        self.at = now;
        (core::mem::replace(&mut self.counts, counts), elapsed)
    }
}

impl Operator {
    /// Carries out a command. `shown` is the guest whose console was shown last.
    pub fn carry_out(&mut self, command: Command, shown: usize, control: &mut impl Control) -> Reply {
        Reply::Text(match command {
            Command::Help(entry) => report::help(entry),
            Command::Vms => self.vms(shown, control),
            Command::Change(change, guest) => changed(change, guest, control),
            Command::Console(guest) => return Reply::Console(guest.unwrap_or(shown)),
            Command::Stat(guest) => self.stat(guest.unwrap_or(shown), control),
            Command::Trace(guest) => {
                let guest = guest.unwrap_or(shown);
                report::trace(&name(guest, control), &control.trace(guest))
            }
            Command::Regs(guest) => {
                let guest = guest.unwrap_or(shown);
                format!("{}:\n{}\n", name(guest, control), control.registers(guest).trim_end())
            }
            Command::Mem { guest, address, count } => {
                let mut bytes = vec![0; count];
                match control.read_memory(guest, address, &mut bytes) {
                    Ok(()) => report::memory(address, &bytes),
                    Err((base, size)) => format!(
                        "not all of it is RAM of {}, which has {:#x} to {:#x}\n",
                        name(guest, control),
                        base.0,
                        base.0.saturating_add(size).saturating_sub(1),
                    ),
                }
            }
            Command::Net => report::net(&control.switches()),
            Command::Disk => report::disk(&control.disks()),
            Command::Host => report::host(&control.host(), control.now()),
            Command::Log(None) => format!("log level {}\n", control.log_level()),
            Command::Log(Some(level)) => {
                control.set_log_level(level);
                format!("log level {level}\n")
            }
            Command::Shutdown { now } => {
                let alive = control.guests().iter().filter(|guest| guest.state.is_alive()).count();
                if alive > 0 && !now {
                    let guests = if alive == 1 { "1 guest is" } else { &format!("{alive} guests are") };
                    let question = format!("{guests} not powered off; end all the same? [y/N] ");
                    return Reply::Ask(question, Command::Shutdown { now: true });
                }
                control.shut_down();
                return Reply::Last("shutting down\n".to_string());
            }
        })
    }

    fn vms(&mut self, shown: usize, control: &impl Control) -> String {
        let guests = control.guests();
        let counts = guests.iter().map(|guest| guest.exits).collect();
        let (before, elapsed) = self.vms.renew(control.now(), counts);
        let before = before.into_iter().chain(core::iter::repeat(0));
        let rates: Vec<_> = guests
            .iter()
            .zip(before)
            .map(|(guest, before)| rate(guest.exits.saturating_sub(before), elapsed))
            .collect();
        report::vms(&guests, shown, &rates)
    }

    fn stat(&mut self, guest: usize, control: &impl Control) -> String {
        let exits = control.exits(guest);
        if self.stat.len() <= guest {
            self.stat.resize(guest + 1, Sample::default());
        }
        let counts = exits.kinds.iter().map(|kind| (kind.name, kind.count)).collect();
        let sample = self.stat.get_mut(guest);
        let (before, elapsed) = sample.map_or((Vec::new(), 0), |sample| sample.renew(control.now(), counts));
        report::stat(&name(guest, control), &exits, &before, elapsed)
    }
}

fn name(guest: usize, control: &impl Control) -> String {
    control.guests().get(guest).map_or_else(String::new, |guest| guest.name.clone())
}

/// Whether nothing comes of a guest unless it is started.
fn has_ended(state: State) -> bool {
    state == State::Stopping || !state.is_alive()
}

fn changed(change: Change, guest: usize, control: &mut impl Control) -> String {
    let guests = control.guests();
    let Some((name, state)) = guests.get(guest).map(|guest| (&guest.name, guest.state)) else {
        return String::new();
    };
    let refusal = match (change, state) {
        (Change::Start, State::Running) => Some("runs already".to_string()),
        (Change::Start, State::Paused) => Some(format!("is paused; `resume {name}` lets it run on")),
        (Change::Pause, State::Paused) => Some("is paused already".to_string()),
        (Change::Resume, State::Running) => Some("is not paused".to_string()),
        (Change::Pause | Change::Resume, State::Resetting | State::Waiting) => {
            Some(format!("is {} and does not run; wait, or `stop {name}`", state.name()))
        }
        (Change::Stop, state) if has_ended(state) => Some(format!("is {} already", state.name())),
        (Change::Pause | Change::Resume | Change::Reset, state) if has_ended(state) => {
            Some(format!("is {}; `start {name}` starts it", state.name()))
        }
        _ => None,
    };
    if let Some(refusal) = refusal {
        return format!("{name} {refusal}\n");
    }
    let done = match change {
        Change::Start => "has been started",
        Change::Stop => "has been stopped",
        Change::Pause => "is paused",
        Change::Resume => "runs on",
        Change::Reset => "has been reset",
    };
    if let Err(reason) = control.change(guest, change) {
        return format!("{name}: {reason}\n");
    }
    match control.guests().get(guest).map(|guest| guest.state) {
        Some(state @ (State::Resetting | State::Stopping)) => {
            format!("{name} is {}: what it has begun is awaited\n", state.name())
        }
        _ => format!("{name} {done}\n"),
    }
}

#[cfg(test)]
mod tests;
