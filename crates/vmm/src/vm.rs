//! A virtual machine as a whole: started, reset, and brought from one exit to the next.

use alloc::string::String;
use alloc::vec::Vec;

use entropy::Stream;
use isa::{Interrupt, TrapInfo};
use memory::{GuestPhysAddr, NotRam};
use mmu::TlbFlush;
use vhart::RootSatp;

use crate::code;
use crate::exit;
use crate::fast;
use crate::host::Host;
use crate::link::HartState;
use crate::machine::Machine;
use crate::outcome::StopReason;
use crate::pmu::FirmwareEvent;
use crate::timer::Alarm;
use crate::vcpu::{RunState, Start, Vcpu};

/// A virtual machine.
#[derive(Debug)]
pub struct Vm {
    /// Its name in the manifest.
    pub name: String,
    /// What its harts share.
    pub machine: Machine,
    /// Its harts; the number of each is its hart id.
    pub vcpus: Vec<Vcpu>,
    boot: Boot,
}

/// How a virtual machine starts, again and again.
#[derive(Debug)]
pub struct Boot {
    /// The first instruction.
    pub entry: u64,
    /// Where the device tree goes.
    pub tree_address: GuestPhysAddr,
    /// The device tree.
    pub tree: Vec<u8>,
    /// What its `rng-seed` is filled with at each start, as firmware does: a guest that is reset must not draw the
    /// same random numbers again.
    pub seeds: Stream,
}

/// What a vCPU does next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Next {
    /// It runs, with this hardware state.
    Run(Entry),
    /// It has nothing to do until an interrupt.
    Idle,
}

/// The hardware state that a vCPU runs with, beside its frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Entry {
    /// The shadow root, for the real satp.
    pub root: RootSatp,
    /// What the TLB must forget first.
    pub flush: TlbFlush,
}

impl Vm {
    /// A machine that has not been started.
    pub const fn new(name: String, machine: Machine, vcpus: Vec<Vcpu>, boot: Boot) -> Self {
        Self { name, machine, vcpus, boot }
    }

    /// Starts it as firmware does after power-on: memory as the bundle has it, devices initialized, hart 0 at the
    /// kernel's entry with a0 = 0 and a1 = the device tree.
    ///
    /// # Errors
    /// Where the device tree does not lie in RAM.
    pub fn start(&mut self) -> Result<(), NotRam> {
        self.machine.reset();
        self.machine.with_board(|board| board.initialize());
        self.vcpus.iter_mut().for_each(Vcpu::reset);
        if let Some(seed) = devicetree::rng_seed_mut(&mut self.boot.tree) {
            self.boot.seeds.fill(seed);
        }
        self.machine.ram.write(self.boot.tree_address, &self.boot.tree)?;
        if let (Some(vcpu), Some(link)) = (self.vcpus.first_mut(), self.machine.links.first()) {
            link.set_state(HartState::Started);
            vcpu.start(Start { address: self.boot.entry, opaque: self.boot.tree_address.0 });
        }
        Ok(())
    }
}

/// Brings a vCPU to the point where it runs: takes over what reached it from outside, wakes it, and delivers the
/// interrupt of the highest priority.
#[inline]
pub fn prepare(machine: &Machine, vcpu: &mut Vcpu) -> Next {
    if !notice(machine, vcpu) {
        return Next::Idle;
    }
    vcpu.take_interrupt();
    let root = fast::root(machine, vcpu);
    code::follow_watches(machine, vcpu);
    Next::Run(Entry { root, flush: vcpu.caches.shadow.take_flush() })
}

/// A root that the assembly may go on under and that is none of the vCPU's own, as a value for the real satp: *own-root* is
/// broken, by a bug of ours.
pub fn foreign_root(vcpu: &Vcpu) -> Option<RootSatp> {
    fast::foreign_root(vcpu)
}

/// Takes over what reached a vCPU from outside, and wakes it where that ends its wait; says whether it has something to do.
#[inline(always)]
pub fn notice(machine: &Machine, vcpu: &mut Vcpu) -> bool {
    if let Some(link) = machine.links.get(vcpu.id)
        && link.take_mail()
    {
        if link.take_software_interrupt() {
            vcpu.pmu.count(FirmwareEvent::IpiReceived);
            vcpu.set_line(Interrupt::Software, true);
        }
        if link.take_fence() {
            code::drop_all(machine, vcpu);
        }
        vcpu.set_line(Interrupt::External, machine.external_interrupt(vcpu.id));
    }
    code::follow_own_writes(machine, vcpu);
    if vcpu.state != RunState::Running {
        vcpu.wake_if_pending();
    }
    vcpu.state == RunState::Running
}

/// Serves the exception that ended a vCPU's run.
///
/// # Errors
/// The reason, where the virtual machine ends.
#[inline]
pub fn serve(
    machine: &Machine,
    vcpu: &mut Vcpu,
    trap: TrapInfo,
    host: &mut impl Host,
) -> Result<(), StopReason> {
    let outcome = exit::handle(machine, vcpu, trap, host);
    vcpu.apply(outcome)
}

/// What the real timer is set to for a vCPU that runs from `now` on: `deadline`, or the end of the short run for which its
/// timer interrupt is held back from now on.
pub fn set_alarm(vcpu: &mut Vcpu, alarm: &mut Alarm, deadline: u64, now: u64) -> u64 {
    alarm.run_begins(now);
    if vcpu.timer.held_until() != 0 {
        return deadline;
    }
    let until = alarm.end_of_run(now);
    vcpu.timer.hold(until);
    alarm.set(until)
}

/// Serves the timer interrupt that ended a vCPU's run, at `now`; the run began at `pc`.
pub fn time_is_up(machine: &Machine, vcpu: &mut Vcpu, alarm: &mut Alarm, now: u64, pc: u64) {
    let had_its_chance = alarm.ended_run(now, vcpu.frame.pc != pc);
    vcpu.timer.set_host_is_slow(alarm.host_is_slow());
    // Where interrupts are shut out that were let in, the guest has come to an instruction.
    let went_on = if vcpu.lets_timer_in() { had_its_chance } else { vcpu.timer.is_held() };
    if went_on {
        vcpu.timer.went_on();
    } else {
        vcpu.timer.hold_anew();
    }
    tick(machine, vcpu, now);
}

/// Lets the timers of a vCPU and of the devices notice the time.
pub fn tick(machine: &Machine, vcpu: &mut Vcpu, now: u64) {
    if vcpu.timer.is_due(now) {
        vcpu.set_line(Interrupt::Timer, true);
    }
    vcpu.end_pause(now);
    machine.tick(now);
}

/// When `tick` is wanted next by a vCPU that does not run, in ticks; `u64::MAX` is never.
pub fn deadline_of_sleeper(machine: &Machine, vcpu: &Vcpu) -> u64 {
    deadline(machine, vcpu).min(vcpu.state_deadline())
}

/// When `tick` is wanted next by a vCPU that runs, in ticks; `u64::MAX` is never.
#[inline]
pub fn deadline(machine: &Machine, vcpu: &Vcpu) -> u64 {
    let timer = if vcpu.frame.csr.is_pending(Interrupt::Timer) {
        vcpu.timer.held_until()
    } else {
        vcpu.timer.deadline()
    };
    timer.min(machine.deadline())
}
