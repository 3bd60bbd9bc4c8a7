//! Guests' network interfaces at work: from a notified slot through a switch to other guests, and to the host's interface.
//!
//! A guest's frames go through its switch when its slot is served, and wait at the ports that they are for. They are
//! delivered when no guest runs, for a guest's device is only at hand then. Between two deliveries no more come together
//! than may wait at a port, so a guest that has buffers loses none.

use alloc::boxed::Box;
use alloc::vec::Vec;

use ::net::{Counters, Frame, Out, Switch, WAITING};
use devices::virtio::Slot;
use devices::virtio::net::Received;
use lifecycle::Phase;
use vmm::Machine;

use crate::guest::Guest;
use crate::hart::HartSet;
use crate::port::{NicDriver, Platform};

/// Frames that a guest may send in a turn, and that are brought in at once.
const TURN: usize = WAITING / 2;
/// Turns that the host's interface has at an interrupt: as many as bring in what it can hold.
const NIC_TURNS: usize = 4;

/// A switch, and the host's interface that is its uplink.
#[derive(Debug)]
pub struct Lan<N> {
    /// The switch.
    pub switch: Switch,
    /// The uplink.
    pub nic: Option<HostNic<N>>,
}

/// An interface of the host's.
#[derive(Debug)]
pub struct HostNic<N> {
    /// Its driver.
    pub device: N,
    /// Its source at the interrupt controller.
    pub source: u32,
    /// More has arrived than was brought in, and it will not interrupt for that again.
    pub is_behind: bool,
}

impl<N: NicDriver> Lan<N> {
    fn forward(&mut self, from: usize, frame: &[u8], now: u64) {
        if self.switch.forward(from, frame, now) == Out::Uplink
            && let Some(nic) = &mut self.nic
        {
            let is_sent = nic.device.send(frame);
            self.switch.sent_out(frame.len(), is_sent);
        }
    }

    /// Brings in a turn's worth of what has arrived; says whether there may be more.
    fn bring_in(&mut self, now: u64) -> bool {
        let Self { switch, nic: Some(nic) } = self else { return false };
        let Some(uplink) = switch.uplink() else { return false };
        // What comes from outside never goes there again.
        nic.is_behind =
            (0..TURN).all(|_| nic.device.receive(|frame| switch.forward(uplink, frame, now)).is_some());
        nic.is_behind
    }
}

/// Where a guest's interface is plugged in.
#[derive(Clone, Copy, Debug)]
pub struct Plug {
    /// Its slot on the guest's board.
    pub slot: usize,
    /// Its switch.
    pub lan: usize,
    /// Its port there.
    pub port: usize,
}

/// All of them.
pub struct Nets<P: Platform> {
    lans: Vec<Lan<P::Nic>>,
    /// The interfaces of each guest.
    guests: Vec<Vec<Plug>>,
    /// A frame on its way.
    frame: Box<Frame>,
}

impl<P: Platform> Nets<P> {
    /// These switches, and the guests' interfaces.
    pub fn new(lans: Vec<Lan<P::Nic>>, guests: Vec<Vec<Plug>>) -> Self {
        Self { lans, guests, frame: Box::default() }
    }

    /// What the operator is told of all switches.
    pub fn report(&self, guests: &[Guest]) -> Vec<monitor::Switch> {
        let lans = self.lans.iter().enumerate();
        lans.map(|(number, lan)| {
            let ports = lan.switch.ports().iter().enumerate().map(|(port, facts)| {
                let Counters { sent, sent_bytes, received, received_bytes, dropped } = facts.counters;
                // Frames of no proper length do not come as far as the switch.
                let dropped = dropped + self.refused(number, port, guests);
                let (owner, mac) = (facts.owner.clone(), facts.kind.mac());
                monitor::Port { owner, mac, sent, sent_bytes, received, received_bytes, dropped }
            });
            monitor::Switch { name: lan.switch.name.clone(), ports: ports.collect() }
        })
        .collect()
    }

    /// How many frames the guest's device at a port has refused.
    fn refused(&self, lan: usize, port: usize, guests: &[Guest]) -> u64 {
        let is_there = |plug: &&Plug| (plug.lan, plug.port) == (lan, port);
        let found = self.guests.iter().zip(guests).find_map(|(plugs, guest)| {
            let plug = plugs.iter().find(is_there)?;
            guest.vm.machine.board.slots().get(plug.slot)
        });
        match found {
            Some(Slot::Net(net)) => net.dropped(),
            _ => 0,
        }
    }

    /// Serves the interface in a slot of a guest, if there is one, for a turn. Whoever calls has to `notify_hosts`.
    pub fn serve(&mut self, guest: usize, slot: usize, machine: &mut Machine, now: u64) {
        let Self { lans, guests, frame } = self;
        let plug = guests.get(guest).and_then(|plugs| plugs.iter().find(|plug| plug.slot == slot));
        let Some((plug, lan)) = plug.and_then(|plug| Some((plug, lans.get_mut(plug.lan)?))) else { return };
        let more = machine.serve(slot, |device, ram| {
            let Slot::Net(net) = device else { return false };
            for _ in 0..TURN {
                let Some(len) = net.transmit(ram, &mut frame.bytes) else { break };
                lan.forward(plug.port, frame.bytes.get(..len).unwrap_or(&[]), now);
            }
            net.has_frames(ram)
        });
        if more == Some(true) {
            machine.notify(slot);
        }
    }

    /// Tells the host's interfaces of what was sent.
    pub fn notify_hosts(&mut self) {
        self.lans.iter_mut().filter_map(|lan| lan.nic.as_mut()).for_each(|nic| nic.device.notify());
    }

    /// Whether frames wait for guests.
    pub fn has_waiting(&self) -> bool {
        self.lans.iter().any(|lan| lan.switch.has_waiting())
    }

    /// Gives guests what waits for them, as far as they have buffers. What waits for one that is stopped is lost; one that
    /// is paused finds it later. Gives the last guest that got something, and adds their harts to `kicks`.
    pub fn deliver(&mut self, guests: &mut [Guest], kicks: &mut HartSet) -> Option<usize> {
        let mut whose = None;
        if !self.has_waiting() {
            return whose;
        }
        for (number, (guest, plugs)) in guests.iter_mut().zip(&self.guests).enumerate() {
            if guest.life.phase() == Phase::Paused {
                continue;
            }
            let runs = guest.life.is_running();
            for plug in plugs {
                let Some(Lan { switch, .. }) = self.lans.get_mut(plug.lan) else { continue };
                if switch.waiting(plug.port).is_none() {
                    continue;
                }
                guest.vm.machine.serve(plug.slot, |device, ram| {
                    let Slot::Net(net) = device else { return };
                    while let Some(frame) = switch.waiting(plug.port) {
                        let received = if runs { net.receive(ram, frame) } else { Received::Dropped };
                        if received == Received::NoBuffers {
                            return;
                        }
                        switch.delivered(plug.port, received == Received::Done);
                        whose = Some(number);
                        kicks.add(guest.hart);
                    }
                });
            }
        }
        whose
    }

    /// Serves the interrupt from `source`, if it is an interface's of the host; gives the last guest that got something.
    pub fn serve_interrupt(
        &mut self,
        source: u32,
        guests: &mut [Guest],
        kicks: &mut HartSet,
        now: u64,
    ) -> Option<usize> {
        let is_it = |lan: &Lan<P::Nic>| lan.nic.as_ref().is_some_and(|nic| nic.source == source);
        let lan = self.lans.iter().position(is_it)?;
        if let Some(Lan { nic: Some(nic), .. }) = self.lans.get_mut(lan) {
            nic.device.acknowledge_interrupt();
        }
        let mut whose = None;
        for _ in 0..NIC_TURNS {
            let more = self.lans.get_mut(lan).is_some_and(|lan| lan.bring_in(now));
            whose = self.deliver(guests, kicks).or(whose);
            if !more {
                break;
            }
        }
        whose
    }

    /// Whether more has arrived at the host's interfaces than was brought in.
    pub fn is_behind(&self) -> bool {
        self.lans.iter().any(|lan| lan.nic.as_ref().is_some_and(|nic| nic.is_behind))
    }

    /// Brings in a turn's worth of that; gives the last guest that got something.
    pub fn catch_up(&mut self, guests: &mut [Guest], kicks: &mut HartSet, now: u64) -> Option<usize> {
        for lan in self.lans.iter_mut().filter(|lan| lan.nic.as_ref().is_some_and(|nic| nic.is_behind)) {
            lan.bring_in(now);
        }
        self.deliver(guests, kicks)
    }
}
