//! A virtual hart's performance counters: what they count, and their values. `sbi/pmu.rs` has the calls by which a guest
//! programs them.
//!
//! Once they are programmed, the counters for cycles and instructions count while the guest itself runs: neither the
//! hypervisor's work nor other guests count, nor does an instruction that is emulated. Until then they are the hart's. The other counters count events of the SBI
//! and the exits that a guest causes.

use serde::{Deserialize, Serialize};
use trace::{ExitCounters, ExitKind};

/// Counters by their number, as OpenSBI numbers them: 0 is `cycle`, 1, which would be `time`, is none, 2 is `instret`, and
/// firmware counters follow. Linux relies on 0 and 2.
pub const COUNTERS: usize = FIRST_FIRMWARE + FIRMWARE_COUNTERS;
/// The number of the first counter of firmware events.
pub const FIRST_FIRMWARE: usize = 3;
/// As many as OpenSBI has.
const FIRMWARE_COUNTERS: usize = 16;
/// The counter of cycles, and that of instructions.
pub const CYCLE: usize = 0;
/// See [`CYCLE`].
pub const INSTRET: usize = 2;

/// What can be counted.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Event {
    /// Cycles in which the guest ran.
    Cycles,
    /// Instructions that the guest executed.
    Instructions,
    /// Calls of the SBI.
    Firmware(FirmwareEvent),
    /// Exits of one kind, at the platform's event number of its place among all kinds.
    Exits(ExitKind),
}

/// The SBI's firmware events that happen here. SBI spec, "Event: Firmware Events". The others, such as misaligned accesses,
/// are served by real firmware or do not exist, and cannot be counted.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum FirmwareEvent {
    /// The timer was set.
    SetTimer,
    /// An interrupt was sent to another hart, or to itself.
    IpiSent,
    /// One has arrived.
    IpiReceived,
    /// FENCE.I was sent.
    FenceISent,
    /// SFENCE.VMA was sent.
    SfenceSent,
    /// SFENCE.VMA with an ASID was sent.
    SfenceAsidSent,
}

impl Event {
    /// Whether it is the guest's own: interrupts of the host's tell what other guests do.
    pub const fn is_own(self) -> bool {
        !matches!(self, Self::Exits(ExitKind::HostTimer | ExitKind::HostInterrupt))
    }
}

impl FirmwareEvent {
    const ALL: [Self; 6] = [
        Self::SetTimer,
        Self::IpiSent,
        Self::IpiReceived,
        Self::FenceISent,
        Self::SfenceSent,
        Self::SfenceAsidSent,
    ];

    /// The event's code.
    const fn code(self) -> u64 {
        match self {
            Self::SetTimer => 5,
            Self::IpiSent => 6,
            Self::IpiReceived => 7,
            Self::FenceISent => 8,
            Self::SfenceSent => 10,
            Self::SfenceAsidSent => 12,
        }
    }

    /// The event with this code, if it happens here.
    pub fn from_code(code: u64) -> Option<Self> {
        Self::ALL.into_iter().find(|event| event.code() == code)
    }
}

/// One counter.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
struct Counter {
    event: Option<Event>,
    running: bool,
    /// Its value; while it runs, less what its event's count is.
    value: u64,
}

/// What the hart's counters hold at a moment.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct HartCounters {
    /// Cycles.
    pub cycle: u64,
    /// Retired instructions.
    pub instret: u64,
}

/// A virtual hart's counters.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Pmu {
    #[serde(with = "trace::array")]
    counters: [Counter; COUNTERS],
    /// Counters that have an event, a bit each.
    configured: u64,
    #[serde(with = "trace::array")]
    happened: [u64; FirmwareEvent::ALL.len()],
    /// What the guest itself has had of the hart's counters while a fixed counter had an event.
    own: HartCounters,
}

impl Pmu {
    /// Counts an event of the SBI.
    #[inline]
    pub fn count(&mut self, event: FirmwareEvent) {
        if let Some(happened) = self.happened.get_mut(event as usize) {
            *happened = happened.wrapping_add(1);
        }
    }

    /// Whether `ran` is wanted after each run of the guest.
    #[inline]
    pub fn follows_hart(&self) -> bool {
        self.configured & (1 << CYCLE | 1 << INSTRET) != 0
    }

    /// The guest has run, and the hart's counters held this before and after.
    pub fn ran(&mut self, before: HartCounters, after: HartCounters) {
        self.own.cycle = self.own.cycle.wrapping_add(after.cycle.wrapping_sub(before.cycle));
        self.own.instret = self.own.instret.wrapping_add(after.instret.wrapping_sub(before.instret));
    }

    /// The same, if a guest could have brought it about.
    pub(crate) fn checked(&self) -> Option<Self> {
        let mut configured = 0;
        for (number, counter) in self.counters.iter().enumerate() {
            match counter.event {
                Some(event) if Self::fits(number, event) && event.is_own() => configured |= 1 << number,
                None if *counter == Counter::default() => {}
                _ => return None,
            }
        }
        (configured == self.configured).then(|| self.clone())
    }

    /// All counters without events, as at power-on.
    pub fn reset(&mut self) {
        *self = Self::default();
    }

    /// Whether there is a counter with this number.
    pub const fn exists(counter: usize) -> bool {
        matches!(counter, CYCLE | INSTRET) || counter >= FIRST_FIRMWARE && counter < COUNTERS
    }

    /// Whether this counter can count this event.
    pub const fn fits(counter: usize, event: Event) -> bool {
        match event {
            Event::Cycles => counter == CYCLE,
            Event::Instructions => counter == INSTRET,
            Event::Firmware(_) | Event::Exits(_) => counter >= FIRST_FIRMWARE && counter < COUNTERS,
        }
    }

    /// What a counter counts.
    pub fn event(&self, counter: usize) -> Option<Event> {
        self.counters.get(counter)?.event
    }

    /// Whether a counter runs.
    pub fn is_running(&self, counter: usize) -> bool {
        self.counters.get(counter).is_some_and(|counter| counter.running)
    }

    /// Gives a counter an event; its value stays.
    pub fn configure(&mut self, counter: usize, event: Event) {
        if let Some(place) = self.counters.get_mut(counter) {
            place.event = Some(event);
            self.configured |= 1 << counter;
        }
    }

    /// Takes its event from a counter that does not run.
    pub fn release(&mut self, counter: usize) {
        if let Some(place) = self.counters.get_mut(counter) {
            *place = Counter::default();
            self.configured &= !(1 << counter);
        }
    }

    /// A counter's value; `None` where it has no event.
    pub fn value(&self, counter: usize, exits: &ExitCounters) -> Option<u64> {
        let counter = self.counters.get(counter)?;
        let counted = if counter.running { self.counted(counter.event?, exits) } else { 0 };
        counter.event.map(|_| counter.value.wrapping_add(counted))
    }

    /// Sets a counter that does not run.
    pub fn set(&mut self, counter: usize, value: u64) {
        if let Some(place) = self.counters.get_mut(counter) {
            place.value = value;
        }
    }

    /// Starts a counter that has an event and does not run.
    pub fn start(&mut self, counter: usize, exits: &ExitCounters) {
        let Some(event) = self.event(counter) else { return };
        let counted = self.counted(event, exits);
        if let Some(place) = self.counters.get_mut(counter) {
            place.value = place.value.wrapping_sub(counted);
            place.running = true;
        }
    }

    /// Stops a counter; its value stays.
    pub fn stop(&mut self, counter: usize, exits: &ExitCounters) {
        let value = self.value(counter, exits);
        if let (Some(place), Some(value)) = (self.counters.get_mut(counter), value) {
            *place = Counter { running: false, value, ..*place };
        }
    }

    /// How often an event has happened so far.
    fn counted(&self, event: Event, exits: &ExitCounters) -> u64 {
        match event {
            Event::Cycles => self.own.cycle,
            Event::Instructions => self.own.instret,
            Event::Firmware(event) => self.happened.get(event as usize).copied().unwrap_or(0),
            Event::Exits(kind) => exits.get(kind),
        }
    }
}
