//! Guests' disks at work: from a notified slot to operations on the host's disk, and from its interrupt to the guest that
//! waits.

use alloc::string::String;
use alloc::vec::Vec;

use arrayvec::ArrayVec;
use block::{Disk, Operation, OperationKind, SECTOR, Step};
use devices::virtio::Slot;
use devices::virtio::block::Status;
use vmm::Machine;

use crate::guest::Guest;
use crate::hart::HartSet;
use crate::host::{HostAccess, Level};
use crate::port::{DiskDriver, Platform, Refused};

/// Steps that a disk has in a turn: operations handed to the host's disk, or pieces copied.
const TURN: usize = 16;
/// The tag of a flush of ours.
const FLUSH: u64 = u64::MAX;

/// A disk of the host's.
#[derive(Debug)]
pub struct HostDisk<D> {
    /// Its driver.
    pub device: D,
    /// Its source at the interrupt controller.
    pub source: u32,
    /// Its serial number.
    pub serial: String,
    /// A flush that is to be submitted once there is room.
    owes_flush: bool,
    /// The last flush failed, and the operator was told.
    flush_failed: bool,
}

impl<D> HostDisk<D> {
    /// A disk with this driver, source and serial number.
    pub const fn new(device: D, source: u32, serial: String) -> Self {
        Self { device, source, serial, owes_flush: false, flush_failed: false }
    }
}

/// A guest's disk.
#[derive(Debug)]
pub struct GuestDisk {
    /// Its place in the manifest, from 1.
    pub number: usize,
    /// What it is made of, for the operator.
    pub source: String,
    /// What stands behind it.
    pub disk: Disk,
    /// The host's disk that it is on.
    host: Option<usize>,
    /// It has more to do once the host's disk is done with something.
    waits: bool,
    /// The operator was told that it is full.
    told: bool,
}

impl GuestDisk {
    /// A disk, on the host's disk with this index if it is on one.
    pub const fn new(number: usize, source: String, disk: Disk, host: Option<usize>) -> Self {
        Self { number, source, disk, host, waits: false, told: false }
    }
}

impl GuestDisk {
    fn report(&self) -> monitor::Disk {
        let Self { disk, source, .. } = self;
        let counters = disk.counters();
        let mode = match (disk.is_readonly(), disk.keeps_writes()) {
            (true, _) => "readonly",
            (false, true) => "snapshot",
            (false, false) => "read-write",
        };
        monitor::Disk {
            guest: String::new(),
            source: source.clone(),
            size: disk.capacity() * SECTOR,
            mode,
            read: counters.sectors_read * SECTOR,
            written: counters.sectors_written * SECTOR,
            flushes: counters.flushes,
            errors: counters.errors,
        }
    }
}

/// All disks.
pub struct Disks<P: Platform> {
    hosts: Vec<HostDisk<P::Disk>>,
    /// By guest and slot: the last disk of the manifest is in the first slot.
    guests: Vec<Vec<GuestDisk>>,
}

/// A request on the host's disk knows whose it is by its tag.
const fn tag(guest: usize, slot: usize, tag: usize) -> u64 {
    (guest as u64) << 32 | (slot as u64) << 16 | tag as u64
}

impl<P: Platform> Disks<P> {
    /// Disks of the host, and of guests by guest and slot.
    pub const fn new(hosts: Vec<HostDisk<P::Disk>>, guests: Vec<Vec<GuestDisk>>) -> Self {
        Self { hosts, guests }
    }

    /// The disks of a guest.
    pub fn of(&self, guest: usize) -> &[GuestDisk] {
        self.guests.get(guest).map_or(&[], Vec::as_slice)
    }

    /// What the operator is told of all disks, with their guests' numbers, in the manifest's order.
    pub fn report(&self) -> impl Iterator<Item = (usize, monitor::Disk)> + '_ {
        let disks = |(guest, disks): (usize, &'_ Vec<GuestDisk>)| {
            disks.iter().rev().map(|disk| (guest, disk.report())).collect::<Vec<_>>()
        };
        self.guests.iter().enumerate().flat_map(disks)
    }

    /// All guests' disks.
    pub fn all(&mut self) -> &mut [Vec<GuestDisk>] {
        &mut self.guests
    }

    /// Serves the disk in a slot of a guest, if there is one, for a turn. Whoever calls has to `notify_hosts`.
    pub fn serve(&mut self, guest: usize, slot: usize, machine: &mut Machine) {
        let Self { hosts, guests } = self;
        let Some(GuestDisk { disk, host, waits, .. }) =
            guests.get_mut(guest).and_then(|disks| disks.get_mut(slot))
        else {
            return;
        };
        let mut host = host.and_then(|host| hosts.get_mut(host));
        let more = machine.serve(slot, |device, ram| {
            let Slot::Block(block) = device else { return false };
            for _ in 0..TURN {
                if host.as_ref().is_some_and(|host| !host.device.has_room()) {
                    *waits = true;
                    return false;
                }
                match disk.advance(ram) {
                    Step::Worked => {}
                    Step::Ended(token, status) => block.complete(ram, token, status),
                    Step::Submit(operation) => {
                        let number = tag(guest, slot, operation.tag);
                        let taken = match &mut host {
                            Some(host) => host.device.submit(number, &operation),
                            None => Err(Refused::Unsuitable),
                        };
                        if taken.is_err()
                            && let Some((token, status)) = disk.finished(ram, operation.tag, Status::IoErr)
                        {
                            block.complete(ram, token, status);
                        }
                    }
                    Step::Nothing if !disk.has_room() => {
                        *waits = true;
                        return false;
                    }
                    Step::Nothing => {
                        let Some(request) = block.next_request(ram) else { return block.is_behind() };
                        disk.accept(&request);
                    }
                }
            }
            true
        });
        if more == Some(true) {
            machine.notify(slot);
        }
    }

    /// Tells the host's disks of what was handed to them.
    pub fn notify_hosts(&mut self) {
        self.hosts.iter_mut().for_each(|host| host.device.notify());
    }

    /// Serves the interrupt from `source`, if it is a disk's; gives a guest for which it was, the last where there are
    /// several.
    pub fn serve_interrupt(
        &mut self,
        source: u32,
        guests: &mut [Guest],
        kicks: &mut HartSet,
        console: &mut HostAccess<P>,
    ) -> Option<usize> {
        let Self { hosts, guests: disks } = self;
        let (index, host) = hosts.iter_mut().enumerate().find(|(_, host)| host.source == source)?;
        let mut whose = None;
        host.device.acknowledge_interrupt();
        while let Some((number, status)) = host.device.completed() {
            if number == FLUSH {
                let failed = status != Status::Ok;
                let was_told = core::mem::replace(&mut host.flush_failed, failed);
                if failed && !was_told {
                    let message = format_args!("the host's disk `{}` could not be flushed", host.serial);
                    console.say(Level::Error, message);
                }
                continue;
            }
            let (guest, slot, part) =
                ((number >> 32) as usize, (number >> 16) as u16 as usize, number as u16 as usize);
            whose = Some(guest);
            let disk = disks.get_mut(guest).and_then(|disks| disks.get_mut(slot));
            let (Some(GuestDisk { disk, .. }), Some(guest)) = (disk, guests.get_mut(guest)) else { continue };
            kicks.add(guest.hart);
            guest.vm.machine.serve(slot, |device, ram| {
                if let Some((token, status)) = disk.finished(ram, part, status)
                    && let Slot::Block(block) = device
                {
                    block.complete(ram, token, status);
                }
            });
        }
        if host.owes_flush {
            flush(host);
            host.device.notify();
        }
        // There is room again for those that found none.
        for (disks, guest) in disks.iter_mut().zip(guests) {
            for (slot, disk) in disks.iter_mut().enumerate().filter(|(_, disk)| disk.host == Some(index)) {
                if core::mem::take(&mut disk.waits) {
                    guest.vm.machine.notify(slot);
                    kicks.add(guest.hart);
                }
            }
        }
        whose
    }

    /// Tells the operator, once for each disk, that there is no room for what a guest writes.
    pub fn tell_of_full(&mut self, guest: usize, name: &str, console: &mut HostAccess<P>) {
        let Some(disks) = self.guests.get_mut(guest) else { return };
        for disk in disks {
            let number = disk.number;
            if disk.disk.counters().overlay_full > 0 && !core::mem::replace(&mut disk.told, true) {
                let message = format_args!(
                    "guest `{name}`, disk {number}: there is no room for more of what is written, so writes fail"
                );
                console.say(Level::Error, message);
            }
        }
    }

    /// Begins nothing more of what a guest has asked for, which is about to be reset. It may be, once `in_flight` is 0.
    pub fn abandon(&mut self, guest: usize) {
        let disks = self.guests.get_mut(guest).map_or(&mut [][..], Vec::as_mut_slice);
        for disk in disks {
            disk.disk.abandon();
            disk.waits = false;
        }
    }

    /// Requests of a guest that are under way.
    pub fn in_flight(&self, guest: usize) -> usize {
        self.of(guest).iter().map(|disk| disk.disk.in_flight()).sum()
    }

    /// Whether any disk of the host's is at work.
    pub fn is_busy(&self) -> bool {
        self.hosts.iter().any(|host| host.device.in_flight() > 0 || host.owes_flush)
    }

    /// Sees to it that what a guest has written is safe: see `is_busy`.
    pub fn flush(&mut self, guest: usize) {
        let Self { hosts, guests } = self;
        let disks = guests.get_mut(guest).map_or(&mut [][..], Vec::as_mut_slice);
        for disk in disks.iter_mut().filter(|disk| disk.disk.is_dirty()) {
            disk.disk.note_flushed();
            if let Some(host) = disk.host.and_then(|host| hosts.get_mut(host)) {
                flush(host);
                host.device.notify();
            }
        }
    }
}

/// Flushes a disk now, or once there is room. One that has no flush has nothing to lose.
fn flush<D: DiskDriver>(host: &mut HostDisk<D>) {
    let operation = Operation { tag: 0, kind: OperationKind::Flush, sector: 0, memory: ArrayVec::new() };
    host.owes_flush = host.device.submit(FLUSH, &operation) == Err(Refused::Full);
}
