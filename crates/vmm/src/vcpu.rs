//! A virtual hart: its registers, privilege and translation. The only place that moves the pc.

use isa::{Exception, Interrupt, Privilege, Reg, TrapFrame};
use mmu::{ContextKey, Rights, ShadowMmu};
use trace::ExitCounters;

use crate::code::SiteCache;
use crate::csr::{CsrFeatures, CsrFile, SEPC_MASK};
use crate::outcome::{Fatal, Outcome, StopReason};
use crate::timer::VirtualTimer;

/// Where a hart that starts, or resumes from a non-retentive suspension, begins.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Start {
    /// Guest-physical address of its first instruction.
    pub address: u64,
    /// What a1 holds; a0 holds the hart's id.
    pub opaque: u64,
}

/// Whether a virtual hart has something to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RunState {
    /// It runs.
    Running,
    /// It waits for an interrupt that is pending and enabled in sie, then goes on.
    Waiting,
    /// As `Waiting`, but it then starts afresh (HSM's non-retentive suspension).
    Suspended(Start),
    /// Only HSM's hart_start brings it back.
    Stopped,
}

/// A virtual hart.
#[derive(Debug)]
pub struct Vcpu {
    /// Its hart id, which is also its place in the virtual machine.
    pub id: usize,
    /// Integer registers and pc.
    pub frame: TrapFrame,
    /// The mode that the guest believes it is in.
    pub privilege: Privilege,
    /// The supervisor CSRs.
    pub csr: CsrFile,
    /// The shadow page tables.
    pub shadow: ShadowMmu,
    /// The timer that the SBI sets.
    pub timer: VirtualTimer,
    /// What it is doing.
    pub state: RunState,
    /// Exits, by kind.
    pub exits: ExitCounters,
    /// Rewritten sites that it has met.
    pub(crate) sites: SiteCache,
}

impl Vcpu {
    /// A stopped hart.
    pub fn new(id: usize, features: CsrFeatures, shadow: ShadowMmu) -> Self {
        Self {
            id,
            frame: TrapFrame::default(),
            privilege: Privilege::Supervisor,
            csr: CsrFile::new(features),
            shadow,
            timer: VirtualTimer::OFF,
            state: RunState::Stopped,
            exits: ExitCounters::default(),
            sites: SiteCache::new(),
        }
    }

    /// Back to the state before its first instruction, stopped; counters stay.
    pub fn reset(&mut self) {
        self.frame = TrapFrame::default();
        self.privilege = Privilege::Supervisor;
        self.csr = CsrFile::new(*self.csr.features());
        self.shadow.clear();
        self.timer = VirtualTimer::OFF;
        self.state = RunState::Stopped;
    }

    /// Starts it. SBI spec, "Hart State Management": satp = 0, SIE = 0, a0 = hart id, a1 = opaque. A pc is even, so
    /// the address loses its last bit, as in sepc.
    pub fn start(&mut self, start: Start) {
        self.privilege = Privilege::Supervisor;
        self.csr.prepare_start();
        self.frame.pc = start.address & SEPC_MASK;
        self.frame.set(Reg::A0, self.id as u64);
        self.frame.set(Reg::A1, start.opaque);
        self.state = RunState::Running;
    }

    /// On whose behalf its loads and stores are made.
    pub fn rights(&self) -> Rights {
        Rights { privilege: self.privilege, sum: self.csr.sum(), mxr: self.csr.mxr() }
    }

    /// The translation context it runs in.
    pub fn context(&self) -> ContextKey {
        ContextKey::new(self.csr.satp(), self.rights())
    }

    /// The address in the register `base`, plus `offset`.
    pub fn effective_address(&self, base: Reg, offset: i32) -> u64 {
        self.frame.get(base).wrapping_add_signed(i64::from(offset))
    }

    /// Carries out what a handler decided.
    ///
    /// # Errors
    /// The reason, where the virtual machine ends.
    pub fn apply(&mut self, outcome: Outcome) -> Result<(), StopReason> {
        match outcome {
            Outcome::Advance(length) => self.frame.pc = self.frame.pc.wrapping_add(length),
            Outcome::Resume => {}
            Outcome::Inject(exception, value) => self.inject(exception, value)?,
            Outcome::Wait => {
                self.frame.pc = self.frame.pc.wrapping_add(4);
                self.state = RunState::Waiting;
            }
            Outcome::Stop(reason) => return Err(reason),
        }
        Ok(())
    }

    /// SRET.
    pub fn return_from_trap(&mut self) {
        let (privilege, pc) = self.csr.leave_trap();
        self.privilege = privilege;
        self.frame.pc = pc;
    }

    /// Wakes it where an interrupt ends its wait.
    pub fn wake_if_pending(&mut self) {
        if !self.csr.wakes() {
            return;
        }
        match self.state {
            RunState::Waiting => self.state = RunState::Running,
            RunState::Suspended(start) => self.start(start),
            RunState::Running | RunState::Stopped => {}
        }
    }

    /// Takes the interrupt of the highest priority, if one is to be taken now.
    pub fn take_interrupt(&mut self) {
        if let Some(interrupt) = self.csr.deliverable(self.privilege) {
            self.enter_trap(interrupt.cause(), 0);
        }
    }

    /// Raises or lowers an interrupt line.
    pub fn set_line(&mut self, interrupt: Interrupt, level: bool) {
        self.csr.set_pending(interrupt, level);
    }

    fn inject(&mut self, exception: Exception, value: u64) -> Result<(), StopReason> {
        let before = (self.csr.sepc(), self.csr.scause(), self.privilege);
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
        self.frame.pc = self.csr.enter_trap(self.privilege, self.frame.pc, cause, value);
        self.privilege = Privilege::Supervisor;
    }
}
