//! The host as virtual machines see it: a hart's clocks and registers, and the operator's console.

use alloc::format;
use core::fmt;

use isa::FReg;
use vmm::Host;
use vmm::pmu::HartCounters;

use crate::console::Console;
use crate::port::{HartView, Platform};

/// What virtual machines see of the host.
pub struct HostAccess<P: Platform> {
    /// The operator's console.
    pub console: Console<P>,
    /// The hart.
    view: P::View,
    /// The number of the guest that is served now, whose the console is.
    serving: usize,
    /// Whether the hart's cycle and instret can be read.
    counters: bool,
    log_level: u8,
}

/// How loud a message is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[repr(u8)]
pub enum Level {
    /// Something does not work.
    Error = 0,
    /// Something works, but not as its user may expect.
    Warning = 1,
    /// What starts and ends.
    Info = 2,
    /// Exit counters.
    Counters = 3,
}

impl<P: Platform> HostAccess<P> {
    /// The host with this console. `counters` is whether its harts' cycle and instret can be read.
    pub const fn new(console: Console<P>, view: P::View, counters: bool, log_level: u8) -> Self {
        Self { console, view, serving: 0, counters, log_level }
    }

    /// What is done from now on is done for this guest. Whoever works for another one says so first.
    pub const fn serve(&mut self, guest: usize) {
        self.serving = guest;
    }

    /// How loud a message may be.
    pub const fn log_level(&self) -> u8 {
        self.log_level
    }

    /// Sets how loud a message may be.
    pub const fn set_log_level(&mut self, level: u8) {
        self.log_level = level;
    }

    /// Whether [`Self::cost_clock`] counts.
    pub const fn counts_cycles(&self) -> bool {
        self.counters
    }

    /// The hart's counters, of which a guest has its share.
    pub fn counters(&self) -> HartCounters {
        HartCounters { cycle: self.cycle(), instret: self.instret() }
    }

    /// The hart's cycles, to measure costs with; 0 on a hart where reading them would cost a trap.
    #[inline]
    pub fn cost_clock(&self) -> u64 {
        if self.counters { self.view.cycle() } else { 0 }
    }

    /// Tells the operator something, where the log level lets it.
    pub fn say(&mut self, level: Level, message: fmt::Arguments) {
        if level as u8 <= self.log_level {
            self.console.say(&format!("hypocaust: {message}\n"));
        }
    }
}

impl<P: Platform> Host for HostAccess<P> {
    #[inline]
    fn now(&self) -> u64 {
        self.view.now()
    }

    // A hart without counters to read shows the time: like them, it never goes backwards.
    fn cycle(&self) -> u64 {
        if self.counters { self.view.cycle() } else { self.view.now() }
    }

    fn instret(&self) -> u64 {
        if self.counters { self.view.instret() } else { self.view.now() }
    }

    fn console_write(&mut self, bytes: &[u8]) -> usize {
        self.console.write(self.serving, bytes)
    }

    fn console_read(&mut self) -> Option<u8> {
        self.console.read(self.serving)
    }

    fn fp_read(&mut self, register: FReg) -> u64 {
        self.view.fp_read(register)
    }

    fn fp_write(&mut self, register: FReg, value: u64) {
        self.view.fp_write(register, value);
    }
}
