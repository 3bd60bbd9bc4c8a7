//! Makes a world on a simulated machine.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Mutex;
use std::sync::atomic::AtomicU64;

use ::devices::virtio::block::Block;
use ::devices::virtio::net::Net;
use ::devices::virtio::{Slot, block as virtio_block};
use ::devices::{Board, SlotId};
use ::net::{PortKind, Switch};
use block::gpt::Range;
use block::{Disk, HostAbilities, Writes};
use bundle::VmConfig;
use entropy::{Collector, Purpose};
use isa::paging::Mode;
use memory::{BLOCK_SIZE, Extent, GuestPhysAddr, GuestRam, HartAuthority, HostPhysAddr, InitialData};
use mmu::shadow::MIN_TABLES;
use mmu::{AsidSpace, ShadowMmu};
use monitor::{Operator, View as Shown};
use rewrite::CodePages;
use scheduler::{Scheduler, Tuning};
use vhart::{HostTables, SharedTable, Units, Window};
use vmm::machine::{Clock, Machine};
use vmm::timer::Alarm;
use vmm::vm::{Boot, Vm};
use vmm::{CsrFeatures, Vcpu};
use world::console::{Console, Output};
use world::host::HostAccess;
use world::io::Io;
use world::io::disks::{Disks, GuestDisk, HostDisk};
use world::io::nets::{HostNic, Lan, Nets, Plug};
use world::{Guest, Hart, HartId, HartSet, Interrupts, Probes, Queues, Recent, World};

use super::devices::{
    DISK_SOURCE, DiskState, LINE_SOURCE, LineState, NIC_SOURCE, NicState, SimDisk, SimInterrupts, SimLine,
    SimNic,
};
use super::program::{ENTRY, KERNEL, KERNEL_AT, Program, RAM, mac};
use super::random::Random;
use super::{FREQUENCY, HartState, Port, Shared, Sim, State, View};

/// A guest of a test.
#[derive(Clone, Debug)]
pub struct Setup {
    /// What its manifest says.
    pub config: VmConfig,
    /// It has a disk.
    pub has_disk: bool,
    /// It has a port at the switch, and a disk.
    pub has_net: bool,
    /// How its lives go.
    pub plan: fn(&mut Program, &mut Random),
}

/// Sectors of the host's disk that each guest has.
const SECTORS: u64 = 1 << 16;
const FEATURES: CsrFeatures = CsrFeatures {
    widest_mode: Mode::Sv48,
    float: false,
    vector: false,
    cache_blocks: false,
    cache_zero: false,
    svinval: false,
};

/// Memory of guests that are gone.
static SPARE: Mutex<Vec<&'static [AtomicU64]>> = Mutex::new(Vec::new());

/// A world, and the harts that take turns in it.
pub struct Made {
    pub world: World<Sim>,
    pub harts: Vec<Hart<Sim>>,
    pub state: Shared,
    ram: Vec<&'static [AtomicU64]>,
}

impl Drop for Made {
    fn drop(&mut self) {
        // The machine is switched off: a line that takes nothing holds nobody up any more.
        self.state.borrow_mut().line.let_go();
        if let Ok(mut spare) = SPARE.lock() {
            spare.append(&mut self.ram);
        }
    }
}

/// Makes a world of these guests on so many harts.
pub fn make(setups: &[Setup], harts: usize, seed: u64) -> Made {
    let mut random = Random(seed);
    let ram: Vec<_> = setups.iter().map(|_| spare_ram()).collect();
    let programs = setups.iter().zip(&ram).enumerate();
    let programs = programs.map(|(number, (setup, ram))| Program::new(number, ram, setup.plan)).collect();
    let cheap = random.once_in(2);
    let state = Rc::new(RefCell::new(State {
        now: 1000,
        harts: (0..harts).map(|_| HartState::new()).collect(),
        quantum_end: u64::MAX,
        line: LineState::new(10),
        nic: NicState::default(),
        disk: DiskState::new(),
        claimed: 0,
        programs,
        frames: Vec::new(),
        random,
        faults: Vec::new(),
    }));
    let clock = Clock::new(FREQUENCY);
    let mut collector = Collector::new();
    collector.add(entropy::Source::Firmware, &[0x5a; 32]);
    let root = collector.finish();
    let output: &'static Output = Box::leak(Box::new(Output::new()));
    let view = View(state.clone());
    let mut console = Console::new(SimLine(state.clone()), view.clone(), output, FREQUENCY);
    console.set_guests(setups.iter().map(|setup| setup.config.name.clone()).collect(), Shown::All);
    let mut asids = AsidSpace::new(16, setups.len());
    let mut guests = Vec::new();
    let (mut disks, mut plugs) = (Vec::new(), Vec::new());
    let mut switch = Switch::new("lan".into());
    switch.connect("uplink".into(), PortKind::Uplink([2, 0, 0, 0, 1, 0]), None);
    for (number, setup) in setups.iter().enumerate() {
        let (mut slots, mut own) = (Vec::new(), Vec::new());
        if setup.has_disk {
            let range = Range { first: SECTORS * number as u64, count: SECTORS };
            let disk = Disk::on_host(range, ABILITIES, Writes::ToHost);
            slots.push(Slot::Block(Block::new(virtio_block::Disk {
                sectors: SECTORS,
                read_only: false,
                discard: false,
                write_zeroes: false,
                serial: [0; virtio_block::SERIAL],
            })));
            own.push(GuestDisk::new(1, "`disk`".into(), disk, Some(0)));
        }
        let mut own_plugs = Vec::new();
        if setup.has_net {
            assert!(setup.has_disk, "the interface is in the second slot");
            let port = switch.connect(setup.config.name.clone(), PortKind::Guest(mac(number)), None);
            own_plugs.push(Plug { slot: SlotId::new(slots.len()).unwrap(), lan: 0, port });
            slots.push(Slot::Net(Net::new(mac(number))));
        }
        plugs.push(own_plugs);
        disks.push(own);
        let window = Window { first_slot: 511, entries: Default::default() };
        let tables: Vec<_> = (0..2 * MIN_TABLES).map(|_| SharedTable::filled_with(0)).collect();
        let base = HostPhysAddr(0x1_0000_0000);
        let tables = HostTables::new(tables.leak(), base, Mode::Sv57, window, HartAuthority::simulated());
        let mut vcpu = Vcpu::new(0, FEATURES, ShadowMmu::new(tables, asids.deal()));
        vcpu.frame.units = Units::new(number as u64, 0);
        let initial = KERNEL.iter().zip(0..).map(|(word, n)| InitialData {
            address: GuestPhysAddr(KERNEL_AT + 8 * n),
            words: core::slice::from_ref(word),
        });
        let initial = initial.collect();
        let guest_ram = GuestRam::new(ram[number], GuestPhysAddr(RAM), HostPhysAddr(RAM), initial);
        let code = CodePages::new(&[], HostPhysAddr(0x2_0000_0000));
        let board = Board::new(1, 0, slots);
        let boot = Boot {
            entry: ENTRY,
            tree_address: GuestPhysAddr(RAM + setup.config.device_tree),
            tree: vec![0; 64],
            seeds: root.stream(Purpose::DeviceTree, number),
        };
        let machine = Machine::new(guest_ram, code, board, 1, clock);
        let vm = Vm::new(setup.config.name.clone(), machine, vec![vcpu], boot);
        guests.push(Guest::new(vm, HartId(number % harts), number, &setup.config, FREQUENCY));
    }
    let frames = guests.iter().map(|guest| core::ptr::from_ref(&guest.vm.vcpus[0].frame) as usize).collect();
    state.borrow_mut().frames = frames;
    let scheduler = || {
        let mut scheduler = Scheduler::new(Tuning::for_frequency(FREQUENCY));
        for (number, setup) in setups.iter().enumerate() {
            assert_eq!(scheduler.add(Guest::share(&setup.config)), number);
        }
        scheduler
    };
    let hosts = vec![HostDisk::new(SimDisk(state.clone()), DISK_SOURCE, "disk".into())];
    let nic = HostNic { device: SimNic(state.clone()), source: NIC_SOURCE, is_behind: false };
    let lan = Lan { switch, nic: Some(nic) };
    let streams = (0..setups.len()).map(|guest| root.stream(Purpose::Device, guest)).collect();
    let world = World {
        host: HostAccess::new(console, view, true, 2),
        interrupts: Some(Interrupts { plic: SimInterrupts(state.clone()), console: Some(LINE_SOURCE) }),
        io: Io::new(Disks::new(hosts, disks), Nets::new(vec![lan], plugs), streams, FREQUENCY),
        guests,
        queues: Queues::new((0..harts).map(|_| scheduler())),
        kicks: HartSet::default(),
        recent: Box::leak(Box::new(Recent::new())),
        shares_asids: false,
        probes: Probes::default(),
        ending: None,
        operator: Operator::default(),
        facts: Vec::new(),
        clock,
        started: 1000,
    };
    let harts = (0..harts)
        .map(|id| {
            let port = Port { state: state.clone(), id };
            Hart::new(HartId(id), port, Alarm::new(cheap, FREQUENCY, 1))
        })
        .collect();

    Made { world, harts, state, ram }
}

const ABILITIES: HostAbilities = HostAbilities {
    segments: 8,
    segment_size: 1 << 20,
    flush: true,
    discard: 0,
    write_zeroes: 0,
    zeros: Extent::new(HostPhysAddr(0x3_0000_0000), 4096),
};

fn spare_ram() -> &'static [AtomicU64] {
    let spare = SPARE.lock().unwrap().pop();
    spare.unwrap_or_else(|| (0..BLOCK_SIZE / 8).map(|_| AtomicU64::new(!0)).collect::<Vec<_>>().leak())
}
