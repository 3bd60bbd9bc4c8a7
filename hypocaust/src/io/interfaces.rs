//! From the bundle's description of networks to switches and ports: which interface of the host is whose uplink.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use ::net::{Limiter, PortKind, Switch};
use bundle::{Attach, Mac, Manifest, VmConfig};
use devices::virtio::Slot;
use devices::virtio::net::Net;
use hart::memory::HostMemory;
use hart::virtio::net::NetDevice;
use hart::virtio::{self, Kind};
use memory::PAGE_SIZE;
use world::Interrupts;
use world::io::nets::{HostNic, Lan, Nets, Plug};

use crate::real::{Nic, Real};
use crate::stage::{NO_MEMORY, Stage};

/// Bytes of heap that the buffers of an interface of the host's take, and some more.
const NIC_HEAP: u64 = 320 << 10;
/// Bytes of heap that the frames that wait at a port take, and some more.
const PORT_HEAP: u64 = 64 << 10;

/// Opens the host's interfaces that the manifest names, and makes the switches.
///
/// # Errors
/// One line that names the switch or the guest, and says what to do.
pub fn open(
    stage: &Stage,
    interrupts: Option<&Interrupts<Real>>,
    manifest: &Manifest,
    memory: &mut HostMemory,
) -> Result<Nets<Real>, String> {
    let (now, frequency) = (hart::time::now(), stage.machine.timebase_frequency);
    let wanted = wanted(manifest);
    let ports = wanted.len() + manifest.vms.iter().map(|vm| vm.nets.len()).sum::<usize>();
    add_heap(PORT_HEAP * ports as u64, memory)?;
    let mut nics = open_nics(stage, interrupts, &wanted, memory)?;
    let mut take = |mac: &Mac, whose: &str| {
        let found = nics.iter().position(|nic| nic.device.0.mac() == mac.0);
        found.map(|index| nics.swap_remove(index)).ok_or_else(|| {
            format!(
                "{whose}: the host has no network interface with the address {mac}; attach one to QEMU, or correct \
                 the manifest"
            )
        })
    };
    let mut lans = Vec::new();
    for config in &manifest.switches {
        let mut lan = Lan { switch: Switch::new(config.name.clone()), nic: None };
        if let Some(mac) = &config.uplink {
            lan.nic = Some(take(mac, &format!("switch `{}`", config.name))?);
            lan.switch.connect("uplink".to_string(), PortKind::Uplink(mac.0), None);
        }
        lans.push(lan);
    }
    let mut guests = Vec::new();
    for vm in &manifest.vms {
        let mut plugs = Vec::new();
        for (slot, config) in (vm.disks.len()..).zip(vm.nets.iter().rev()) {
            let limiter = config.rate.map(|rate| Limiter::new(rate, frequency, now));
            let (lan, kind) = match config.attach {
                Attach::Switch(number) => (number as usize, PortKind::Guest(config.mac.0)),
                Attach::HostNic(mac) => {
                    // A switch of its own, on which nobody else is.
                    let mut switch = Switch::new(format!("{mac}"));
                    switch.connect("host".to_string(), PortKind::Uplink(mac.0), None);
                    let nic = Some(take(&mac, &format!("guest `{}`", vm.name))?);
                    lans.push(Lan { switch, nic });
                    (lans.len() - 1, PortKind::Whole(config.mac.0))
                }
            };
            let Some(Lan { switch, .. }) = lans.get_mut(lan) else { continue };
            let port = switch.connect(vm.name.clone(), kind, limiter);
            plugs.push(Plug { slot, lan, port });
        }
        guests.push(plugs);
    }
    Ok(Nets::new(lans, guests))
}

/// A guest's interfaces, for the slots behind its disks; in the order in which those are.
pub fn slots(config: &VmConfig) -> impl Iterator<Item = Slot> + '_ {
    config.nets.iter().rev().map(|net| Slot::Net(Net::new(net.mac.0)))
}

/// The addresses of the host's interfaces that somebody wants.
fn wanted(manifest: &Manifest) -> Vec<Mac> {
    let uplinks = manifest.switches.iter().filter_map(|switch| switch.uplink);
    let whole = manifest.vms.iter().flat_map(|vm| &vm.nets).filter_map(|net| match net.attach {
        Attach::HostNic(mac) => Some(mac),
        Attach::Switch(_) => None,
    });
    uplinks.chain(whole).collect()
}

fn open_nics(
    stage: &Stage,
    interrupts: Option<&Interrupts<Real>>,
    wanted: &[Mac],
    memory: &mut HostMemory,
) -> Result<Vec<HostNic<Nic>>, String> {
    let mut nics = Vec::new();
    if wanted.is_empty() {
        return Ok(nics);
    }
    let Some(interrupts) = interrupts else {
        return Err("guests want an interface of the host, and the host has no interrupt controller".into());
    };
    virtio::set_up(&stage.space);
    for slot in &stage.machine.virtio {
        let Some(registers) = stage.space.device(slot.registers.start) else { continue };
        if virtio::probe(&registers) != Some(Kind::Net) {
            continue;
        }
        let address = NetDevice::address(&registers);
        if !wanted.iter().any(|mac| mac.0 == address) {
            continue;
        }
        add_heap(NIC_HEAP, memory)?;
        let device = NetDevice::open(&registers).map_err(|error| {
            format!("the host's network interface at {} does not work: {error}", slot.registers.start)
        })?;
        interrupts.plic.enable_source(slot.irq);
        nics.push(HostNic { device: Nic(device), source: slot.irq, is_behind: false });
    }
    Ok(nics)
}

fn add_heap(size: u64, memory: &mut HostMemory) -> Result<(), String> {
    if size > 0 {
        let (_, words) = memory.take_words(size, PAGE_SIZE).ok_or_else(|| String::from(NO_MEMORY))?;
        hart::heap::add(words);
    }
    Ok(())
}
