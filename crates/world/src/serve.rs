//! What a hart serves between two runs of guests: the slots that guests have notified, and what interrupts it.

use isa::Interrupt;
use vmm::Host;

use crate::hart::Hart;
use crate::host::Level;
use crate::port::{HartPort, InterruptController, Platform};
use crate::world::World;

impl<P: Platform> World<P> {
    /// Gives each guest of this hart that runs a turn of its notified slots, a different one first each time. Says whether more is left.
    pub fn serve_io(&mut self, hart: &Hart<P>) -> bool {
        let Self { io, guests, host, queues, kicks, .. } = self;
        let count = guests.len();
        io.first = (io.first + 1).checked_rem(count).unwrap_or(0);
        // What the last one to run has sent.
        io.nets.deliver(guests, kicks);
        if io.nets.is_behind() {
            let from = host.now();
            if let Some(guest) = io.nets.catch_up(guests, kicks, from).and_then(|number| guests.get(number)) {
                queues.charge(hart.id, guest.hart, guest.entity, from, host.now());
            }
        }
        let mut more = io.nets.is_behind();
        for number in (io.first..count).chain(0..io.first) {
            let Some(guest) = guests.get_mut(number) else { continue };
            if guest.hart == hart.id && guest.life.is_running() && guest.vm.machine.is_notified() {
                let from = host.now();
                host.serve(number);
                io.serve(number, &mut guest.vm.machine, host);
                more |= guest.vm.machine.is_notified();
                io.disks.tell_of_full(number, &guest.vm.name, host);
                let entity = guest.entity;
                io.nets.deliver(guests, kicks);
                // Who sends pays, also for what it costs to give it to others.
                queues.charge(hart.id, hart.id, entity, from, host.now());
            }
        }
        more
    }

    /// Waits until everything that guests have written is safe, before the machine is powered off: no guest runs any more.
    pub fn finish_io(&mut self, hart: &mut Hart<P>) {
        for number in 0..self.guests.len() {
            self.io.disks.abandon(number);
            self.io.disks.flush(number);
        }
        let deadline = self.host.now().saturating_add(self.io.patience);
        while self.io.disks.is_busy() {
            if self.host.now() >= deadline {
                self.host.say(
                    Level::Error,
                    format_args!("a disk of the host's does not answer; what was written may be lost"),
                );
                return;
            }
            if let Some(deadline) = hart.alarm.want(deadline) {
                hart.port.set_timer(deadline);
            }
            hart.port.wait_for_interrupt();
            // What is typed now comes too late.
            serve_sources(self, hart);
        }
    }
}

/// Serves what interrupts this hart, but for what the operator has typed; says whether there may be something of that.
pub(crate) fn serve_sources<P: Platform>(world: &mut World<P>, hart: &mut Hart<P>) -> bool {
    let World { host, interrupts, io, guests, queues, kicks, .. } = world;
    let Hart { id, port, alarm, .. } = hart;
    let pending = port.pending_interrupts();
    if pending & Interrupt::Timer.mask() != 0 {
        port.silence_timer();
        alarm.went_off();
    }
    if pending & Interrupt::Software.mask() != 0 {
        port.clear_software_interrupt();
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
                let whose = io.nets.serve_interrupt(source, guests, kicks, from);
                whose.or_else(|| io.disks.serve_interrupt(source, guests, kicks, host))
            };
            interrupts.plic.complete(source);
            // The one that it was for pays, not the one that runs.
            let now = host.now();
            if let Some(guest) = whose.and_then(|number| guests.get(number)) {
                queues.charge(*id, guest.hart, guest.entity, from, now);
            }
            from = now;
        }
    }
    was_console
}
