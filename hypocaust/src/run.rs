//! The loop: lets the scheduler choose a guest, runs it, serves physical interrupts, and hands everything else to `vmm`.

use core::fmt::Write;
use core::sync::atomic::{AtomicUsize, Ordering};

use hart::Hart;
use isa::{Interrupt, TrapInfo};
use mmu::TlbFlush;
use scheduler::Decision;
use trace::{Event, ExitKind, Ring};
use vhart::RootSatp;
use vmm::sbi::sta;
use vmm::vcpu::{RunState, Vcpu};
use vmm::vm::{self, Next};
use vmm::{Host, StopReason};

use crate::control;
use crate::finish::Status;
use crate::host::RealHost;
use crate::world::World;

/// The last exits of each guest, where the epitaph finds them.
static RECENT: [Ring; bundle::MAX_VMS] = [const { Ring::new() }; bundle::MAX_VMS];
/// The guest that ran last.
static LAST: AtomicUsize = AtomicUsize::new(0);

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

/// Runs the guests until the run ends for good.
pub fn run(world: &mut World) -> Status {
    loop {
        if let Some(status) = world.ending {
            (0..world.guests.len()).for_each(|number| world.tell_what_was_left_out(number));
            world.finish_io();
            return status;
        }
        let more = world.serve_io();
        let next_life = world.advance_lives();
        if world.ending.is_some() {
            continue;
        }
        let now = world.host.now();
        if world.host.console.serve_deadline(now) {
            move_console_bytes(world);
        }
        let wake_up = world.wake_sleepers().min(next_life).min(world.host.console.deadline());
        let (number, until) = match world.scheduler.choose(now) {
            Decision::Run(entity, until) => {
                (entity, until.min(wake_up).min(world.host.console.deadline_of_guests(now)))
            }
            Decision::Idle(_) if more => continue,
            Decision::Idle(until) => {
                if let Some(deadline) = world.alarm.want(until.min(wake_up)) {
                    world.hart.set_timer(deadline);
                }
                world.hart.wait_for_interrupt();
                world.idle += world.host.now().wrapping_sub(now);
                serve_interrupts(world);
                continue;
            }
        };
        enter(world, number);
        match run_guest(world, number, until) {
            Left::Due => {}
            Left::Idle => {
                let now = world.host.now();
                world.scheduler.sleep(number, now);
                world.tell_of_complaints(number);
            }
            Left::Interrupted => serve_interrupts(world),
            Left::Ended(reason) => world.ended(number, reason),
        }
    }
}

impl World {
    /// Wakes the guests for which what they wait for has come, and gives the time, in ticks, when the next one has to be
    /// looked at; `u64::MAX` is never.
    fn wake_sleepers(&mut self) -> u64 {
        let now = self.host.now();
        let mut next = u64::MAX;
        for guest in self.guests.iter_mut().filter(|guest| guest.life.is_running()) {
            let vmm::Vm { machine, vcpus, .. } = &mut guest.vm;
            for vcpu in vcpus.iter_mut().filter(|vcpu| vcpu.state != RunState::Running) {
                if vm::deadline_of_sleeper(machine, vcpu) <= now {
                    vm::tick(machine, vcpu, now);
                }
                if vm::notice(machine, vcpu) {
                    self.scheduler.wake(guest.entity, now);
                } else {
                    next = next.min(vm::deadline_of_sleeper(machine, vcpu));
                }
            }
        }
        next
    }
}

/// Puts a guest's vCPU on the hart, in the place of the one that is there.
fn enter(world: &mut World, number: usize) {
    if world.current != Some(number) {
        if let Some(before) = world.current {
            world.count_for(before);
            if let Some(vcpu) = world.guests.get_mut(before).and_then(|guest| guest.vm.vcpus.first_mut()) {
                world.hart.leave(&mut vcpu.frame);
            }
        }
        world.current = Some(number);
        world.host.serve(number);
        if let Some(vcpu) = world.guests.get_mut(number).and_then(|guest| guest.vm.vcpus.first_mut()) {
            world.hart.enter(&mut vcpu.frame, world.shares_asids);
        }
    }
    let waited = world.scheduler.accounts(number).waited;
    let now = world.host.now();
    if let Some(guest) = world.guests.get_mut(number)
        && let Some(vcpu) = guest.vm.vcpus.first_mut()
    {
        sta::report(&guest.vm.machine, vcpu, waited);
        if vm::deadline(&guest.vm.machine, vcpu) <= now {
            vm::tick(&mut guest.vm.machine, vcpu, now);
        }
    }
}

/// Runs a guest until `until`, in ticks, at the latest.
#[inline(never)]
fn run_guest(world: &mut World, number: usize, until: u64) -> Left {
    let World { hart, host, io, guests, check_every, .. } = world;
    let (Some(guest), Some(recent)) = (guests.get_mut(number), RECENT.get(number)) else { return Left::Due };
    LAST.store(number, Ordering::Relaxed);
    let vmm::Vm { machine, vcpus, .. } = &mut guest.vm;
    let Some(vcpu) = vcpus.first_mut() else { return Left::Ended(StopReason::PowerOff) };
    // In registers while the guest runs.
    let (mut alarm, mut writes_seen) = (world.alarm, guest.writes_seen);
    let now = host.now();
    alarm.run_begins(now);
    let until = if alarm.host_is_slow() { until.max(alarm.end_of_run(now)) } else { until };
    let mut sample = None;
    let watched = *check_every != 0;
    let left = loop {
        let entry = match vm::prepare(machine, vcpu) {
            Next::Run(entry) => entry,
            Next::Idle => break Left::Idle,
        };
        if let Some(deadline) = alarm.want(vm::deadline(machine, vcpu).min(until)) {
            hart.set_timer(vm::set_alarm(vcpu, &mut alarm, deadline, host.now()));
        }
        match entry.flush {
            TlbFlush::Nothing => {}
            TlbFlush::Address(address) => hart.flush_address(address.0),
            TlbFlush::All => hart.flush_all(),
        }
        let writes = machine.ram.writes();
        if writes != writes_seen {
            writes_seen = writes;
            hart.fence_i();
        }
        if let Some(left_at) = sample.take() {
            vcpu.exits.charge(host.cost_clock().wrapping_sub(left_at).wrapping_mul(SAMPLED));
        }
        let pc = vcpu.frame.pc;
        // With the scanner on, speed does not matter, and everything is measured.
        let trap = if watched || vcpu.pmu.follows_hart() {
            run_measured(hart, host, vcpu, entry.root, &mut guest.executed)
        } else {
            hart.run(&mut vcpu.frame, entry.root)
        };
        if hart.counts().runs.is_multiple_of(SAMPLED) {
            sample = Some(host.cost_clock());
        }
        recent.record(Event { pc: vcpu.frame.pc, cause: trap.cause, value: trap.value });
        if trap.cause & Interrupt::CAUSE_BIT != 0 {
            if trap.cause != Interrupt::Timer.cause() {
                vcpu.exits.count(ExitKind::HostInterrupt);
                break Left::Interrupted;
            }
            vcpu.exits.count(ExitKind::HostTimer);
            hart.silence_timer();
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
        if watched && hart.counts().runs.is_multiple_of(u64::from(*check_every)) {
            let (began, from) = (host.now(), host.cost_clock());
            if let Err(violation) = mmu::check::check(&vcpu.shadow, &machine.ram) {
                panic!("{violation}");
            }
            if let Some(root) = vm::foreign_root(vcpu) {
                panic!("invariant own-root broken: the assembly may write {root:?}");
            }
            // That is no exit's cost, and no guest's.
            let took = host.cost_clock().wrapping_sub(from);
            sample = sample.map(|left_at| left_at.wrapping_add(took));
            world.scheduler.charge_nobody(began, host.now());
        }
    };
    if let Some(left_at) = sample {
        vcpu.exits.charge(host.cost_clock().wrapping_sub(left_at).wrapping_mul(SAMPLED));
    }
    world.alarm = alarm;
    guest.writes_seen = writes_seen;
    left
}

/// Runs a vCPU, and measures what it executes meanwhile.
#[cold]
#[inline(never)]
fn run_measured(
    hart: &mut Hart,
    host: &RealHost,
    vcpu: &mut Vcpu,
    root: RootSatp,
    executed: &mut u64,
) -> TrapInfo {
    let (entered, before) = (host.cost_clock(), host.counters());
    let trap = hart.run(&mut vcpu.frame, root);
    vcpu.pmu.ran(before, host.counters());
    *executed = executed.wrapping_add(host.cost_clock().wrapping_sub(entered));
    trap
}

/// Serves what interrupts the hart. Guests' timers are looked at before the next one runs.
fn serve_interrupts(world: &mut World) {
    if serve_sources(world) {
        control::serve(world);
        move_console_bytes(world);
    }
}

/// The same, but for what the operator has typed; whether there may be something.
pub fn serve_sources(world: &mut World) -> bool {
    let World { hart, host, interrupts, io, guests, alarm, scheduler, .. } = world;
    let pending = hart.pending_interrupts();
    if pending & Interrupt::Timer.mask() != 0 {
        hart.silence_timer();
        alarm.went_off();
    }
    if pending & Interrupt::Software.mask() != 0 {
        hart.clear_software_interrupt();
    }
    let mut was_console = false;
    if pending & Interrupt::External.mask() != 0
        && let Some(interrupts) = interrupts
    {
        let mut from = host.now();
        while let Some(source) = interrupts.plic.claim() {
            let whose = if Some(source) == interrupts.console {
                host.console.serve_interrupt();
                was_console = true;
                Some(host.console.shown())
            } else {
                let whose = io.nets.serve_interrupt(source, guests, from);
                whose.or_else(|| io.disks.serve_interrupt(source, guests, host))
            };
            interrupts.plic.complete(source);
            // The one that it was for pays, not the one that runs.
            let now = host.now();
            if let Some(guest) = whose {
                scheduler.charge_for(guest, from, now);
            }
            from = now;
        }
    }
    was_console
}

/// Brings to the console what guests have written, and to them what was typed. Also of those that are not shown any
/// longer: a full console held them up while they were.
fn move_console_bytes(world: &mut World) {
    let World { host, guests, current, .. } = world;
    for (number, guest) in guests.iter_mut().enumerate() {
        host.serve(number);
        guest.vm.machine.drain_console(host);
        guest.vm.machine.feed_console(host);
        for slot in guest.vm.machine.consoles() {
            guest.vm.machine.notify(slot);
        }
    }
    if let Some(current) = current {
        host.serve(*current);
    }
}

/// A guest's last exits, the oldest first.
pub fn recent(number: usize) -> impl Iterator<Item = Event> {
    RECENT.get(number).into_iter().flat_map(Ring::iter)
}

/// What a panic says of the guest that ran last.
pub fn epitaph(to: &mut impl Write) {
    let last = LAST.load(Ordering::Relaxed);
    let _ = writeln!(to, "hypocaust: the last exits of guest {}, the latest last:", last + 1);
    for Event { pc, cause, value } in recent(last) {
        let _ = writeln!(to, "  pc {pc:#018x} scause {cause:#018x} stval {value:#018x}");
    }
    if let Some(frame) = hart::last_frame() {
        let _ = writeln!(to, "hypocaust: the guest's registers:\n{frame}");
    }
}
