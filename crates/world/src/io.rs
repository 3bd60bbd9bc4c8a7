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

use crate::host::HostAccess;
use crate::port::{PATIENCE, Platform};
use disks::Disks;
use nets::Nets;

/// The guests' virtio devices.
pub struct Io<P: Platform> {
    /// Disks, which have each guest's first slots.
    pub disks: Disks<P>,
    /// Network interfaces, which have the next.
    pub nets: Nets<P>,
    /// What entropy devices give out, by guest: what one reads tells it nothing of what others get.
    random: Vec<Stream>,
    /// The guest whose slots are served first.
    pub(crate) first: usize,
    /// Ticks that a device of the host's has for an answer.
    pub(crate) patience: u64,
}

impl<P: Platform> Io<P> {
    /// These devices, on a host with a timebase of so many ticks a second.
    pub const fn new(disks: Disks<P>, nets: Nets<P>, random: Vec<Stream>, timebase: u64) -> Self {
        Self { disks, nets, random, first: 0, patience: PATIENCE.saturating_mul(timebase) }
    }

    /// Serves the slots of guest `number` that were notified, each for a turn. It is the one that the host serves.
    #[inline(never)]
    pub fn serve(&mut self, number: usize, machine: &Machine, host: &mut HostAccess<P>) {
        let now = host.now();
        for slot in machine.take_notified() {
            self.disks.serve(number, slot, machine);
            self.nets.serve(number, slot, machine, now);
            if machine.serve_console(slot, host) == Some(ConsoleTurn::More) {
                // Where the operator's console is full, it interrupts once it has room.
                machine.notify(slot);
            }
            let Some(random) = self.random.get_mut(number).filter(|_| machine.entropies().contains(slot))
            else {
                continue;
            };
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
