//! The hypervisor's image: finds out what the machine is, and makes of it and of the bundle a `world` that runs.
//!
//! Boots in two stages, see `hart::boot`: `hypocaust_main` plans the address space at the physical address, `main`
//! does the rest at the virtual one.
#![no_std]
#![no_main]
#![deny(unsafe_code)]

extern crate alloc;

mod drivers;
mod finish;
mod io;
mod panic;
mod random;
mod real;
mod setup;
mod stage;

use alloc::boxed::Box;
use core::fmt::Write;

use arrayvec::ArrayVec;
use devicetree::HostInfo;
use hart::console::EarlyConsole;
use hart::space::MAX_DEVICES;
use hart::{HostSpace, Image, Plan};
use memory::{Extent, HostPhysAddr};
use stage::Stage;
use world::run;

/// The first stage. The entry code calls it with translation off.
#[allow(unsafe_code, reason = "the entry code in `hart` needs the name")]
#[unsafe(no_mangle)]
extern "C" fn hypocaust_main(hart_id: u64, device_tree: u64) -> ! {
    let blob = hart::memory::early_device_tree(HostPhysAddr(device_tree));
    let machine = match HostInfo::parse(blob) {
        Ok(machine) => machine,
        Err(error) => panic!("the host's device tree is of no use: {error}"),
    };
    let image = Image::locate();
    let window = machine.initrd.and_then(hart::memory::early_words).and_then(bundle::format::window);
    let devices = device_registers(&machine);
    let plan = Plan { ram: &machine.memory, devices: &devices, window };
    let space = match HostSpace::build(image, &plan) {
        Ok(space) => space,
        Err(error) => panic!("the hypervisor's address space cannot be made: {error:x?}"),
    };
    let mut stage = Stage { hart_id, machine, image, space };
    let space = stage.space.clone();
    hart::boot::enter(&space, &mut stage, main)
}

/// The second stage.
fn main(stage: &mut Stage) -> ! {
    let status = match setup::prepare(stage) {
        // On the heap: what the loop reaches from registers, it reaches with short offsets.
        Ok((world, hart)) => {
            let mut all = Box::new((world, hart));
            let (world, hart) = &mut *all;
            run::run(world, hart)
        }
        Err(error) => {
            let _ = writeln!(EarlyConsole, "hypocaust: {error}");
            world::Status::Failed
        }
    };
    finish::power_off(&stage.space, stage.machine.finisher, status)
}

/// The registers of all devices that the hypervisor drives.
fn device_registers(machine: &HostInfo) -> ArrayVec<Extent, MAX_DEVICES> {
    let page = |start| Extent::new(start, memory::PAGE_SIZE);
    let console = machine.console.map(|console| console.registers);
    let plic = machine.plic.map(|plic| plic.registers);
    let single = [console, plic, machine.finisher.map(page), machine.rtc.map(page)];
    let virtio = machine.virtio.iter().map(|slot| slot.registers);
    single.into_iter().flatten().chain(virtio).collect()
}
