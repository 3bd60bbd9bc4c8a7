//! The loop: runs the guest, serves physical interrupts, and hands everything else to `vmm`.

use core::fmt::Write;

use bundle::OnReset;
use isa::Interrupt;
use mmu::TlbFlush;
use trace::{Event, ExitKind, Ring};
use vmm::timer::Alarm;
use vmm::vm::{self, Next};
use vmm::{Host, StopReason};

use crate::finish::Status;
use crate::host::Level;
use crate::setup::World;

/// The last exits, for the epitaph.
static RECENT: Ring = Ring::new();

/// Runs the virtual machine until it ends for good.
pub fn run(world: &mut World) -> Status {
    loop {
        let reason = run_until_stop(world);
        world.report_exits();
        let name = &world.vm.name;
        let message = format_args!("guest `{name}` {reason}");
        let status = match reason {
            StopReason::PowerOff => {
                world.host.say(Level::Info, message);
                Status::PoweredOff
            }
            StopReason::Failed(_) => {
                world.host.say(Level::Info, message);
                Status::GuestFailed
            }
            StopReason::Reset => {
                world.host.say(Level::Info, message);
                match world.on_reset {
                    OnReset::Stop | OnReset::Exit => Status::Reset,
                    OnReset::Restart => match world.vm.start() {
                        Ok(()) => continue,
                        Err(memory::NotRam) => Status::Failed,
                    },
                }
            }
            StopReason::Fatal(_) => {
                world.host.say(Level::Error, format_args!("guest `{name}` was stopped: {reason}"));
                world.report_registers();
                Status::Stopped
            }
        };
        return status;
    }
}

#[inline(never)]
fn run_until_stop(world: &mut World) -> StopReason {
    let World { hart, host, interrupts, vm, check_every, .. } = world;
    let vmm::Vm { machine, vcpus, .. } = vm;
    let Some(vcpu) = vcpus.first_mut() else { return StopReason::PowerOff };
    // The real timer, and how much of the guest's memory had been written at the last FENCE.I.
    let (mut alarm, mut writes_seen) = (Alarm::new(hart.sets_timer_cheaply()), machine.ram.writes());
    loop {
        let next = vm::prepare(machine, vcpu);
        if let Some(deadline) = alarm.want(vm::deadline(machine, vcpu)) {
            hart.set_timer(deadline);
        }
        let entry = match next {
            Next::Run(entry) => entry,
            Next::Idle => {
                hart.wait_for_interrupt();
                serve_interrupts(hart, host, interrupts.as_ref(), machine, vcpu, &mut alarm);
                continue;
            }
        };
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
        let trap = hart.run(&mut vcpu.frame, entry.root);
        RECENT.record(Event { pc: vcpu.frame.pc, cause: trap.cause, value: trap.value });
        if trap.cause & Interrupt::CAUSE_BIT != 0 {
            let timer = trap.cause == Interrupt::Timer.cause();
            vcpu.exits.count(if timer { ExitKind::HostTimer } else { ExitKind::HostInterrupt });
            serve_interrupts(hart, host, interrupts.as_ref(), machine, vcpu, &mut alarm);
        } else if let Err(reason) = vm::serve(machine, vcpu, trap, host) {
            while !machine.drain_console(host) {
                host.console.flush();
            }
            return reason;
        }
        if *check_every != 0
            && hart.counts().runs.is_multiple_of(u64::from(*check_every))
            && let Err(violation) = mmu::check::check(&vcpu.shadow, &machine.ram)
        {
            panic!("{violation}");
        }
    }
}

fn serve_interrupts(
    hart: &hart::Hart,
    host: &mut crate::host::RealHost,
    interrupts: Option<&crate::setup::Interrupts>,
    machine: &mut vmm::Machine,
    vcpu: &mut vmm::Vcpu,
    alarm: &mut Alarm,
) {
    let pending = hart.pending_interrupts();
    if pending & Interrupt::Timer.mask() != 0 {
        hart.silence_timer();
        alarm.went_off();
        vm::tick(machine, vcpu, host.now());
    }
    if pending & Interrupt::Software.mask() != 0 {
        hart.clear_software_interrupt();
    }
    if pending & Interrupt::External.mask() != 0
        && let Some(interrupts) = interrupts
    {
        while let Some(source) = interrupts.plic.claim() {
            if source == interrupts.console {
                host.console.serve_interrupt();
                machine.drain_console(host);
                machine.feed_console(host);
            }
            interrupts.plic.complete(source);
        }
    }
}

impl World {
    /// Prints how often the guest left, by kind, and how often what else happened.
    fn report_exits(&mut self) {
        use alloc::string::String;
        for vcpu in &self.vm.vcpus {
            let mut line = String::new();
            for (kind, count) in vcpu.exits.iter() {
                let _ = write!(line, " {}={count}", kind.name());
            }
            let code = self.vm.machine.code.counts();
            let _ = write!(line, " shadow-fills={} code-copies={}", vcpu.shadow.fills, code.copies);
            let _ = write!(line, " code-sites={} code-copies-ended={}", code.sites, code.ended);
            let counts = self.hart.counts();
            let _ = write!(line, " fast-exits={} slow-exits={}", vcpu.frame.fast_exits, counts.runs);
            let _ = write!(line, " site-misses={}", vcpu.site_misses);
            let _ = write!(line, " tlb-flushes-all={}", counts.flushes_all);
            let _ = write!(line, " tlb-flushes-address={}", counts.flushes_address);
            let _ = write!(line, " tlb-flushes-switch={}", vcpu.frame.switch_flushes);
            self.host.say(Level::Counters, format_args!("exits{line}"));
        }
    }

    fn report_registers(&mut self) {
        for vcpu in &self.vm.vcpus {
            let (id, privilege, csr) = (vcpu.id, vcpu.frame.privilege, &vcpu.frame.csr);
            self.host.say(Level::Error, format_args!("hart {id} in {privilege:?} mode\n{}", vcpu.frame));
            self.host.say(Level::Error, format_args!("{csr}"));
        }
    }
}

/// What a panic says of the guest that ran last.
pub fn epitaph(to: &mut impl Write) {
    let _ = writeln!(to, "hypocaust: the last exits, the latest last:");
    for event in RECENT.iter() {
        let _ =
            writeln!(to, "  pc {:#018x} scause {:#018x} stval {:#018x}", event.pc, event.cause, event.value);
    }
    if let Some(frame) = hart::switch::last_frame() {
        let _ = writeln!(to, "hypocaust: the guest's registers:\n{frame}");
    }
}
