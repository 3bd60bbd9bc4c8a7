//! A virtual hart: its registers, privilege and translation. The only place that moves the pc.

use isa::csr::scounteren;
use isa::{Exception, Interrupt, Privilege, Reg};
use memory::GuestPhysAddr;
use mmu::{ContextKey, Rights, ShadowMmu};
use serde::{Deserialize, Serialize};
use trace::ExitCounters;
use vhart::{CsrFeatures, VcpuFrame};

use crate::caches::Caches;
use crate::outcome::{Fatal, Outcome, StopReason};
use crate::pmu::{CYCLE, INSTRET, Pmu};
use crate::steal::StealTime;
use crate::timer::VirtualTimer;

/// Where a hart that starts, or resumes from a non-retentive suspension, begins.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Start {
    /// Guest-physical address of its first instruction.
    pub address: u64,
    /// What a1 holds; a0 holds the hart's id.
    pub opaque: u64,
}

/// Whether a virtual hart has something to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum RunState {
    /// It runs.
    Running,
    /// It waits for an interrupt that is pending and enabled in sie, then goes on.
    Waiting,
    /// As `Waiting`, but it then starts afresh (HSM's non-retentive suspension).
    Suspended(Start),
    /// It runs, but not before this time, in ticks.
    Held(u64),
    /// Only HSM's hart_start brings it back.
    Stopped,
}

/// A virtual hart.
#[derive(Debug)]
pub struct Vcpu {
    /// Its hart id, which is also its place in the virtual machine.
    pub id: usize,
    /// Registers, privilege and CSRs; and in `fast` the caches that the assembly reads.
    pub frame: VcpuFrame,
    /// All other caches. What follows, and is no cache, `state` saves and restores.
    pub caches: Caches,
    /// The timer that the SBI sets.
    pub timer: VirtualTimer,
    /// What it is doing.
    pub state: RunState,
    /// Exits, by kind.
    pub exits: ExitCounters,
    /// Rewritten sites that had to be put into the frame's table.
    pub site_misses: u64,
    /// The time that others had while it would have run.
    pub steal: StealTime,
    /// Its performance counters.
    pub pmu: Pmu,
    /// The page in which the guest wants to find their values.
    pub(crate) pmu_snapshot: Option<GuestPhysAddr>,
    /// Bytes that a console write by the SBI, which is made again until it is done, has written.
    pub(crate) console_sent: u64,
}

impl Vcpu {
    /// A stopped hart.
    pub fn new(id: usize, features: CsrFeatures, shadow: ShadowMmu) -> Self {
        Self {
            id,
            frame: VcpuFrame::new(features),
            caches: Caches::new(shadow),
            timer: VirtualTimer::OFF,
            state: RunState::Stopped,
            exits: ExitCounters::default(),
            site_misses: 0,
            steal: StealTime::default(),
            pmu: Pmu::default(),
            pmu_snapshot: None,
            console_sent: 0,
        }
    }

    /// Back to the state before its first instruction, stopped; counters stay.
    pub fn reset(&mut self) {
        self.frame.reset();
        self.drop_caches();
        self.timer = VirtualTimer::OFF;
        self.steal.stop();
        self.pmu.reset();
        self.pmu_snapshot = None;
        self.console_sent = 0;
        self.virtualise_counters();
        self.state = RunState::Stopped;
    }

    /// Drops all that it remembers to be fast; it goes on as it would have, more slowly. At any instruction boundary, that is,
    /// whenever it does not run: *droppable-caches*.
    pub fn drop_caches(&mut self) {
        self.caches.drop_all(&mut self.frame);
    }

    /// Starts it, as firmware hands a hart over.
    pub fn start(&mut self, start: Start) {
        self.frame.hand_over(start.address, self.id as u64, start.opaque);
        self.state = RunState::Running;
    }

    /// Lets user mode read the hart's own counters only where they are not programmed: their values are not the hart's then.
    pub(crate) fn virtualise_counters(&mut self) {
        let programmed = [(CYCLE, scounteren::CY), (INSTRET, scounteren::IR)];
        let programmed = programmed.into_iter().filter(|(counter, _)| self.pmu.event(*counter).is_some());
        self.frame.csr.set_virtual_counters(programmed.fold(0, |all, (_, bit)| all | bit));
    }

    /// On whose behalf its loads and stores are made.
    pub fn rights(&self) -> Rights {
        Rights { privilege: self.frame.privilege, sum: self.frame.csr.sum(), mxr: self.frame.csr.mxr() }
    }

    /// The translation context it runs in.
    pub fn context(&self) -> ContextKey {
        ContextKey::new(self.frame.csr.satp(), self.rights())
    }

    /// The address in the register `base`, plus `offset`.
    pub fn effective_address(&self, base: Reg, offset: i32) -> u64 {
        self.frame.get(base).wrapping_add_signed(i64::from(offset))
    }

    /// Carries out what a handler decided. Only this file moves the pc: *one-pc*.
    ///
    /// # Errors
    /// The reason, where the virtual machine ends.
    #[inline]
    pub fn apply(&mut self, outcome: Outcome) -> Result<(), StopReason> {
        match outcome {
            // Nearly all of them. With the rare ones apart, the compiler makes no jump through a table of this, which would cost
            // more than the addition.
            Outcome::Advance(length) => self.frame.pc = self.frame.pc.wrapping_add(length),
            Outcome::Resume => {}
            Outcome::Inject(exception, value) => return self.inject(exception, value),
            Outcome::Wait | Outcome::Stop(_) => return self.pause(outcome),
        }
        Ok(())
    }

    #[inline(never)]
    fn pause(&mut self, outcome: Outcome) -> Result<(), StopReason> {
        if let Outcome::Stop(reason) = outcome {
            return Err(reason);
        }
        self.frame.pc = self.frame.pc.wrapping_add(4);
        // WFI may end at any time, and a pause may not.
        if self.state == RunState::Running {
            self.state = RunState::Waiting;
        }
        // It has nothing to do but to wait.
        self.timer.went_on();
        Ok(())
    }

    /// SRET.
    pub fn return_from_trap(&mut self) {
        let (privilege, pc) = self.frame.csr.leave_trap();
        self.frame.privilege = privilege;
        self.frame.pc = pc;
    }

    /// Wakes it where an interrupt ends its wait.
    pub fn wake_if_pending(&mut self) {
        if !self.frame.csr.wakes() {
            return;
        }
        match self.state {
            RunState::Waiting => self.state = RunState::Running,
            RunState::Suspended(start) => self.start(start),
            RunState::Running | RunState::Held(_) | RunState::Stopped => {}
        }
    }

    /// Ends a pause that is over at `now`.
    pub(crate) fn end_pause(&mut self, now: u64) {
        if self.state_deadline() <= now {
            self.state = RunState::Running;
        }
    }

    /// When its state changes by itself, in ticks; `u64::MAX` is never.
    pub fn state_deadline(&self) -> u64 {
        if let RunState::Held(until) = self.state { until } else { u64::MAX }
    }

    /// Takes the interrupt of the highest priority, if one is to be taken now and is not held back.
    pub fn take_interrupt(&mut self) {
        if let Some(interrupt) = self.frame.csr.deliverable(self.frame.privilege) {
            // Firmware is at work, which is not interrupted.
            if self.console_sent != 0 {
                return;
            }
            if interrupt != Interrupt::Timer {
                self.timer.hold_anew();
            } else if self.timer.holds_back() {
                return;
            }
            self.enter_trap(interrupt.cause(), 0);
        }
    }

    /// Whether a timer interrupt that becomes pending would be taken at once.
    pub(crate) fn lets_timer_in(&self) -> bool {
        self.frame.csr.lets_in(Interrupt::Timer, self.frame.privilege)
    }

    /// Raises or lowers an interrupt line.
    pub fn set_line(&mut self, interrupt: Interrupt, level: bool) {
        self.frame.csr.set_pending(interrupt, level);
    }

    fn inject(&mut self, exception: Exception, value: u64) -> Result<(), StopReason> {
        let before = (self.frame.csr.sepc(), self.frame.csr.scause(), self.frame.privilege);
        let address = self.frame.pc;
        let cause = exception.code();
        self.enter_trap(cause, value);
        // The handler's first instruction raised what it was entered for: nothing it does could change that.
        if self.frame.pc == address && before == (address, cause, Privilege::Supervisor) {
            return Err(StopReason::Fatal(Fatal::TrapVectorUnreachable { cause, address }));
        }
        Ok(())
    }

    fn enter_trap(&mut self, cause: u64, value: u64) {
        self.frame.pc = self.frame.csr.enter_trap(self.frame.privilege, self.frame.pc, cause, value);
        self.frame.privilege = Privilege::Supervisor;
    }
}
