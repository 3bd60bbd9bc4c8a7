//! Our devices, on both transports, and somebody else's drivers: those of the `virtio-drivers` crate, which know nothing of
//! us.

mod guest;

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

use devices::virtio::block::{Block, Disk, Kind, Status};
use devices::virtio::console::{Console, Size};
use devices::virtio::entropy::Entropy;
use devices::virtio::net::{MAX_FRAME, Net, Received};
use devices::virtio::{Slot, Version};
use memory::GuestRam;
use virtio_drivers::Error;
use virtio_drivers::device::blk::{BlkReq, BlkResp, VirtIOBlk};
use virtio_drivers::device::console::VirtIOConsole;
use virtio_drivers::device::net::VirtIONet;
use virtio_drivers::device::rng::VirtIORng;

use guest::{Backend, GuestHal, PeerTransport};

/// Both transports.
const VERSIONS: [Version; 2] = [Version::Legacy, Version::Modern];

/// A disk in memory, which may be told to let requests lie.
struct MemoryDisk {
    bytes: Vec<u8>,
    flushes: usize,
    lazy: bool,
    /// Requests that were taken and not answered, with what they are.
    waiting: Vec<devices::virtio::block::Token>,
}

impl MemoryDisk {
    fn new(sectors: usize) -> Rc<RefCell<Self>> {
        let bytes = (0..512 * sectors).map(|n| (n / 512 + n) as u8).collect();
        Rc::new(RefCell::new(Self { bytes, flushes: 0, lazy: false, waiting: Vec::new() }))
    }
}

impl Backend for MemoryDisk {
    fn serve(&mut self, device: &mut Slot, ram: &GuestRam) {
        let Slot::Block(block) = device else { panic!("a disk") };
        while let Some(request) = block.next_request(ram) {
            let mut at = 512 * request.sector as usize;
            for segment in request.segments {
                let place = &mut self.bytes[at..at + segment.len as usize];
                match request.kind {
                    Kind::Read => ram.device_write(segment.address, place).unwrap(),
                    Kind::Write => ram.read(segment.address, place).unwrap(),
                    kind => panic!("{kind:?} has no data"),
                }
                at += segment.len as usize;
            }
            self.flushes += usize::from(request.kind == Kind::Flush);
            let token = request.token;
            if self.lazy {
                self.waiting.push(token);
            } else {
                block.complete(ram, token, Status::Ok);
            }
        }
    }
}

fn disk(
    version: Version,
    sectors: usize,
    read_only: bool,
) -> (VirtIOBlk<GuestHal, PeerTransport>, PeerTransport, Rc<RefCell<MemoryDisk>>) {
    let memory = MemoryDisk::new(sectors);
    let serial = *b"peer-0\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
    let device = Block::new(Disk { sectors: sectors as u64, read_only, serial, ..Disk::default() });
    let transport = PeerTransport::new(version, Slot::Block(device), memory.clone());
    (VirtIOBlk::new(transport.clone()).unwrap(), transport, memory)
}

#[test]
fn sectors_are_read_and_written() {
    for version in VERSIONS {
        let (mut driver, transport, memory) = disk(version, 2000, false);
        assert_eq!((driver.capacity(), driver.readonly()), (2000, false));
        let mut back = vec![0; 64 << 10];
        driver.read_blocks(7, &mut back).unwrap();
        assert_eq!(back, memory.borrow().bytes[7 * 512..][..back.len()]);
        let data: Vec<u8> = (0..20 * 512).map(|n| (n * 13) as u8).collect();
        driver.write_blocks(1980, &data).unwrap();
        assert_eq!(memory.borrow().bytes[1980 * 512..], data);
        driver.flush().unwrap();
        assert_eq!(memory.borrow().flushes, 1);
        assert!(transport.interrupts());
        assert!(!driver.ack_interrupt().is_empty());
        assert!(!transport.interrupts());
    }
}

#[test]
fn a_driver_learns_the_serial_number_and_what_is_refused() {
    for version in VERSIONS {
        let (mut driver, _, memory) = disk(version, 10, true);
        let mut serial = [0xee; 20];
        assert_eq!(driver.device_id(&mut serial), Ok(6));
        assert_eq!(&serial[..6], b"peer-0");
        assert!(driver.readonly());
        let before = memory.borrow().bytes.clone();
        assert_eq!(driver.write_blocks(0, &[1; 512]), Err(Error::IoError));
        assert_eq!(driver.read_blocks(9, &mut [0; 1024]), Err(Error::IoError));
        assert_eq!(memory.borrow().bytes, before);
    }
}

#[test]
fn requests_lie_together_and_are_answered_backwards() {
    for version in VERSIONS {
        let (mut driver, transport, memory) = disk(version, 100, false);
        memory.borrow_mut().lazy = true;
        let mut requests: Vec<_> =
            (0..16).map(|_| (BlkReq::default(), vec![0; 512], BlkResp::default(), 0)).collect();
        for (n, (request, buffer, response, token)) in requests.iter_mut().enumerate() {
            // SAFETY: all three live until the request is complete.
            *token = unsafe { driver.read_blocks_nb(n, request, buffer, response) }.unwrap();
        }
        assert_eq!(driver.peek_used(), None);
        for answered in (0..16).rev() {
            let token = memory.borrow_mut().waiting.pop().unwrap();
            transport.serve(|device, ram| {
                let Slot::Block(block) = device else { panic!("a disk") };
                block.complete(ram, token, Status::Ok);
            });
            let (request, buffer, response, token) = &mut requests[answered];
            assert_eq!(driver.peek_used(), Some(*token));
            // SAFETY: these are the ones that were given.
            unsafe { driver.complete_read_blocks(*token, request, buffer, response) }.unwrap();
            assert_eq!(buffer[..], memory.borrow().bytes[512 * answered..][..512]);
        }
    }
}

/// Frames come back to where they are from.
struct Loop(VecDeque<Vec<u8>>);

impl Backend for Loop {
    fn serve(&mut self, device: &mut Slot, ram: &GuestRam) {
        let Slot::Net(net) = device else { panic!("a network interface") };
        let mut frame = [0; MAX_FRAME];
        while let Some(len) = net.transmit(ram, &mut frame) {
            self.0.push_back(frame[..len].to_vec());
        }
        while let Some(frame) = self.0.front() {
            match net.receive(ram, frame) {
                Received::NoBuffers => break,
                Received::Done | Received::Dropped => self.0.pop_front(),
            };
        }
    }
}

#[test]
fn frames_go_round_more_often_than_the_rings_are_long() {
    for version in VERSIONS {
        let switch = Rc::new(RefCell::new(Loop(VecDeque::new())));
        let transport = PeerTransport::new(version, Slot::Net(Net::new([2, 0, 0, 0, 0, 9])), switch.clone());
        let mut driver = VirtIONet::<GuestHal, _, 16>::new(transport, 2048).unwrap();
        assert_eq!(driver.mac_address(), [2, 0, 0, 0, 0, 9]);
        for n in 0..100_usize {
            let mut frame = driver.new_tx_buffer(14 + n * 15);
            frame.packet_mut().iter_mut().enumerate().for_each(|(at, byte)| *byte = (at * n) as u8);
            let sent = frame.packet().to_vec();
            driver.send(frame).unwrap();
            let received = driver.receive().unwrap();
            assert!(received.packet() == sent, "frame {n}");
            driver.recycle_rx_buffer(received).unwrap();
            assert!(!driver.can_recv());
        }
        // More than there are buffers: the switch keeps them until buffers come back.
        for n in 0..20 {
            let mut frame = driver.new_tx_buffer(60);
            frame.packet_mut()[0] = n;
            driver.send(frame).unwrap();
        }
        assert_eq!(switch.borrow().0.len(), 4);
        for n in 0..20 {
            let received = driver.receive().unwrap();
            assert_eq!(received.packet()[0], n);
            driver.recycle_rx_buffer(received).unwrap();
        }
    }
}

/// What the guest writes, as far as the terminal takes it at once.
struct Terminal(Vec<u8>);

impl Backend for Terminal {
    fn serve(&mut self, device: &mut Slot, ram: &GuestRam) {
        let Slot::Console(console) = device else { panic!("a terminal") };
        while console.has_output(ram) {
            console.output(ram, |bytes| {
                let count = bytes.len().min(5);
                self.0.extend(&bytes[..count]);
                count
            });
        }
    }
}

#[test]
fn a_terminal_talks_and_listens() {
    for version in VERSIONS {
        let terminal = Rc::new(RefCell::new(Terminal(Vec::new())));
        let device = Console::new(Some(Size { columns: 80, rows: 24 }));
        let transport = PeerTransport::new(version, Slot::Console(device), terminal.clone());
        let mut driver = VirtIOConsole::<GuestHal, _>::new(transport.clone()).unwrap();
        let size = driver.size().unwrap().unwrap();
        assert_eq!((size.columns, size.rows), (80, 24));
        driver.send_bytes(b"a line that is longer than a few bytes\n").unwrap();
        driver.send(b'!').unwrap();
        assert_eq!(terminal.borrow().0, b"a line that is longer than a few bytes\n!");
        assert_eq!(driver.recv(true).unwrap(), None);
        for typed in [&b"ls\n"[..], b"exit\n"] {
            transport.serve(|device, ram| {
                let Slot::Console(console) = device else { panic!("a terminal") };
                assert_eq!(console.input(ram, typed), typed.len());
            });
            assert!(transport.interrupts() && driver.ack_interrupt().unwrap());
            let heard: Vec<_> = std::iter::from_fn(|| driver.recv(true).unwrap()).collect();
            assert_eq!(heard, typed);
        }
    }
}

/// Counts instead of random numbers.
struct Counting(u8);

impl Backend for Counting {
    fn serve(&mut self, device: &mut Slot, ram: &GuestRam) {
        let Slot::Entropy(source) = device else { panic!("a source of randomness") };
        source.serve(ram, |bytes| {
            for byte in bytes {
                self.0 = self.0.wrapping_add(1);
                *byte = self.0;
            }
        });
    }
}

#[test]
fn random_bytes_come_as_often_as_they_are_asked_for() {
    for version in VERSIONS {
        let transport =
            PeerTransport::new(version, Slot::Entropy(Entropy::new()), Rc::new(RefCell::new(Counting(0))));
        let mut driver = VirtIORng::<GuestHal, _>::new(transport.clone()).unwrap();
        let mut next = 0u8;
        for _ in 0..40 {
            let mut bytes = [0; 100];
            assert_eq!(driver.request_entropy(&mut bytes), Ok(100));
            for byte in bytes {
                next = next.wrapping_add(1);
                assert_eq!(byte, next);
            }
        }
        assert!(*transport.kicks.borrow() <= 40);
        assert_eq!(driver.request_entropy(&mut [0; 5000]), Ok(256), "a driver that wants more asks again");
    }
}
