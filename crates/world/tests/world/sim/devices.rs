//! The host's devices: a line that takes bytes slowly or not at all, a disk that answers late, wrongly or never, a network
//! interface.

use std::collections::VecDeque;

use ::devices::virtio::block::Status;
use block::{Operation, OperationKind};
use world::port::{DiskDriver, InterruptController, NicDriver, Refused, TerminalLine};

use super::random::Random;
use super::{FREQUENCY, Shared};

/// The sources at the interrupt controller.
pub const LINE_SOURCE: u32 = 10;
pub const DISK_SOURCE: u32 = 1;
pub const NIC_SOURCE: u32 = 2;

/// Bytes that wait in the UART.
const FIFO: u64 = 15;

/// The line, as far as the machine knows it.
#[derive(Debug)]
pub struct LineState {
    /// Ticks that a byte takes; `u64::MAX` is a line that takes none.
    pub byte_time: u64,
    /// It interrupts; else it is a firmware's console.
    pub has_interrupts: bool,
    /// What has gone out.
    pub output: Vec<u8>,
    /// What the operator has typed.
    pub typed: VecDeque<u8>,
    busy_until: u64,
    wants: (bool, bool),
}

impl LineState {
    /// A line that takes a byte in so many ticks.
    pub fn new(byte_time: u64) -> Self {
        Self {
            byte_time,
            has_interrupts: true,
            output: Vec::new(),
            typed: VecDeque::new(),
            busy_until: 0,
            wants: (false, false),
        }
    }

    /// From now on it takes each byte at once.
    pub fn let_go(&mut self) {
        (self.byte_time, self.busy_until) = (0, 0);
    }

    fn is_empty(&self, now: u64) -> bool {
        self.byte_time != u64::MAX && now >= self.busy_until
    }

    fn takes(&self, now: u64) -> bool {
        self.byte_time != u64::MAX && self.busy_until <= now.saturating_add(FIFO * self.byte_time)
    }

    pub fn interrupts(&self, now: u64) -> bool {
        self.has_interrupts && (self.wants.0 && !self.typed.is_empty() || self.wants.1 && self.is_empty(now))
    }

    pub fn next_event(&self, now: u64) -> u64 {
        if self.has_interrupts && self.wants.1 && self.byte_time != u64::MAX {
            self.busy_until.max(now)
        } else {
            u64::MAX
        }
    }

    /// What was shown, as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.output).replace('\r', "")
    }
}

/// The line to the terminal.
#[derive(Debug)]
pub struct SimLine(pub Shared);

impl TerminalLine for SimLine {
    fn interrupts(&self) -> bool {
        self.0.borrow().line.has_interrupts
    }

    fn enable_interrupts(&self, receive: bool, transmit: bool) {
        self.0.borrow_mut().line.wants = (receive, transmit);
    }

    fn receive(&self) -> Option<u8> {
        self.0.borrow_mut().line.typed.pop_front()
    }

    fn send(&self, byte: u8) -> bool {
        let mut state = self.0.borrow_mut();
        // A test that has failed is not to hang in the end of the console.
        let now = if std::thread::panicking() { u64::MAX } else { state.now };
        let line = &mut state.line;
        let takes = line.takes(now) || std::thread::panicking();
        if takes {
            line.busy_until = line.busy_until.max(now).saturating_add(line.byte_time);
            line.output.push(byte);
        }
        takes
    }

    fn is_sending(&self) -> bool {
        false
    }
}

/// How the disk answers an operation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Answers {
    /// Within a millisecond.
    Soon,
    /// After up to a second.
    Late,
    /// Some of them wrongly.
    Wrongly,
    /// Not at all.
    Never,
}

/// The disk, as far as the machine knows it.
#[derive(Debug)]
pub struct DiskState {
    /// How it answers what is submitted from now on.
    pub answers: Answers,
    /// What is under way: when it is done, by which tag, how.
    pub under_way: Vec<(u64, u64, Status)>,
    /// Writes under way and writes done that no flush has covered.
    pub unsafe_writes: u64,
    /// Operations taken and given back.
    pub taken: u64,
    pub given_back: u64,
    /// Operations that it has room for.
    pub depth: usize,
}

impl DiskState {
    pub fn new() -> Self {
        Self {
            answers: Answers::Soon,
            under_way: Vec::new(),
            unsafe_writes: 0,
            taken: 0,
            given_back: 0,
            depth: 8,
        }
    }

    pub fn interrupts(&self, now: u64) -> bool {
        self.under_way.iter().any(|(done, ..)| *done <= now)
    }

    pub fn next_event(&self) -> u64 {
        self.under_way.iter().map(|(done, ..)| *done).min().unwrap_or(u64::MAX)
    }

    /// How many operations of a guest are under way. A flush of the hypervisor's is nobody's.
    pub fn of_guest(&self, guest: usize) -> usize {
        self.under_way.iter().filter(|(_, tag, _)| *tag != u64::MAX && (tag >> 32) as usize == guest).count()
    }

    fn answer(&self, now: u64, random: &mut Random) -> (u64, Status) {
        let soon = now + 1 + random.below(FREQUENCY / 1000);
        match self.answers {
            Answers::Soon => (soon, Status::Ok),
            Answers::Late => (now + 1 + random.below(FREQUENCY), Status::Ok),
            Answers::Wrongly if random.once_in(3) => (soon, Status::IoErr),
            Answers::Wrongly => (soon, Status::Ok),
            Answers::Never => (u64::MAX, Status::Ok),
        }
    }
}

/// The host's disk.
#[derive(Debug)]
pub struct SimDisk(pub Shared);

impl DiskDriver for SimDisk {
    fn has_room(&self) -> bool {
        let disk = &self.0.borrow().disk;
        disk.under_way.len() < disk.depth
    }

    fn submit(&mut self, tag: u64, operation: &Operation) -> Result<(), Refused> {
        let state = &mut *self.0.borrow_mut();
        if state.disk.under_way.len() >= state.disk.depth {
            return Err(Refused::Full);
        }
        let (done, status) = state.disk.answer(state.now, &mut state.random);
        match operation.kind {
            OperationKind::Write => state.disk.unsafe_writes += 1,
            OperationKind::Flush => state.disk.unsafe_writes = 0,
            _ => {}
        }
        state.disk.under_way.push((done, tag, status));
        state.disk.taken += 1;
        Ok(())
    }

    fn notify(&mut self) {}

    fn acknowledge_interrupt(&mut self) {}

    fn completed(&mut self) -> Option<(u64, Status)> {
        let state = &mut *self.0.borrow_mut();
        let index = state.disk.under_way.iter().position(|(done, ..)| *done <= state.now)?;
        let (_, tag, status) = state.disk.under_way.remove(index);
        state.disk.given_back += 1;
        Some((tag, status))
    }

    fn in_flight(&self) -> usize {
        self.0.borrow().disk.under_way.len()
    }
}

/// The interrupt controller.
#[derive(Debug)]
pub struct SimInterrupts(pub Shared);

impl InterruptController for SimInterrupts {
    fn claim(&self) -> Option<u32> {
        let state = &mut *self.0.borrow_mut();
        let source = if state.claimed != 0 {
            None
        } else if state.disk.interrupts(state.now) {
            Some(DISK_SOURCE)
        } else if state.nic.is_raised {
            Some(NIC_SOURCE)
        } else {
            state.line.interrupts(state.now).then_some(LINE_SOURCE)
        };
        state.claimed = source.unwrap_or(0);
        source
    }

    fn complete(&self, source: u32) {
        let mut state = self.0.borrow_mut();
        assert_eq!(state.claimed, source, "completed what was not claimed");
        state.claimed = 0;
    }
}

/// The network interface, as far as the machine knows it.
#[derive(Debug, Default)]
pub struct NicState {
    arrived: VecDeque<Vec<u8>>,
    /// It interrupts: once for all that has arrived until it is answered.
    pub is_raised: bool,
    /// Frames that it has sent.
    pub sent: u64,
}

impl NicState {
    /// A frame arrives.
    pub fn arrive(&mut self, frame: Vec<u8>) {
        self.arrived.push_back(frame);
        self.is_raised = true;
    }
}

/// The host's network interface.
#[derive(Debug)]
pub struct SimNic(pub Shared);

impl NicDriver for SimNic {
    fn send(&mut self, _: &[u8]) -> bool {
        self.0.borrow_mut().nic.sent += 1;
        true
    }

    fn notify(&mut self) {}

    fn receive<R>(&mut self, to: impl FnOnce(&[u8]) -> R) -> Option<R> {
        let frame = self.0.borrow_mut().nic.arrived.pop_front()?;
        Some(to(&frame))
    }

    fn acknowledge_interrupt(&mut self) {
        self.0.borrow_mut().nic.is_raised = false;
    }
}
