//! The real hart as virtual machines see it.

use alloc::format;
use core::fmt;

use isa::FReg;
use vmm::Host;
use vmm::pmu::HartCounters;

use crate::console::Console;

/// The real hart and the operator's console.
#[derive(Debug)]
pub struct RealHost {
    /// The operator's console.
    pub console: Console,
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

impl RealHost {
    /// The host with this console.
    pub const fn new(console: Console, counters: bool, log_level: u8) -> Self {
        Self { console, serving: 0, counters, log_level }
    }

    /// What is done from now on is done for this guest.
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
        if self.counters { hart::time::cycle() } else { 0 }
    }

    /// Tells the operator something, where the log level lets it.
    pub fn say(&mut self, level: Level, message: fmt::Arguments) {
        if level as u8 <= self.log_level {
            self.console.say(&format!("hypocaust: {message}\n"));
        }
    }
}

impl Host for RealHost {
    #[inline]
    fn now(&self) -> u64 {
        hart::time::now()
    }

    // A hart without counters to read shows the time: like them, it never goes backwards.
    fn cycle(&self) -> u64 {
        if self.counters { hart::time::cycle() } else { hart::time::now() }
    }

    fn instret(&self) -> u64 {
        if self.counters { hart::time::instret() } else { hart::time::now() }
    }

    fn console_write(&mut self, bytes: &[u8]) -> usize {
        self.console.write(self.serving, bytes)
    }

    fn console_read(&mut self) -> Option<u8> {
        self.console.read(self.serving)
    }

    fn fp_read(&mut self, register: FReg) -> u64 {
        hart::float::read(register)
    }

    fn fp_write(&mut self, register: FReg, value: u64) {
        hart::float::write(register, value);
    }
}
