//! A guest's drivers of its virtio devices, as simple as can be.

use super::{Op, Program, RAM, read16};

pub(super) const VIRTIO: u64 = 0x1000_1000;
pub(super) const PLIC: u64 = 0x0c00_0000;
pub(super) const CLAIM: u64 = PLIC + 0x20_1004;
pub(super) const DISK_IRQ: u64 = 1;
pub(super) const NET: u64 = VIRTIO + 0x1000;
pub(super) const NET_IRQ: u64 = 2;
pub(super) const RING: u64 = RAM + 0x8_0000;
pub(super) const RING_SIZE: u16 = 16;
pub(super) const DATA: u64 = RAM + 0x10_0000;
pub(super) const RECEIVE: u64 = RAM + 0xa_0000;
pub(super) const TRANSMIT: u64 = RAM + 0xb_0000;
pub(super) const FRAMES: u64 = RAM + 0xc_0000;
/// Buffers in each direction.
pub(super) const BUFFERS: u16 = 8;
/// Bytes in front of a frame, and of a frame.
pub(super) const HEADER: u64 = 12;
pub(super) const FRAME: u64 = 64;
/// Bytes of a request.
pub(super) const REQUEST: u32 = 1024;

impl Program {
    /// Brings its disk up.
    pub fn open_disk(&mut self) {
        self.open(VIRTIO, DISK_IRQ, &[RING]);
    }

    /// Brings its network interface up, with buffers for what comes.
    pub fn open_net(&mut self) {
        for n in 0..BUFFERS {
            let at = RECEIVE + 16 * u64::from(n);
            self.write64(at, FRAMES + 0x800 * u64::from(n));
            self.write64(at + 8, 0x800 | 2 << 32);
            self.write16(RECEIVE + 0x1004 + 2 * u64::from(n), n);
        }
        self.write16(RECEIVE + 0x1002, BUFFERS);
        // What was sent is looked for when there is more to send.
        self.write16(TRANSMIT + 0x1000, 1);
        (self.sent, self.received) = (0, 0);
        self.open(NET, NET_IRQ, &[RECEIVE, TRANSMIT]);
    }

    /// Brings a device up, with these queues.
    fn open(&mut self, device: u64, irq: u64, queues: &[u64]) {
        let place = |offset: u64, address: u64| {
            [
                Op::Store(device + offset, address as u32),
                Op::Store(device + offset + 4, (address >> 32) as u32),
            ]
        };
        self.ops.extend([
            Op::Store(PLIC + 4 * irq, 1),
            // Firmware has shut all out.
            Op::Store(PLIC + 0x20_1000, 0),
            Op::Store(PLIC + 0x2080, 1 << DISK_IRQ | 1 << NET_IRQ),
            Op::Store(device + 0x70, 0),
            Op::Store(device + 0x70, 3),
            Op::Store(device + 0x24, 1),
            Op::Store(device + 0x20, 1),
            Op::Store(device + 0x70, 11),
        ]);
        for (queue, number) in queues.iter().zip(0..) {
            self.ops.extend([Op::Store(device + 0x30, number), Op::Store(device + 0x38, RING_SIZE.into())]);
            self.ops.extend(place(0x80, *queue));
            self.ops.extend(place(0x90, *queue + 0x1000));
            self.ops.extend(place(0xa0, *queue + 0x2000));
            self.ops.push_back(Op::Store(device + 0x44, 1));
        }
        self.ops.push_back(Op::Store(device + 0x70, 15));
    }

    pub(super) fn send(&mut self, to: usize, now: u64) {
        let slot = u64::from(self.sent % BUFFERS);
        let buffer = FRAMES + 0x800 * (u64::from(BUFFERS) + slot);
        let mut bytes = vec![0; HEADER as usize];
        bytes.extend(frame(to, self.guest, now));
        for (word, n) in bytes.chunks(8).zip(0..) {
            let mut whole = [0; 8];
            whole[..word.len()].copy_from_slice(word);
            self.write64(buffer + 8 * n, u64::from_le_bytes(whole));
        }
        self.write64(TRANSMIT + 16 * slot, buffer);
        self.write64(TRANSMIT + 16 * slot + 8, HEADER + FRAME);
        self.write16(TRANSMIT + 0x1004 + 2 * u64::from(self.sent % RING_SIZE), slot as u16);
        self.sent = self.sent.wrapping_add(1);
        self.write16(TRANSMIT + 0x1002, self.sent);
        self.frames_sent += 1;
    }

    pub(super) fn take_frames(&mut self, now: u64) {
        while self.received != read16(self.ram, RECEIVE + 0x2002) {
            let entry = RECEIVE + 0x2004 + 8 * u64::from(self.received % RING_SIZE);
            let id = read16(self.ram, entry);
            let at = FRAMES + 0x800 * u64::from(id) + HEADER;
            let bytes: Vec<u8> =
                (0..FRAME / 2).flat_map(|n| read16(self.ram, at + 2 * n).to_le_bytes()).collect();
            assert_eq!(bytes[..6], mac(self.guest), "a frame for somebody else");
            let sent_at = u64::from_le_bytes(bytes[14..22].try_into().unwrap());
            self.latest_frame = self.latest_frame.max(now - sent_at);
            self.frames_received += 1;
            let offered = self.received.wrapping_add(BUFFERS);
            self.received = self.received.wrapping_add(1);
            self.write16(RECEIVE + 0x1004 + 2 * u64::from(offered % RING_SIZE), id);
            self.write16(RECEIVE + 0x1002, offered.wrapping_add(1));
        }
    }

    pub(super) fn offer(&mut self, write: bool, sector: u64) {
        let slot = u64::from(self.offered % (RING_SIZE / 3));
        let (first, header) = (3 * slot, DATA + 0x1000 * slot);
        let flags = |n: u64| {
            if n == 1 {
                u64::from(!write) << 1 | 1
            } else if n == 0 {
                1
            } else {
                2
            }
        };
        self.write64(header, u64::from(write));
        self.write64(header + 8, sector);
        let parts = [(header, 16), (header + 0x400, REQUEST), (header + 16, 1)];
        for (n, (address, len)) in (0..).zip(parts) {
            let at = RING + 16 * (first + n);
            self.write64(at, address);
            self.write64(at + 8, u64::from(len) | flags(n) << 32 | (first + n + 1) << 48);
        }
        let place = RING + 0x1004 + 2 * u64::from(self.offered % RING_SIZE);
        self.write16(place, first as u16);
        self.offered = self.offered.wrapping_add(1);
        self.write16(RING + 0x1002, self.offered);
    }
}

/// The address of a guest's interface; of somebody outside, for a number that is none.
pub fn mac(guest: usize) -> [u8; 6] {
    [2, 0, 0, 0, 0, guest as u8]
}

/// A frame that says when it was sent.
pub fn frame(to: usize, from: usize, now: u64) -> Vec<u8> {
    let mut bytes = [&mac(to)[..], &mac(from), &[0x88, 0xb5], &now.to_le_bytes()].concat();
    bytes.resize(FRAME as usize, 0);
    bytes
}
