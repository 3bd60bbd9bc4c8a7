//! From what the machine is and what the bundle says to virtual machines that are ready to start.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use bundle::{ConsoleConfig, Manifest, Show, VirtioTransport, VmConfig};
use devices::Board;
use devices::virtio::entropy::Entropy;
use devices::virtio::{self, Slot};
use devicetree::Extension;
use entropy::{Collector, Purpose, Root, Stream};
use hart::Hart;
use hart::memory::HostMemory;
use memory::{BLOCK_SIZE, Extent, Extents, GuestPhysAddr, GuestRam, InitialData, PAGE_SIZE};
use mmu::{AsidBlock, AsidSpace, ShadowMmu, TlbPolicy};
use monitor::{Operator, View as Shown};
use rewrite::CodePages;
use scheduler::{Scheduler, Tuning};
use vhart::Units;
use vmm::footprint::{Footprint, HEAP};
use vmm::machine::{Clock, Machine};
use vmm::vm::{Boot, Vm};
use vmm::{Vcpu, timer::Alarm, tree};
use world::console::Console;
use world::host::{HostAccess, Level};
use world::io::Io;
use world::{Guest, HartId, HartSet, Interrupts, Probes, Queues, World};

use crate::drivers::{plic::Plic, rtc, uart::Uart};
use crate::io::{attach, interfaces};
use crate::panic::{OUTPUT, RECENT};
use crate::random;
use crate::real::{Line, Port, Real, View};
use crate::stage::{NO_MEMORY, Stage};

/// The hart that this boots on, the only one that takes turns.
const FIRST_HART: HartId = HartId(0);

/// Bytes of a guest's `rng-seed`: what Linux's generator takes at once, twice.
const SEED_BYTES: usize = 64;

/// Sets everything up, up to the guest's first instruction.
///
/// # Errors
/// One line that says what is missing.
pub fn prepare(stage: &Stage) -> Result<(World<Real>, world::Hart<Real>), String> {
    let isa = stage.machine.common_isa().extensions;
    let hart = Hart::take_over(isa.contains(Extension::Sstc), isa.contains(Extension::V));
    let mut memory = HostMemory::new(&stage.space, free_memory(stage)?);
    let (_, heap) = memory.take_words(HEAP, PAGE_SIZE).ok_or_else(|| String::from(NO_MEMORY))?;
    hart::heap::add(heap);

    let initrd = stage.machine.initrd.filter(|initrd| initrd.size > 0).ok_or(
        "there is no boot bundle: start the image with one in the initrd slot (`hypo pack` makes it)",
    )?;
    if !initrd.start.is_aligned(8) {
        return Err(format!("the boot bundle at {} is not aligned to 8 bytes", initrd.start));
    }
    let (manifest, payload) =
        bundle::format::read(memory.given(initrd)).map_err(|error| format!("{error}"))?;

    let mut host = open_host(stage, &hart, &manifest);
    let interrupts = open_interrupts(stage);
    host.say(Level::Info, format_args!("{}", Banner(stage)));
    let mut scheduler = Scheduler::new(Tuning::for_frequency(stage.machine.timebase_frequency));
    let sources = gather_randomness(stage, &hart, &manifest, &mut host);
    let randomness = sources.to_string();
    let random = sources.finish();
    let attached = &mut memory;
    let mut disks = attach::open(stage, &hart, &mut host, interrupts.as_ref(), &manifest, payload, attached)?;
    let nets = interfaces::open(stage, interrupts.as_ref(), &manifest, &mut memory)?;
    let mut asids = AsidSpace::new(hart.features().asid_bits, manifest.vms.len());
    let mut guests = Vec::with_capacity(manifest.vms.len());
    for config in &manifest.vms {
        let entity = scheduler.add(Guest::share(config));
        let mut slots = attach::slots(disks.of(entity), &config.disks);
        slots.extend(interfaces::slots(config));
        if config.console == ConsoleConfig::Virtio {
            slots.push(Slot::Console(virtio::console::Console::new(None)));
        }
        slots.push(Slot::Entropy(Entropy::new()));
        let parts = Parts { number: entity, config, slots, payload, asids: asids.deal() };
        let vm = build_vm(stage, &hart, parts, &random, &mut memory)?;
        guests.push(Guest::new(vm, FIRST_HART, entity, config, stage.machine.timebase_frequency));
    }
    let blocks: Vec<_> = guests
        .iter()
        .flat_map(|guest: &Guest| &guest.vm.vcpus)
        .map(|vcpu| vcpu.caches.shadow.host().asids)
        .collect();
    assert!(asids.holds(&blocks), "vCPUs share ASIDs: {blocks:?}");
    attach::give_room(&mut disks, &manifest, &mut host, &mut memory, &random)?;
    hart.fence_i();
    let view = match manifest.host.show {
        Show::First => Shown::Guest,
        Show::All => Shown::All,
    };
    host.console.set_guests(manifest.vms.iter().map(|config| config.name.clone()).collect(), view);
    let alarm =
        Alarm::new(hart.sets_timer_cheaply(), stage.machine.timebase_frequency, hart::firmware::call_ticks());
    let mut world = World {
        shares_asids: asids.policy() == TlbPolicy::FlushOnEntry,
        host,
        interrupts,
        io: Io::new(disks, nets, random_devices(&random, guests.len()), stage.machine.timebase_frequency),
        guests,
        queues: Queues::new([scheduler]),
        kicks: HartSet::default(),
        recent: &RECENT,
        probes: Probes {
            check_every: manifest.host.check_every,
            drop_caches_every: manifest.host.drop_caches_every,
        },
        ending: None,
        operator: Operator::default(),
        facts: facts(stage, &memory, randomness),
        clock: Clock::new(stage.machine.timebase_frequency),
        started: hart::time::now(),
    };
    let mut hart = world::Hart::new(FIRST_HART, Port(hart), alarm);
    for (number, config) in manifest.vms.iter().enumerate().filter(|(_, config)| config.autostart) {
        world
            .start(&mut hart, number)
            .map_err(|reason| format!("guest `{}` cannot start: {reason}", config.name))?;
    }
    if !manifest.vms.iter().any(|config| config.autostart) {
        // Only the operator can start one.
        world.host.console.open_monitor();
    }
    Ok((world, hart))
}

fn free_memory(stage: &Stage) -> Result<Extents, String> {
    let too_many = |_| String::from("the host's memory map has too many ranges");
    let mut free = Extents::new();
    for ram in &stage.machine.memory {
        // Only what the direct map has: whole pages.
        let start = ram.start.align_up(PAGE_SIZE).unwrap_or(ram.start);
        let end = ram.end().align_down(PAGE_SIZE);
        free.add(Extent::new(start, end.offset_from(start).unwrap_or(0))).map_err(too_many)?;
    }
    let image = stage.image.extent();
    // The host's device tree has been read: its memory, in the middle of a large machine's RAM, is free again.
    let used = [Some(image), stage.machine.initrd];
    for extent in stage.machine.reserved.iter().copied().chain(used.into_iter().flatten()) {
        free.remove(extent).map_err(too_many)?;
    }
    Ok(free)
}

fn open_host(stage: &Stage, hart: &Hart, manifest: &Manifest) -> HostAccess<Real> {
    let uart = stage.machine.console.and_then(|console| {
        let registers = stage.space.device(console.registers.start)?;
        Some(Uart::new(registers, console.kind))
    });
    let line = uart.map_or(Line::Firmware, Line::Uart);
    let console = Console::new(line, View, &OUTPUT, stage.machine.timebase_frequency);
    HostAccess::new(console, View, hart.features().counters, manifest.host.log_level)
}

/// The interrupts of the host's devices, where it can deliver them; without them, nothing can be typed, and no disk used.
fn open_interrupts(stage: &Stage) -> Option<Interrupts<Real>> {
    let machine = &stage.machine;
    let plic = machine.plic?;
    let own = machine.harts.iter().find(|hart| hart.id == stage.hart_id)?;
    let registers = stage.space.device(plic.registers.start)?;
    let console = machine.console.and_then(|console| console.irq);
    let plic = Plic::new(registers, own.plic_context?, plic.sources);
    if let Some(console) = console {
        plic.enable_source(console);
    }
    Some(Interrupts { plic, console })
}

/// What a virtual machine is made of.
struct Parts<'a> {
    number: usize,
    config: &'a VmConfig,
    slots: Vec<Slot>,
    payload: &'static [u64],
    asids: Option<AsidBlock>,
}

fn build_vm(
    stage: &Stage,
    hart: &Hart,
    parts: Parts,
    random: &Root,
    memory: &mut HostMemory,
) -> Result<Vm, String> {
    let Parts { number, config, slots, payload, asids } = parts;
    let too_little = || {
        format!(
            "guest `{}` wants {} MiB and the host has {} MiB left; give the guest less memory or QEMU more \
             with --host-memory",
            config.name,
            config.memory >> 20,
            memory.available() >> 20
        )
    };
    let ram_size = config.memory;
    let beside = Footprint::of(config);
    if memory.available() < ram_size + beside.bytes() {
        return Err(too_little());
    }
    let (_, words) = memory.take_words(beside.heap, PAGE_SIZE).ok_or_else(|| String::from(NO_MEMORY))?;
    hart::heap::add(words);
    let no_range = |memory: &HostMemory| {
        format!(
            "guest `{}` wants {} MiB, and the host's {} free MiB have no such piece; give the guest less memory \
             or QEMU more with --host-memory",
            config.name,
            config.memory >> 20,
            memory.available() >> 20
        )
    };
    let words = memory.take_guest_words(ram_size, BLOCK_SIZE).ok_or_else(|| no_range(memory))?;
    let tables = memory.take_tables(beside.tables as usize).ok_or_else(|| String::from(NO_MEMORY))?;
    let (copy_base, copies) =
        memory.take_shared(beside.copies * PAGE_SIZE, PAGE_SIZE).ok_or_else(|| String::from(NO_MEMORY))?;
    let initial = config
        .segments
        .iter()
        .map(|segment| {
            let first = (segment.offset / 8) as usize;
            let count = segment.len.div_ceil(8) as usize;
            let words = payload.get(first..first + count).unwrap_or(&[]);
            InitialData { address: GuestPhysAddr(segment.address), words }
        })
        .collect();

    let machine = &stage.machine;
    let host_isa = machine.common_isa();
    let shadow = ShadowMmu::new(tables, asids);
    let mode = shadow.host().widest_guest_mode();
    // Filled at each start.
    let tree = tree::build(config, host_isa, mode, machine.timebase_frequency, &[0; SEED_BYTES]);
    let wall = machine.rtc.and_then(|rtc| stage.space.device(rtc)).map_or(0, |rtc| rtc::now(&rtc));
    let clock = Clock::new(machine.timebase_frequency);
    let boot_wall = wall.saturating_sub(clock.board_time(hart::time::now()).0);

    let ram = GuestRam::of(words, tree::RAM_BASE, initial);
    let transport = match config.virtio {
        VirtioTransport::Modern => virtio::Version::Modern,
        VirtioTransport::Legacy => virtio::Version::Legacy,
    };
    let board = Board::new(1, boot_wall, slots).with_virtio(transport);
    let features = tree::csr_features(host_isa.guest_view(), mode);
    let mut vcpu = Vcpu::new(0, features, shadow);
    vcpu.frame.units = Units::new(number as u64, hart.features().vlenb);
    if config.switches.fast {
        vcpu.frame.fast.sites.set_handlers(hart::fast::handlers());
    }
    // Without room no page is ever copied.
    let mut code = CodePages::new(if config.switches.rewrite { copies } else { &[] }, copy_base);
    code.set_exact(config.switches.exact);
    if config.switches.rewrite && hart::firmware::complains() {
        ram.overlay().require_scan();
    }
    let seeds = random.stream(Purpose::DeviceTree, number);
    let boot = Boot { entry: config.entry, tree_address: GuestPhysAddr(config.device_tree), tree, seeds };
    let vcpus = Vec::from([vcpu]);
    Ok(Vm::new(config.name.clone(), Machine::new(ram, code, board, 1, clock), vcpus, boot))
}

/// Where guests' random numbers come from. Warns where they can be predicted.
fn gather_randomness(
    stage: &Stage,
    hart: &Hart,
    manifest: &Manifest,
    host: &mut HostAccess<Real>,
) -> Collector {
    let sources = random::gather(stage, hart, manifest);
    if !sources.is_unpredictable() {
        host.say(
            Level::Warning,
            format_args!(
                "the host has no source of randomness, and the bundle may have been booted before: guests' random \
                 numbers can be predicted; attach a virtio-rng device, or pack the bundle anew for each boot"
            ),
        );
    }
    sources
}

/// What the guests' entropy devices give out, by guest.
fn random_devices(random: &Root, guests: usize) -> Vec<Stream> {
    (0..guests).map(|guest| random.stream(Purpose::Device, guest)).collect()
}

/// What the monitor tells of the machine.
fn facts(stage: &Stage, memory: &HostMemory, randomness: String) -> Vec<(&'static str, String)> {
    let Stage { machine, space, hart_id, .. } = stage;
    let size: u64 = machine.memory.iter().map(|range| range.size >> 20).sum();
    let own = machine.harts.iter().find(|hart| hart.id == *hart_id);
    Vec::from([
        ("version", env!("CARGO_PKG_VERSION").to_string()),
        ("hart", format!("{hart_id}, of {}", machine.harts.len())),
        ("ISA", own.map_or_else(String::new, |hart| hart.isa.extensions.to_isa())),
        ("translation", format!("{:?}, window {:#x}", space.mode(), space.window())),
        ("memory", format!("{size} MiB, {} MiB of them free", memory.available() >> 20)),
        ("clock", format!("{} Hz", machine.timebase_frequency)),
        ("randomness", randomness),
    ])
}

/// The line at the start.
struct Banner<'a>(&'a Stage);

impl core::fmt::Display for Banner<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let Stage { machine, space, hart_id, .. } = self.0;
        let memory: u64 = machine.memory.iter().map(|range| range.size >> 20).sum();
        write!(f, "version {}, hart {hart_id}, {memory} MiB, ", env!("CARGO_PKG_VERSION"))?;
        write!(f, "{:?}, window {:#x}", space.mode(), space.window())
    }
}
