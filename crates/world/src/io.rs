//! What stands behind the guests' virtio devices: the way from a guest's ring to the host's device and back.
//!
//! A notified slot is served after the exit that notified it, for a bounded turn; what is left is served before the next
//! guest runs. The host's devices interrupt when they are done, and nothing is polled.

pub mod disks;
pub mod nets;

use alloc::vec::Vec;

use devices::virtio::Slot;
use entropy::Stream;
use vmm::machine::ConsoleTurn;
use vmm::{Host, Machine};

use crate::hart::Hart;
use crate::host::{HostAccess, Level};
use crate::port::{HartPort, Platform};
use crate::run;
use crate::world::World;
use disks::Disks;
use nets::Nets;

/// Seconds that a disk of the host's has for an answer.
pub const PATIENCE: u64 = 30;

/// The guests' virtio devices.
pub struct Io<P: Platform> {
    /// Disks, which have each guest's first slots.
    pub disks: Disks<P>,
    /// Network interfaces, which have the next.
    pub nets: Nets<P>,
    /// What entropy devices give out, by guest: what one reads tells it nothing of what others get.
    random: Vec<Stream>,
    /// The guest whose slots are served first.
    first: usize,
    /// Ticks that a device of the host's has for an answer.
    patience: u64,
}

impl<P: Platform> Io<P> {
    /// These devices, on a host with a timebase of so many ticks a second.
    pub const fn new(disks: Disks<P>, nets: Nets<P>, random: Vec<Stream>, timebase: u64) -> Self {
        Self { disks, nets, random, first: 0, patience: PATIENCE.saturating_mul(timebase) }
    }

    /// Serves the slots of guest `number` that were notified, each for a turn. It is the one that the host serves.
    #[inline(never)]
    pub fn serve(&mut self, number: usize, machine: &mut Machine, host: &mut HostAccess<P>) {
        let now = host.now();
        let notified = machine.take_notified();
        for slot in (0..u32::BITS as usize).filter(|slot| notified >> slot & 1 != 0) {
            self.disks.serve(number, slot, machine);
            self.nets.serve(number, slot, machine, now);
            if machine.serve_console(slot, host) == Some(ConsoleTurn::More) {
                // Where the operator's console is full, it interrupts once it has room.
                machine.notify(slot);
            }
            let Some(random) = self.random.get_mut(number) else { continue };
            let more = machine.serve(slot, |device, ram| {
                let Slot::Entropy(entropy) = device else { return false };
                entropy.serve(ram, |bytes| random.fill(bytes));
                entropy.has_requests(ram)
            });
            if more == Some(true) {
                machine.notify(slot);
            }
        }
        self.disks.notify_hosts();
        self.nets.notify_hosts();
    }
}

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
            run::serve_sources(self, hart);
        }
    }
}
