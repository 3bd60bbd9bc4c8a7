//! Drivers that write anything to registers and rings: the devices never panic, give the caller only what is checked, and
//! write to nothing but used rings and the buffers that they were given to write to.

use std::sync::OnceLock;
use std::sync::atomic::AtomicU64;

use devices::virtio::block::{Block, Disk, Kind, Status, Token};
use devices::virtio::console::{Console, Size};
use devices::virtio::entropy::Entropy;
use devices::virtio::net::{MAX_FRAME, Net};
use devices::virtio::{Slot, Version, block, entropy};
use devices::{Board, BoardTime, SlotId};
use isa::Width;
use memory::{BLOCK_SIZE, GuestPhysAddr, GuestRam, HostPhysAddr};
use proptest::prelude::*;

const RAM: u64 = 0x8000_0000;
/// The descriptors and the available ring of each queue, 8 KiB a queue.
const QUEUES: u64 = RAM;
/// Where the available ring is behind the descriptors: right there, as legacy drivers have it.
const AVAILABLE: u64 = 16 * SIZE as u64;
/// Tables for indirect descriptors.
const TABLES: u64 = RAM + 0x1_0000;
/// What devices only read.
const READABLE: u64 = RAM + 0x2_0000;
/// What devices may write: first the used rings, 4 KiB a queue; of legacy drivers, all at one place.
const WRITABLE: u64 = RAM + 0x8_0000;
const BUFFERS: u64 = WRITABLE + 0x1_0000;
const WRITABLE_END: u64 = RAM + 0x10_0000;

const SECTORS: u64 = 1000;
const SIZE: u16 = 8;
const SLOTS: usize = 4;

#[derive(Clone, Debug)]
enum Step {
    /// Writes a descriptor anywhere: table (a queue's, then indirect ones), index, flags, place, length, next.
    Describe(u8, u8, u16, u16, u32, u16),
    /// Writes a request's header, a frame or a range, for what it is worth.
    Fill(u16, u32, u64),
    /// Makes a head available in a queue and moves the index.
    Offer(u8, u16, u16),
    Register(u8, u8, u32),
    Kick(u8),
    Serve(u8),
    Complete(u8, u8),
    Frame(u16),
    Input(u8),
    /// Makes a request such as the queue is for, damages one of its descriptors if need be, offers it and serves it.
    Ask(Ask),
    /// Resets a device and brings it up again.
    BringUp(u8, bool),
}

#[derive(Clone, Debug)]
struct Ask {
    queue: u8,
    kind: u32,
    sector: u64,
    place: u16,
    /// Sizes of the data's pieces.
    sizes: Vec<u32>,
    indirect: bool,
    damage: Option<Damage>,
    serve: bool,
}

/// What one descriptor gets wrong.
#[derive(Clone, Debug)]
struct Damage {
    which: u8,
    flags: Option<u16>,
    len: Option<u32>,
    next: Option<u16>,
}

fn ask() -> impl Strategy<Value = Ask> {
    let kind = prop_oneof![6 => 0..2u32, 2 => prop::sample::select(vec![4, 8, 11, 13]), 1 => any::<u32>()];
    let sector = prop_oneof![8 => 0..SECTORS, 2 => SECTORS - 3..SECTORS + 2, 1 => any::<u64>()];
    let size = prop_oneof![4 => Just(512u32), 2 => Just(1024), 1 => Just(16), 2 => 1..2000u32];
    (
        0..8u8,
        kind,
        sector,
        0..0x4000u16,
        prop::collection::vec(size, 0..4),
        any::<bool>(),
        prop::option::weighted(0.2, damage()),
        prop::bool::weighted(0.8),
    )
        .prop_map(|(queue, kind, sector, place, sizes, indirect, damage, serve)| Ask {
            queue,
            kind,
            sector,
            place,
            sizes,
            indirect,
            damage,
            serve,
        })
}

fn damage() -> impl Strategy<Value = Damage> {
    (any::<u8>(), prop::option::of(0..8u16), prop::option::of(any::<u32>()), prop::option::of(0..10u16))
        .prop_map(|(which, flags, len, next)| Damage { which, flags, len, next })
}

fn step() -> impl Strategy<Value = Step> {
    let len = prop_oneof![8 => 0..2048u32, 2 => Just(16), 1 => 0..0x7_0000u32, 1 => any::<u32>()];
    let flags =
        prop_oneof![3 => Just(1u16), 3 => Just(2), 2 => Just(3), 2 => Just(0), 2 => Just(4), 1 => 0..8u16];
    let value = prop_oneof![0..16u32, Just(8), Just(u32::MAX), any::<u32>()];
    prop_oneof![
        40 => ask().prop_map(Step::Ask),
        12 => (any::<u8>(), 0..10u8, flags, 0..0x8000u16, len, 0..9u16)
            .prop_map(|(table, index, flags, place, len, next)| Step::Describe(table, index, flags, place, len, next)),
        4 => (0..0x8000u16, 0..15u32, prop_oneof![0..SECTORS + 2, any::<u64>()])
            .prop_map(|(place, kind, sector)| Step::Fill(place, kind, sector)),
        12 => (any::<u8>(), 0..9u16, prop_oneof![8 => Just(1u16), 1 => 0..10u16, 1 => any::<u16>()])
            .prop_map(|(queue, head, by)| Step::Offer(queue, head, by)),
        1 => (any::<u8>(), any::<u8>(), value).prop_map(|(slot, register, value)| Step::Register(slot, register, value)),
        2 => any::<u8>().prop_map(Step::Kick),
        10 => any::<u8>().prop_map(Step::Serve),
        4 => (any::<u8>(), 0..3u8).prop_map(|(which, status)| Step::Complete(which, status)),
        3 => (14..1519u16).prop_map(Step::Frame),
        2 => any::<u8>().prop_map(Step::Input),
        3 => (any::<u8>(), any::<bool>()).prop_map(|(slot, events)| Step::BringUp(slot, events)),
    ]
}

/// The same memory for each guest, one after the other.
fn memory() -> &'static [AtomicU64] {
    static MEMORY: OnceLock<Vec<AtomicU64>> = OnceLock::new();
    MEMORY.get_or_init(|| (0..BLOCK_SIZE / 8).map(|_| AtomicU64::new(0)).collect())
}

struct Lab {
    board: Board,
    version: Version,
    ram: GuestRam,
    /// What is at `RAM` as far as devices may not write to it.
    model: Vec<u8>,
    taken: Vec<Token>,
}

/// One of the board's slots.
fn at(slot: usize) -> SlotId {
    SlotId::new(slot).unwrap()
}

impl Lab {
    fn new(version: Version) -> Self {
        let disk = Disk { sectors: SECTORS, discard: true, write_zeroes: true, ..Disk::default() };
        let slots = vec![
            Slot::Block(Block::new(disk)),
            Slot::Net(Net::new([2, 0, 0, 0, 0, 1])),
            Slot::Console(Console::new(Some(Size { columns: 80, rows: 25 }))),
            Slot::Entropy(Entropy::new()),
        ];
        let ram = GuestRam::new(memory(), GuestPhysAddr(RAM), HostPhysAddr(0x4000_0000), Vec::new());
        let mut lab = Self {
            board: Board::new(1, 0, slots).with_virtio(version),
            version,
            ram,
            model: vec![0; BLOCK_SIZE as usize],
            taken: Vec::new(),
        };
        (0..SLOTS).for_each(|slot| lab.bring_up(slot, true));
        lab
    }

    fn put(&mut self, address: u64, bytes: &[u8]) {
        self.ram.write(GuestPhysAddr(address), bytes).unwrap();
        let start = (address - RAM) as usize;
        self.model[start..start + bytes.len()].copy_from_slice(bytes);
    }

    fn register(&mut self, slot: usize, offset: u64, value: u32) {
        let address = GuestPhysAddr(0x1000_1000 + 0x1000 * slot as u64 + offset);
        let _ = self.board.write(address, Width::Word, value.into(), BoardTime(0)).unwrap();
    }

    fn bring_up(&mut self, slot: usize, events: bool) {
        if slot == 0 {
            // Else its reset would have to wait.
            for token in std::mem::take(&mut self.taken) {
                self.complete(token, Status::Ok);
            }
        }
        for queue in 0..2 {
            self.put(QUEUES + 0x2000 * (2 * slot as u64 + queue) + AVAILABLE, &[0; 4]);
        }
        let features = if events { 0x3000_0000 } else { 0x1000_0000 };
        for (offset, value) in [(0x70, 0), (0x70, 3), (0x14, 0)] {
            self.register(slot, offset, value);
        }
        let address = GuestPhysAddr(0x1000_1010 + 0x1000 * slot as u64);
        let offered = self.board.read(address, Width::Word, BoardTime(0)).unwrap().value as u32;
        for (offset, value) in [
            (0x24, 0),
            (0x20, offered & 0xfff_ffff | features),
            (0x24, 1),
            (0x20, 1),
            (0x70, 11),
            (0x28, 4096),
        ] {
            self.register(slot, offset, value);
        }
        for queue in 0..2u32 {
            let place = QUEUES as u32 + 0x2000 * (2 * slot as u32 + queue);
            let used = WRITABLE as u32 + 0x1000 * (2 * slot as u32 + queue);
            for (offset, value) in [
                (0x30, queue),
                (0x38, SIZE.into()),
                (0x80, place),
                (0x90, place + AVAILABLE as u32),
                (0xa0, used),
                (0x44, 1),
                // The same for a legacy transport: the used ring is where the writable zone begins.
                (0x3c, (WRITABLE - RAM) as u32),
                (0x40, place >> 12),
            ] {
                self.register(slot, offset, value);
            }
        }
        self.register(slot, 0x70, 15);
    }

    fn step(&mut self, step: &Step) -> Result<(), TestCaseError> {
        match *step {
            Step::Describe(table, index, flags, place, len, next) => {
                let zone = match flags {
                    // In a table the flag means nothing.
                    _ if flags & 4 != 0 && table % 16 < 8 => TABLES + u64::from(place) % 8 * 0x100,
                    _ if flags & 2 != 0 => BUFFERS + u64::from(place),
                    _ => READABLE + u64::from(place),
                };
                // What is too long for RAM is the device's to refuse; what is in RAM stays in its zone.
                let len = match len {
                    0..=0x5_0000 => len,
                    _ if flags & 4 != 0 && table % 16 < 8 => 16 * (len % 9),
                    _ => len | 0x8000_0000,
                };
                let table = match table % 16 {
                    queue @ 0..8 => QUEUES + 0x2000 * u64::from(queue),
                    indirect => TABLES + 0x100 * u64::from(indirect - 8),
                };
                self.put(table + 16 * u64::from(index), &descriptor(zone, len, flags, next));
            }
            Step::Fill(place, kind, sector) => {
                let at = READABLE + u64::from(place);
                self.put(at, &kind.to_le_bytes());
                self.put(at + 8, &sector.to_le_bytes());
            }
            Step::Offer(queue, head, by) => {
                let ring = QUEUES + 0x2000 * u64::from(queue % 8) + AVAILABLE;
                let start = (ring + 2 - RAM) as usize;
                let index = u16::from_le_bytes([self.model[start], self.model[start + 1]]);
                self.put(ring + 4 + 2 * u64::from(index % SIZE), &head.to_le_bytes());
                self.put(ring + 2, &index.wrapping_add(by).to_le_bytes());
            }
            Step::Register(slot, register, value) => {
                // Not where the used ring is: that may be moved into any zone.
                let offset = 4 * u64::from(register) % 0x100;
                let moves = self.version == Version::Legacy && matches!(offset, 0x28 | 0x3c | 0x40);
                if !matches!(offset, 0xa0 | 0xa4 | 0x30) && (!moves || offset == 0x40 && value == 0) {
                    self.register(usize::from(slot) % SLOTS, offset, value);
                }
            }
            Step::Kick(which) => self.register(usize::from(which / 2) % SLOTS, 0x50, u32::from(which % 2)),
            Step::Serve(slot) => self.serve(usize::from(slot) % SLOTS)?,
            Step::Complete(which, status) => {
                if !self.taken.is_empty() {
                    let token = self.taken.swap_remove(usize::from(which) % self.taken.len());
                    let status = [Status::Ok, Status::IoErr, Status::Unsupported][usize::from(status)];
                    self.complete(token, status);
                }
            }
            Step::Frame(len) => {
                let Self { board, ram, .. } = self;
                board.serve(at(1), |slot| {
                    let Slot::Net(net) = slot else { panic!("a network interface") };
                    let _ = net.receive(ram, &vec![0xbb; len.into()]);
                });
            }
            Step::Input(len) => {
                let Self { board, ram, .. } = self;
                let taken = board.serve(at(2), |slot| {
                    let Slot::Console(console) = slot else { panic!("a terminal") };
                    console.input(ram, &vec![b'i'; len.into()])
                });
                prop_assert!(taken.unwrap() <= len.into());
            }
            Step::Ask(ref ask) => self.ask(ask)?,
            Step::BringUp(slot, events) => self.bring_up(usize::from(slot) % SLOTS, events),
        }
        Ok(())
    }

    /// What the queue is for: the block device's and the entropy source's only one, or a pair to receive and transmit.
    fn ask(&mut self, ask: &Ask) -> Result<(), TestCaseError> {
        let queue = match ask.queue {
            1 => 0,
            7 => 6,
            queue => queue,
        };
        let slot = usize::from(queue) / 2;
        if self.board.slots()[slot].is_broken() {
            self.bring_up(slot, ask.indirect);
        }
        let (readable, writable) = (READABLE + u64::from(ask.place), BUFFERS + u64::from(ask.place));
        let data = |base: u64, flags: u16| {
            ask.sizes.iter().zip(0..).map(move |(len, n)| (base + 0x1000 * n, *len, flags))
        };
        let mut parts: Vec<_> = match queue {
            0 => {
                self.put(readable, &ask.kind.to_le_bytes());
                self.put(readable + 8, &ask.sector.to_le_bytes());
                let is_in = matches!(ask.kind, 0 | 8);
                let data = data(if is_in { writable } else { readable + 0x800 }, if is_in { 2 } else { 0 });
                [(readable, 16, 0)].into_iter().chain(data).chain([(writable + 0x5000, 1, 2)]).collect()
            }
            2 | 4 | 6 => data(writable, 2).collect(),
            _ => data(readable, 0).collect(),
        };
        let last = parts.len().saturating_sub(1);
        let mut chain: Vec<_> = parts
            .drain(..)
            .zip(1..)
            .map(|((at, len, flags), next)| (at, len, flags | u16::from(usize::from(next) <= last), next))
            .collect();
        if let Some(Damage { which, flags, len, next }) = ask.damage
            && !chain.is_empty()
        {
            let which = usize::from(which) % chain.len();
            let descriptor = &mut chain[which];
            // The place stays in the zone that the flags ask for.
            if let Some(flags) = flags {
                descriptor.2 = flags;
                descriptor.0 = match flags {
                    _ if flags & 4 != 0 && !ask.indirect => TABLES,
                    _ if flags & 2 != 0 => writable,
                    _ => readable,
                };
            }
            descriptor.1 =
                len.map_or(descriptor.1, |len| if len % 2 == 0 { len % 0x5_0000 } else { len | 0x8000_0000 });
            descriptor.3 = next.unwrap_or(descriptor.3);
        }
        let ring = QUEUES + 0x2000 * u64::from(queue);
        let table = if ask.indirect { TABLES + 0x100 * u64::from(queue) } else { ring };
        for (n, (at, len, flags, next)) in (0..).zip(&chain) {
            self.put(table + 16 * n, &descriptor(*at, *len, *flags, *next));
        }
        let mut head = 0;
        if ask.indirect {
            head = ask.place % SIZE;
            self.put(ring + 16 * u64::from(head), &descriptor(table, 16 * chain.len() as u32, 4, 0));
        }
        self.step(&Step::Offer(queue, head, 1))?;
        if ask.serve { self.serve(slot) } else { Ok(()) }
    }

    fn complete(&mut self, token: Token, status: Status) {
        let Self { board, ram, .. } = self;
        board.serve(at(0), |slot| {
            let Slot::Block(block) = slot else { panic!("a disk") };
            block.complete(ram, token, status);
        });
    }

    fn serve(&mut self, slot: usize) -> Result<(), TestCaseError> {
        let Self { board, ram, taken, .. } = self;
        let mut bytes = 0;
        let verdict = board.serve(at(slot), |slot| match slot {
            Slot::Empty(_) => Ok(()),
            Slot::Block(block) => match block.next_request(ram) {
                Some(request) => {
                    taken.push(request.token);
                    check(ram, &request)
                }
                None => Ok(()),
            },
            Slot::Net(net) => {
                if let Some(len) = net.transmit(ram, &mut [0; MAX_FRAME]) {
                    prop_assert!((14..=MAX_FRAME).contains(&len));
                }
                Ok(())
            }
            Slot::Console(console) => {
                console.output(ram, |chunk| {
                    let count = chunk.len().min(700);
                    bytes += count;
                    count
                });
                prop_assert!(bytes <= devices::virtio::console::MAX_BYTES);
                Ok(())
            }
            Slot::Entropy(source) => {
                source.serve(ram, |chunk| {
                    bytes += chunk.len();
                    chunk.fill(0xdd);
                });
                prop_assert!(bytes <= entropy::MAX_BYTES);
                Ok(())
            }
        });
        verdict.unwrap()
    }

    /// Devices have written to nothing but what they may write to.
    fn check_memory(&self) -> Result<(), TestCaseError> {
        let mut all = vec![0; BLOCK_SIZE as usize];
        self.ram.read(GuestPhysAddr(RAM), &mut all).unwrap();
        let (start, end) = ((WRITABLE - RAM) as usize, (WRITABLE_END - RAM) as usize);
        prop_assert!(all[..start] == self.model[..start], "written in front of the buffers");
        prop_assert!(all[end..] == self.model[end..], "written behind the buffers");
        Ok(())
    }
}

fn descriptor(address: u64, len: u32, flags: u16, next: u16) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&address.to_le_bytes());
    bytes[8..12].copy_from_slice(&len.to_le_bytes());
    bytes[12..14].copy_from_slice(&flags.to_le_bytes());
    bytes[14..].copy_from_slice(&next.to_le_bytes());
    bytes
}

/// What a device gives the caller is on the disk and in RAM.
fn check(ram: &GuestRam, request: &block::Request<'_>) -> Result<(), TestCaseError> {
    let bytes: u64 = request.segments.iter().map(|segment| u64::from(segment.len)).sum();
    prop_assert!(request.segments.iter().all(|s| s.len > 0 && ram.contains(s.address, s.len.into())));
    let sectors = match request.kind {
        Kind::Read | Kind::Write => {
            prop_assert!(bytes > 0 && bytes.is_multiple_of(512) && bytes <= block::MAX_BYTES);
            prop_assert!(request.segments.len() <= block::MAX_SEGMENTS as usize);
            bytes / 512
        }
        Kind::Flush => 0,
        Kind::Discard { sectors } | Kind::WriteZeroes { sectors, .. } => sectors,
    };
    prop_assert!(request.sector + sectors <= SECTORS);
    if request.kind == Kind::Read {
        let is_writable = |s: &devices::virtio::Segment| {
            s.address.0 >= BUFFERS && s.address.0 + u64::from(s.len) <= WRITABLE_END
        };
        prop_assert!(request.segments.iter().all(is_writable));
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(150) })]

    #[test]
    fn a_hostile_driver_finds_its_device_broken_and_nothing_else(
        version in prop::sample::select(vec![Version::Legacy, Version::Modern]),
        steps in prop::collection::vec(step(), 1..300),
    ) {
        let mut lab = Lab::new(version);
        for step in &steps {
            lab.step(step)?;
        }
        lab.check_memory()?;
        // What is in flight can be completed, and then every device can be brought up anew.
        for token in std::mem::take(&mut lab.taken) {
            lab.complete(token, Status::Ok);
        }
        for slot in 0..SLOTS {
            lab.register(slot, 0x70, 0);
            lab.bring_up(slot, false);
            prop_assert_eq!(lab.board.in_flight(), 0);
            let status = GuestPhysAddr(0x1000_1070 + 0x1000 * slot as u64);
            prop_assert_eq!(lab.board.read(status, Width::Word, BoardTime(0)).unwrap().value, 15);
        }
        lab.check_memory()?;
    }
}
