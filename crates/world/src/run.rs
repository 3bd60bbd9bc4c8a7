//! A hart's turns: lets the scheduler choose a guest, runs it, serves physical interrupts, and hands everything else to `vmm`.

use core::sync::atomic::Ordering;

use isa::{Interrupt, TrapInfo};
use mmu::TlbFlush;
use scheduler::{Decision, Scheduler};
use trace::{Event, ExitKind};
use vhart::RootSatp;
use vmm::sbi::sta;
use vmm::vcpu::{RunState, Vcpu};
use vmm::vm::{self, Next};
use vmm::{Host, StopReason};

use crate::control;
use crate::guest::Guest;
use crate::hart::{Hart, HartId};
use crate::host::HostAccess;
use crate::port::{HartPort, Platform};
use crate::serve::serve_sources;
use crate::status::Status;
use crate::world::World;

/// The cost of one exit in so many is measured, and counts for all of them. A power of two.
const SAMPLED: u64 = 16;

/// Why a guest does not go on at once.
enum Left {
    /// It waits for an interrupt.
    Idle,
    /// The time has come to look around.
    Due,
    /// A device of the host's interrupts.
    Interrupted,
    /// It ends.
    Ended(StopReason),
}

/// What a hart does after a turn.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Turn {
    /// It takes the next one.
    Again,
    /// It has nothing to do: it waits for an interrupt, then `has_waited`.
    Wait {
        /// When the wait begins, in ticks.
        since: u64,
    },
    /// The run ends: no hart takes a turn any more, and one of them is to `finish`.
    End(Status),
}

/// Runs the guests on one hart until the run ends for good.
pub fn run<P: Platform>(world: &mut World<P>, hart: &mut Hart<P>) -> Status {
    loop {
        match turn(world, hart) {
            Turn::Again => {}
            Turn::Wait { since } => {
                hart.port.wait_for_interrupt();
                has_waited(world, hart, since);
            }
            Turn::End(status) => {
                finish(world, hart);
                return status;
            }
        }
    }
}

/// A hart's turn: looks after what is the machine's and after its guests, then lets the scheduler choose one and runs it.
#[inline]
pub fn turn<P: Platform>(world: &mut World<P>, hart: &mut Hart<P>) -> Turn {
    if let Some(status) = world.ending {
        return Turn::End(status);
    }
    let more = world.serve_io(hart);
    let next_life = world.advance_lives(hart);
    if world.ending.is_some() {
        return Turn::Again;
    }
    let now = world.host.now();
    if world.host.console.serve_deadline(now) {
        move_console_bytes(world);
    }
    let console = world.host.console.deadline().min(next_life);
    let Some((sleepers, scheduler)) = world.wake_sleepers(hart.id) else { return Turn::Wait { since: now } };
    let wake_up = sleepers.min(console);
    let (number, until) = match scheduler.choose(now) {
        Decision::Run(entity, until) => {
            (entity, until.min(wake_up).min(world.host.console.deadline_of_guests(now)))
        }
        Decision::Idle(_) if more => return Turn::Again,
        Decision::Idle(until) => {
            if let Some(deadline) = hart.alarm.want(until.min(wake_up)) {
                hart.port.set_timer(deadline);
            }
            return Turn::Wait { since: now };
        }
    };
    enter(world, hart, number);
    match run_guest(world, hart, number, until) {
        Left::Due => {}
        Left::Idle => {
            let now = world.host.now();
            if let Some(queue) = world.queues.get_mut(hart.id) {
                queue.scheduler.sleep(number, now);
            }
            world.tell_of_complaints(number);
        }
        Left::Interrupted => serve_interrupts(world, hart),
        Left::Ended(reason) => world.ended(hart, number, reason),
    }
    Turn::Again
}

/// A hart has waited since `since`: notes that, and serves what has ended it.
pub fn has_waited<P: Platform>(world: &mut World<P>, hart: &mut Hart<P>, since: u64) {
    let waited = world.host.now().wrapping_sub(since);
    if let Some(queue) = world.queues.get_mut(hart.id) {
        queue.idle += waited;
    }
    serve_interrupts(world, hart);
}

/// The run ends: says what is still to be said, and waits for what guests have written.
pub fn finish<P: Platform>(world: &mut World<P>, hart: &mut Hart<P>) {
    (0..world.guests.len()).for_each(|number| world.tell_what_was_left_out(number));
    world.finish_io(hart);
}

impl<P: Platform> World<P> {
    /// Wakes the guests of this hart for which what they wait for has come, and gives the time, in ticks, when the next one has
    /// to be looked at; `u64::MAX` is never.
    fn wake_sleepers(&mut self, hart: HartId) -> Option<(u64, &mut Scheduler)> {
        let now = self.host.now();
        let scheduler = &mut self.queues.get_mut(hart)?.scheduler;
        let mut next = u64::MAX;
        let own = |guest: &&mut Guest| guest.hart == hart && guest.life.is_running();
        for guest in self.guests.iter_mut().filter(own) {
            let vmm::Vm { machine, vcpus, .. } = &mut guest.vm;
            for vcpu in vcpus.iter_mut().filter(|vcpu| vcpu.state != RunState::Running) {
                if vm::deadline_of_sleeper(machine, vcpu) <= now {
                    vm::tick(machine, vcpu, now);
                }
                if vm::notice(machine, vcpu) {
                    scheduler.wake(guest.entity, now);
                } else {
                    next = next.min(vm::deadline_of_sleeper(machine, vcpu));
                }
            }
        }
        Some((next, scheduler))
    }
}

/// Puts a guest's vCPU on the hart, in the place of the one that is there.
fn enter<P: Platform>(world: &mut World<P>, hart: &mut Hart<P>, number: usize) {
    world.host.serve(number);
    if hart.current != Some(number) {
        if let Some(before) = hart.current {
            world.count_for(hart, before);
            if let Some(vcpu) = world.guests.get_mut(before).and_then(|guest| guest.vm.vcpus.first_mut()) {
                hart.port.leave(&mut vcpu.frame);
            }
        }
        hart.current = Some(number);
        if let Some(vcpu) = world.guests.get_mut(number).and_then(|guest| guest.vm.vcpus.first_mut()) {
            hart.port.enter(&mut vcpu.frame, world.shares_asids);
        }
    }
    let waited = world.queues.get(hart.id).map_or(0, |queue| queue.scheduler.accounts(number).waited);
    let now = world.host.now();
    if let Some(guest) = world.guests.get_mut(number)
        && let Some(vcpu) = guest.vm.vcpus.first_mut()
    {
        sta::report(&guest.vm.machine, vcpu, waited);
        if vm::deadline(&guest.vm.machine, vcpu) <= now {
            vm::tick(&guest.vm.machine, vcpu, now);
        }
    }
}

/// Runs a guest until `until`, in ticks, at the latest.
#[inline(never)]
fn run_guest<P: Platform>(world: &mut World<P>, hart: &mut Hart<P>, number: usize, until: u64) -> Left {
    let World { host, io, guests, probes, shares_asids, recent, .. } = world;
    let port = &mut hart.port;
    recent.last.store(number, Ordering::Relaxed);
    let (Some(guest), Some(recent)) = (guests.get_mut(number), recent.guests.get(number)) else {
        return Left::Due;
    };
    let vmm::Vm { machine, vcpus, .. } = &mut guest.vm;
    let Some(vcpu) = vcpus.first_mut() else { return Left::Ended(StopReason::PowerOff) };
    // In registers while the guest runs.
    let (mut alarm, mut writes_seen) = (hart.alarm, guest.writes_seen);
    let now = host.now();
    alarm.run_begins(now);
    let until = if alarm.host_is_slow() { until.max(alarm.end_of_run(now)) } else { until };
    let mut sample = None;
    let (probes, shares_asids) = (*probes, *shares_asids);
    let watched = probes.are_on();
    let left = loop {
        let entry = match vm::prepare(machine, vcpu) {
            Next::Run(entry) => entry,
            Next::Idle => break Left::Idle,
        };
        if let Some(deadline) = alarm.want(vm::deadline(machine, vcpu).min(until)) {
            port.set_timer(vm::set_alarm(vcpu, &mut alarm, deadline, host.now()));
        }
        match entry.flush {
            TlbFlush::Nothing => {}
            TlbFlush::Address(address) => port.flush_address(address.0),
            TlbFlush::All => port.flush_all(),
        }
        let writes = machine.ram.writes();
        if writes != writes_seen {
            writes_seen = writes;
            port.fence_i();
        }
        if let Some(left_at) = sample.take() {
            vcpu.exits.charge(host.cost_clock().wrapping_sub(left_at).wrapping_mul(SAMPLED));
        }
        let pc = vcpu.frame.pc;
        // With probes, speed does not matter, and everything is measured.
        let trap = if watched || vcpu.pmu.follows_hart() {
            run_measured::<P>(port, host, vcpu, entry.root, &mut guest.executed)
        } else {
            port.run(&mut vcpu.frame, entry.root)
        };
        if port.counts().runs.is_multiple_of(SAMPLED) {
            sample = Some(host.cost_clock());
        }
        recent.record(Event { pc: vcpu.frame.pc, cause: trap.cause, value: trap.value });
        if trap.cause & Interrupt::CAUSE_BIT != 0 {
            if trap.cause != Interrupt::Timer.cause() {
                vcpu.exits.count(ExitKind::HostInterrupt);
                break Left::Interrupted;
            }
            vcpu.exits.count(ExitKind::HostTimer);
            port.silence_timer();
            let now = host.now();
            vm::time_is_up(machine, vcpu, &mut alarm, now, pc);
            if now >= until {
                break Left::Due;
            }
        } else if let Err(reason) = vm::serve(machine, vcpu, trap, host) {
            break Left::Ended(reason);
        }
        if machine.is_notified() {
            io.serve(number, machine, host);
            if io.nets.has_waiting() {
                break Left::Due;
            }
        }
        if watched && probes.are_due(port.counts().runs) {
            let (began, from) = (host.now(), host.cost_clock());
            probes.apply(port.counts().runs, port, shares_asids, machine, vcpu, &mut guest.losses);
            // That is no exit's cost, and no guest's.
            let took = host.cost_clock().wrapping_sub(from);
            sample = sample.map(|left_at| left_at.wrapping_add(took));
            if let Some(queue) = world.queues.get_mut(hart.id) {
                queue.scheduler.charge_nobody(began, host.now());
            }
        }
    };
    if let Some(left_at) = sample {
        vcpu.exits.charge(host.cost_clock().wrapping_sub(left_at).wrapping_mul(SAMPLED));
    }
    hart.alarm = alarm;
    guest.writes_seen = writes_seen;
    left
}

/// Runs a vCPU, and measures what it executes meanwhile.
#[cold]
#[inline(never)]
fn run_measured<P: Platform>(
    port: &mut P::Port,
    host: &HostAccess<P>,
    vcpu: &mut Vcpu,
    root: RootSatp,
    executed: &mut u64,
) -> TrapInfo {
    let (entered, before) = (host.cost_clock(), host.counters());
    let trap = port.run(&mut vcpu.frame, root);
    vcpu.pmu.ran(before, host.counters());
    *executed = executed.wrapping_add(host.cost_clock().wrapping_sub(entered));
    trap
}

/// Serves what interrupts the hart. Guests' timers are looked at before the next one runs.
fn serve_interrupts<P: Platform>(world: &mut World<P>, hart: &mut Hart<P>) {
    if serve_sources(world, hart) {
        control::serve(world, hart);
        move_console_bytes(world);
    }
}

/// Brings to the console what guests have written, and to them what was typed. Also of those that are not shown any
/// longer: a full console held them up while they were.
fn move_console_bytes<P: Platform>(world: &mut World<P>) {
    let World { host, guests, kicks, .. } = world;
    for (number, guest) in guests.iter_mut().enumerate() {
        host.serve(number);
        guest.vm.machine.drain_console(host);
        guest.vm.machine.feed_console(host);
        for slot in guest.vm.machine.consoles() {
            guest.vm.machine.notify(slot);
        }
        kicks.add(guest.hart);
    }
}
