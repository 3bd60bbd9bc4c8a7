//! A simulated machine: harts that play guests' programs, one clock, and the host's devices. Deterministic: the same seed gives
//! the same history.
//!
//! All harts share one clock, which goes on while a program executes and, when all harts wait, to the next event. The harts
//! take turns; each turn ends after a random time at the latest, as if another hart had kicked this one. So turns of several
//! harts overlap in time, and each of them is charged for the whole of it, as on a machine on which they run at once. What the
//! hypervisor does takes no time.

pub mod build;
pub mod devices;
pub mod driver;
pub mod program;
pub mod random;

use std::cell::RefCell;
use std::rc::Rc;

use isa::{FReg, Interrupt, TrapInfo};
use trace::HartCounts;
use vhart::{RootSatp, VcpuFrame};
use world::Platform;
use world::port::{HartPort, HartView};

use devices::{SimDisk, SimInterrupts, SimLine, SimNic};
use program::Program;
use random::Random;

/// Ticks of the timebase in a second.
pub const FREQUENCY: u64 = 10_000_000;
/// Ticks of a millisecond.
pub const MS: u64 = FREQUENCY / 1000;

/// The simulated machine.
#[derive(Debug)]
pub struct Sim;

impl Platform for Sim {
    type Port = Port;
    type View = View;
    type Interrupts = SimInterrupts;
    type Line = SimLine;
    type Disk = SimDisk;
    type Nic = SimNic;
}

/// What all parts of the machine share.
pub type Shared = Rc<RefCell<State>>;

/// A hart, as far as the machine knows it.
#[derive(Debug)]
pub struct HartState {
    /// When its timer interrupts.
    pub timer: u64,
    /// A software interrupt is pending.
    pub software: bool,
    /// What it has counted.
    counts: HartCounts,
    /// The guest whose vCPU is on it.
    current: Option<usize>,
    /// That has executed something since it came.
    has_run: bool,
}

/// The state of the machine.
#[derive(Debug)]
pub struct State {
    /// The clock, in ticks.
    pub now: u64,
    /// The harts.
    pub harts: Vec<HartState>,
    /// When the turn that is taken ends.
    pub quantum_end: u64,
    /// The line to the terminal.
    pub line: devices::LineState,
    /// The host's network interface.
    pub nic: devices::NicState,
    /// The host's disk.
    pub disk: devices::DiskState,
    /// Sources of the interrupt controller that were claimed and not completed.
    pub claimed: u32,
    /// What guests execute.
    pub programs: Vec<Program>,
    /// Where each guest's frame is: how a hart knows whom it has.
    pub frames: Vec<usize>,
    /// For all that is left to chance.
    pub random: Random,
    /// What has gone wrong.
    pub faults: Vec<String>,
}

impl State {
    /// Whether the interrupt controller interrupts, which it does to the first hart.
    fn external(&self) -> bool {
        let disk = self.disk.interrupts(self.now);
        self.claimed == 0 && (disk || self.nic.is_raised || self.line.interrupts(self.now))
    }

    /// The interrupts that are pending at a hart, as bits of sip.
    pub fn pending(&self, hart: usize) -> u64 {
        let own = &self.harts[hart];
        let mut pending = 0;
        if own.timer <= self.now {
            pending |= Interrupt::Timer.mask();
        }
        if own.software {
            pending |= Interrupt::Software.mask();
        }
        if hart == 0 && self.external() {
            pending |= Interrupt::External.mask();
        }
        pending
    }

    /// When a device's interrupt comes, if it is not there yet.
    pub fn next_device_event(&self) -> u64 {
        if self.external() { self.now } else { self.line.next_event(self.now).min(self.disk.next_event()) }
    }
}

/// What can be read of the hart.
#[derive(Clone, Debug)]
pub struct View(pub Shared);

impl HartView for View {
    fn now(&self) -> u64 {
        self.0.borrow().now
    }

    fn cycle(&self) -> u64 {
        self.0.borrow().now * 100
    }

    fn instret(&self) -> u64 {
        self.0.borrow().now * 50
    }

    fn fp_read(&self, _: FReg) -> u64 {
        0
    }

    fn fp_write(&self, _: FReg, _: u64) {}
}

/// A hart.
#[derive(Debug)]
pub struct Port {
    /// The machine.
    pub state: Shared,
    /// Which one it is.
    pub id: usize,
}

impl HartPort for Port {
    fn enter(&mut self, frame: &mut VcpuFrame, _: bool) {
        let mut state = self.state.borrow_mut();
        let place = core::ptr::from_ref(frame) as usize;
        let guest = state.frames.iter().position(|frame| *frame == place);
        let elsewhere = state.harts.iter().position(|hart| guest.is_some() && hart.current == guest);
        if let Some(other) = elsewhere.filter(|other| *other != self.id) {
            state.faults.push(format!("guest {guest:?} enters hart {} while it is on hart {other}", self.id));
        }
        let hart = &mut state.harts[self.id];
        hart.current = guest;
        hart.has_run = false;
    }

    fn leave(&mut self, _: &mut VcpuFrame) {
        self.state.borrow_mut().harts[self.id].current = None;
    }

    fn run(&mut self, frame: &mut VcpuFrame, _: RootSatp) -> TrapInfo {
        let mut state = self.state.borrow_mut();
        let state = &mut *state;
        let hart = &mut state.harts[self.id];
        hart.counts.runs += 1;
        let Some(guest) = hart.current else {
            panic!("hart {} runs, and no vCPU is on it", self.id);
        };
        assert_eq!(
            state.frames[guest],
            core::ptr::from_ref(frame) as usize,
            "another frame than was entered"
        );
        let timer = hart.timer;
        let device = if self.id == 0 { state.next_device_event() } else { u64::MAX };
        let until = timer.min(state.quantum_end).min(device);
        let interrupt = |interrupt: Interrupt| TrapInfo { cause: interrupt.cause(), value: 0 };
        if state.pending(self.id) == 0 && state.now < until {
            if frame.pc == program::ENTRY && state.harts[self.id].has_run {
                // It would go on with the floating-point registers of the life before.
                state
                    .faults
                    .push(format!("guest {guest} begins a life on hart {} without entering it", self.id));
            }
            let under_way = state.disk.of_guest(guest);
            if frame.pc == program::ENTRY && under_way > 0 {
                let now = state.now;
                state.faults.push(format!("{now}: guest {guest} begins with {under_way} requests under way"));
            }
            let program = &mut state.programs[guest];
            let trap = program.run(frame, &mut state.now, until, &mut state.random, &mut state.faults);
            state.harts[self.id].has_run = frame.pc != program::ENTRY;
            if let Some(trap) = trap {
                return trap;
            }
        }
        // The guest was interrupted.
        let pending = state.pending(self.id);
        if pending & Interrupt::External.mask() != 0 {
            interrupt(Interrupt::External)
        } else if pending & Interrupt::Timer.mask() != 0 {
            interrupt(Interrupt::Timer)
        } else {
            state.harts[self.id].software = true;
            interrupt(Interrupt::Software)
        }
    }

    fn flush_all(&mut self) {
        self.state.borrow_mut().harts[self.id].counts.flushes_all += 1;
    }

    fn flush_address(&mut self, _: u64) {
        self.state.borrow_mut().harts[self.id].counts.flushes_address += 1;
    }

    fn fence_i(&mut self) {}

    fn set_timer(&mut self, deadline: u64) {
        self.state.borrow_mut().harts[self.id].timer = deadline;
    }

    fn silence_timer(&mut self) {
        self.set_timer(u64::MAX);
    }

    fn pending_interrupts(&self) -> u64 {
        self.state.borrow().pending(self.id)
    }

    fn clear_software_interrupt(&mut self) {
        self.state.borrow_mut().harts[self.id].software = false;
    }

    /// Only at the end of the run, when no other hart takes a turn: time goes on to the next event.
    fn wait_for_interrupt(&mut self) {
        let mut state = self.state.borrow_mut();
        if state.pending(self.id) == 0 {
            let next = state.harts[self.id].timer.min(state.next_device_event());
            assert!(next != u64::MAX, "hart {} waits for ever", self.id);
            state.now = state.now.max(next);
        }
    }

    fn counts(&self) -> HartCounts {
        self.state.borrow().harts[self.id].counts
    }
}

impl HartState {
    /// A hart on which there is nothing.
    pub fn new() -> Self {
        Self {
            timer: u64::MAX,
            software: false,
            counts: HartCounts::default(),
            current: None,
            has_run: false,
        }
    }
}
