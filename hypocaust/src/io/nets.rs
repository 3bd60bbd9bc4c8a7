//! Guests' network interfaces at work: from a notified slot through a switch to other guests, and to the host's interface.
//!
//! A guest's frames go through its switch when its slot is served, and wait at the ports that they are for. They are
//! delivered when no guest runs, for a guest's device is only at hand then.

use alloc::boxed::Box;
use alloc::vec::Vec;

use ::net::{MAX_FRAME, Out, Switch};
use devices::virtio::Slot;
use devices::virtio::net::Received;
use hart::virtio::net::NetDevice;
use vmm::Machine;

use crate::world::{Guest, State};

/// Frames that a guest may send in a turn.
const TURN: usize = 32;
/// Frames that are taken from the host's interface at an interrupt: four times what it can hold.
const ARRIVING: usize = 256;

/// A switch, and the host's interface that is its uplink.
#[derive(Debug)]
pub struct Lan {
    /// The switch.
    pub switch: Switch,
    /// The uplink: its driver, and its source at the interrupt controller.
    pub nic: Option<(NetDevice, u32)>,
}

impl Lan {
    fn forward(&mut self, from: usize, frame: &[u8], now: u64) {
        if self.switch.forward(from, frame, now) == Out::Uplink
            && let Some((nic, _)) = &mut self.nic
        {
            let is_sent = nic.send(frame);
            self.switch.sent_out(frame.len(), is_sent);
        }
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
#[derive(Debug)]
pub struct Nets {
    lans: Vec<Lan>,
    /// The interfaces of each guest.
    guests: Vec<Vec<Plug>>,
    /// A frame on its way.
    frame: Box<[u8; MAX_FRAME]>,
}

impl Nets {
    /// These switches, and the guests' interfaces.
    pub fn new(lans: Vec<Lan>, guests: Vec<Vec<Plug>>) -> Self {
        Self { lans, guests, frame: Box::new([0; MAX_FRAME]) }
    }

    /// The switches.
    pub fn switches(&self) -> impl Iterator<Item = &Switch> + '_ {
        self.lans.iter().map(|lan| &lan.switch)
    }

    /// Serves the interface in a slot of a guest, if there is one, for a turn. Whoever calls has to `notify_hosts`.
    pub fn serve(&mut self, guest: usize, slot: usize, machine: &mut Machine, now: u64) {
        let Self { lans, guests, frame } = self;
        let plug = guests.get(guest).and_then(|plugs| plugs.iter().find(|plug| plug.slot == slot));
        let Some((plug, lan)) = plug.and_then(|plug| Some((plug, lans.get_mut(plug.lan)?))) else { return };
        let more = machine.serve(slot, |device, ram| {
            let Slot::Net(net) = device else { return false };
            for _ in 0..TURN {
                let Some(len) = net.transmit(ram, &mut frame[..]) else { break };
                lan.forward(plug.port, frame.get(..len).unwrap_or(&[]), now);
            }
            net.has_frames(ram)
        });
        if more == Some(true) {
            machine.notify(slot);
        }
    }

    /// Tells the host's interfaces of what was sent.
    pub fn notify_hosts(&mut self) {
        self.lans.iter_mut().filter_map(|lan| lan.nic.as_mut()).for_each(|(nic, _)| nic.notify());
    }

    /// Whether frames wait for guests.
    pub fn has_waiting(&self) -> bool {
        self.lans.iter().any(|lan| lan.switch.has_waiting())
    }

    /// Gives guests what waits for them, as far as they have buffers. What waits for one that is stopped is lost; one that
    /// is paused finds it later.
    pub fn deliver(&mut self, guests: &mut [Guest]) {
        if !self.has_waiting() {
            return;
        }
        for (guest, plugs) in guests.iter_mut().zip(&self.guests) {
            if guest.state == State::Paused {
                continue;
            }
            let runs = guest.state == State::Running;
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
                    }
                });
            }
        }
    }

    /// Serves the interrupt from `source`, if it is an interface's of the host.
    pub fn serve_interrupt(&mut self, source: u32, now: u64) {
        let ours = |lan: &&mut Lan| lan.nic.as_ref().is_some_and(|(_, own)| *own == source);
        let Some(Lan { switch, nic: Some((nic, _)) }) = self.lans.iter_mut().find(ours) else { return };
        let Some(uplink) = switch.uplink() else { return };
        nic.acknowledge_interrupt();
        for _ in 0..ARRIVING {
            // What comes from outside never goes there again.
            let arrived = nic.receive(|frame| switch.forward(uplink, frame, now));
            if arrived.is_none() {
                return;
            }
        }
    }
}
