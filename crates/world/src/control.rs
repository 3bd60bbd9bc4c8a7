//! What the operator's monitor gets from the world, and does to it.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt::Write;

use memory::GuestPhysAddr;
use monitor::{Change, Control, Disk, Exits, Guest, HostFacts, KindOfExit, Switch};
use trace::{Event, ExitKind};
use vmm::Host;

use crate::guest;
use crate::hart::Hart;
use crate::port::Platform;
use crate::status::Status;
use crate::world::World;

/// Carries out what the operator has typed, and says how it went.
pub fn serve<P: Platform>(world: &mut World<P>, hart: &mut Hart<P>) {
    while let Some(command) = world.host.console.take_command() {
        let shown = world.host.console.shown();
        // What it remembers is about the guests, not the other way round.
        let mut operator = core::mem::take(&mut world.operator);
        let reply = operator.carry_out(command, shown, &mut Desk { world, hart });
        world.operator = operator;
        world.host.console.answer(reply);
    }
}

/// The world as a hart that serves the operator reaches it.
struct Desk<'a, P: Platform> {
    world: &'a mut World<P>,
    hart: &'a mut Hart<P>,
}

impl<P: Platform> Desk<'_, P> {
    /// How long a guest has run, in ticks.
    fn ran(&self, guest: &guest::Guest) -> u64 {
        let queue = self.world.queues.get(guest.hart);
        queue.map_or(0, |queue| queue.scheduler.accounts(guest.entity).ran)
    }
}

impl<P: Platform> Control for Desk<'_, P> {
    fn now(&self) -> u64 {
        self.world.nanoseconds(self.world.host.now().wrapping_sub(self.world.started))
    }

    fn guests(&self) -> Vec<Guest> {
        let guest = |guest: &guest::Guest| Guest {
            name: guest.vm.name.clone(),
            state: guest.state(),
            vcpus: guest.vm.vcpus.len(),
            vcpu_time: self.world.nanoseconds(self.ran(guest)),
            memory: guest.vm.machine.ram.size(),
            restarts: guest.life.restarts(),
            exits: guest.exits().map(|(_, count, _)| count).fold(0, u64::wrapping_add),
        };
        self.world.guests.iter().map(guest).collect()
    }

    fn change(&mut self, guest: usize, change: Change) -> Result<(), String> {
        let Self { world, hart } = self;
        let done = match change {
            Change::Start => world.start(hart, guest),
            Change::Stop => world.stop(hart, guest),
            Change::Pause => world.pause(hart, guest),
            Change::Resume => world.resume(hart, guest),
            Change::Reset => world.reset(hart, guest),
        };
        done.map_err(|reason| reason.to_string())
    }

    fn exits(&self, guest: usize) -> Exits {
        let Some(guest) = self.world.guests.get(guest) else { return Exits::default() };
        let kinds = guest.exits().map(|(kind, count, cost)| KindOfExit { name: kind.name(), count, cost });
        let sum = |count: fn(&vmm::Vcpu) -> u64| guest.vm.vcpus.iter().map(count).fold(0, u64::wrapping_add);
        let code = guest.vm.machine.code.lock().counts();
        Exits {
            kinds: kinds.collect(),
            fast: sum(|vcpu| vcpu.frame.fast_exits),
            unit: if self.world.host.counts_cycles() { "cycles" } else { "" },
            others: Vec::from([
                ("rewritten", sum(|vcpu| vcpu.exits.get(ExitKind::Rewritten))),
                ("shadow-fills", sum(|vcpu| vcpu.caches.shadow.fills)),
                ("code-copies", code.copies),
                ("code-sites", code.sites),
                ("code-copies-ended", code.ended),
                ("site-misses", sum(|vcpu| vcpu.site_misses)),
            ]),
        }
    }

    fn trace(&self, guest: usize) -> Vec<Event> {
        self.world.recent.of(guest).collect()
    }

    fn registers(&self, guest: usize) -> String {
        let mut text = String::new();
        for vcpu in self.world.guests.get(guest).into_iter().flat_map(|guest| &guest.vm.vcpus) {
            let (id, privilege, frame) = (vcpu.id, vcpu.frame.privilege, &vcpu.frame);
            // Text takes whatever is written.
            let _ = writeln!(text, "hart {id} in {privilege:?} mode, {:?}\n{frame}", vcpu.state);
            // As wide as the registers above.
            let csrs = frame.csr.to_string();
            let words: Vec<&str> = csrs.split(' ').collect();
            words.chunks(6).for_each(|line| {
                let _ = writeln!(text, "  {}", line.join(" "));
            });
        }
        text
    }

    fn read_memory(
        &self,
        guest: usize,
        address: GuestPhysAddr,
        into: &mut [u8],
    ) -> Result<(), (GuestPhysAddr, u64)> {
        let Some(guest) = self.world.guests.get(guest) else { return Err((GuestPhysAddr(0), 0)) };
        let ram = &guest.vm.machine.ram;
        ram.read(address, into).map_err(|memory::NotRam| (ram.base(), ram.size()))
    }

    fn switches(&self) -> Vec<Switch> {
        self.world.io.nets.report(&self.world.guests)
    }

    fn disks(&self) -> Vec<Disk> {
        let name = |number: usize| {
            self.world.guests.get(number).map_or_else(String::new, |guest| guest.vm.name.clone())
        };
        self.world.io.disks.report().map(|(number, disk)| Disk { guest: name(number), ..disk }).collect()
    }

    fn host(&self) -> HostFacts {
        let alive = self.world.guests.iter().filter(|guest| guest.state().is_alive()).count();
        let mut facts = self.world.facts.clone();
        let sum = |ticks: &mut dyn Iterator<Item = u64>| ticks.fold(0, u64::wrapping_add);
        facts.push(("guests", format!("{}, {alive} of them started", self.world.guests.len())));
        HostFacts {
            facts,
            guest_time: self.world.nanoseconds(sum(&mut self
                .world
                .guests
                .iter()
                .map(|guest| self.ran(guest)))),
            idle_time: self.world.nanoseconds(sum(&mut self.world.queues.iter().map(|queue| queue.idle))),
        }
    }

    fn log_level(&self) -> u8 {
        self.world.host.log_level()
    }

    fn set_log_level(&mut self, level: u8) {
        self.world.host.set_log_level(level);
    }

    fn shut_down(&mut self) {
        self.world.ending = Some(Status::PoweredOff);
    }
}

impl guest::Guest {
    /// Kind, count and cost of the exits of all its vCPUs.
    fn exits(&self) -> impl Iterator<Item = (ExitKind, u64, u64)> + '_ {
        let sum =
            |count: &dyn Fn(&vmm::Vcpu) -> u64| self.vm.vcpus.iter().map(count).fold(0, u64::wrapping_add);
        ExitKind::ALL
            .iter()
            .map(move |kind| (*kind, sum(&|vcpu| vcpu.exits.get(*kind)), sum(&|vcpu| vcpu.exits.cost(*kind))))
            // What is counted beside another kind would count twice.
            .filter(|(kind, count, _)| *count > 0 && *kind != ExitKind::Rewritten)
    }
}
