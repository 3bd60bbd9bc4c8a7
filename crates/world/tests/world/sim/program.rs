//! What a guest executes: operations, each of which takes some ticks and may trap. They are chosen when a life begins.

mod drivers;

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};

use isa::{Exception, Reg, TrapInfo};
use vhart::VcpuFrame;
use vmm::StopReason;

use super::random::Random;
use drivers::{BUFFERS, CLAIM, DISK_IRQ, NET, NET_IRQ, RING, RING_SIZE, TRANSMIT, VIRTIO};
pub use drivers::{frame, mac};

/// Where a guest's RAM begins.
pub const RAM: u64 = 0x8000_0000;
/// Its first instruction.
pub const ENTRY: u64 = RAM + 0x1000;
/// Where it is while it computes.
const ELSEWHERE: u64 = RAM + 0x1800;
/// Its trap handler.
const HANDLER: u64 = RAM + 0x1900;
/// The instructions that trap, by their places.
const STORE: u64 = RAM + 0x1100;
const LOAD: u64 = RAM + 0x1108;
const ECALL: u64 = RAM + 0x1110;
const WFI: u64 = RAM + 0x1118;
const CSRW_SIE: u64 = RAM + 0x1120;
const CSRW_STVEC: u64 = RAM + 0x1128;
const UNIMP: u64 = RAM + 0x1130;

/// The guest's kernel: an instruction in every other word, from `STORE` on.
pub const KERNEL: [u64; 7] =
    [0x00b5_2023, 0x0005_2583, 0x0000_0073, 0x1050_0073, 0x1045_1073, 0x1055_1073, 0xc000_1073];
/// Where it lies.
pub const KERNEL_AT: u64 = STORE;

const FINISHER: u64 = 0x10_0000;

/// How a life ends by itself.
pub type End = StopReason;

/// An operation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Op {
    /// So many ticks without a trap.
    Compute(u64),
    /// A character through the SBI.
    Put(u8),
    /// The text that says which life this is has gone out.
    NoteText,
    /// A store to a device.
    Store(u64, u32),
    /// A load from a device.
    Load(u64),
    /// The timer is set to so many ticks from now; `u64::MAX` is never.
    SetTimer(u64),
    /// It waits for an interrupt.
    Wait,
    /// It woke up for its timer: how late?
    NoteWake,
    /// sie.
    Interrupts(u64),
    /// stvec.
    Handler,
    /// An instruction that does not exist.
    Illegal,
    /// A call of the SBI that does not exist.
    NoSuchCall,
    /// An interrupt to itself.
    Ipi,
    /// A request for the disk.
    Request { write: bool, sector: u64 },
    /// Waits until all requests are done.
    Requests,
    /// A frame to a guest, or to somebody outside.
    Send(usize),
    /// Takes the frames that have come.
    TakeFrames,
    /// It ends.
    End(End),
}

/// A guest's program, and what is known of its lives.
#[derive(Debug)]
pub struct Program {
    /// Its number.
    pub guest: usize,
    ram: &'static [AtomicU64],
    /// How each life goes.
    pub plan: fn(&mut Program, &mut Random),
    /// What it does next.
    pub ops: VecDeque<Op>,
    /// What it does when there is nothing more.
    pub forever: Vec<Op>,
    current: Option<Op>,
    /// It has trapped, and goes on here once that is served.
    trapped: Option<u64>,
    /// It does not compute for ever.
    pub is_quiet: bool,
    /// A model follows it, and says whether it may run.
    pub is_followed: bool,
    /// Whether it may run, as the model knows it.
    pub may_run: bool,
    /// It must begin a new life when it runs next.
    pub must_begin: bool,
    /// It must not begin a life before that.
    pub not_before: u64,
    /// How often it began.
    pub lives: u64,
    /// When it began last.
    pub began_at: u64,
    /// How its lives ended by themselves, and when.
    pub ends: Vec<(u64, End)>,
    /// Texts that have gone out whole.
    pub texts: Vec<String>,
    /// The latest that it woke up for its timer, in ticks.
    pub latest: u64,
    /// How often it did.
    pub wakes: u64,
    /// Ticks that it executed.
    pub executed: u64,
    /// Requests that ended, by status.
    pub requests_done: u64,
    /// Frames that it has sent.
    pub frames_sent: u64,
    /// Frames that it has received.
    pub frames_received: u64,
    /// The longest that one was on its way, in ticks.
    pub latest_frame: u64,
    sent: u16,
    received: u16,
    wakes_at: u64,
    offered: u16,
    taken: u16,
}

/// A vCPU on its way into a trap.
struct Going<'a> {
    frame: &'a mut VcpuFrame,
    trapped: &'a mut Option<u64>,
}

impl Going<'_> {
    /// a0 and a1.
    fn set(&mut self, a0: u64, a1: u64) {
        self.frame.set(Reg::new(10), a0);
        self.frame.set(Reg::new(11), a1);
    }

    /// A trap at `pc`; once it is served, the guest is at `after`.
    fn trap(&mut self, pc: u64, after: u64, exception: Exception, value: u64) -> Option<TrapInfo> {
        self.frame.pc = pc;
        *self.trapped = Some(after);
        Some(TrapInfo { cause: exception.code(), value })
    }

    /// A call of the SBI.
    fn call(&mut self, extension: u64, function: u64, [a0, a1]: [u64; 2]) -> Option<TrapInfo> {
        self.set(a0, a1);
        for (reg, value) in [(17, extension), (16, function), (12, 0)] {
            self.frame.set(Reg::new(reg), value);
        }
        self.trap(ECALL, ECALL + 4, Exception::EcallFromUser, 0)
    }
}

/// The instruction at a place of the kernel.
fn instruction(pc: u64) -> u64 {
    KERNEL[((pc - KERNEL_AT) / 8) as usize]
}

impl Program {
    /// A program that was never started.
    pub fn new(guest: usize, ram: &'static [AtomicU64], plan: fn(&mut Program, &mut Random)) -> Self {
        Self {
            guest,
            ram,
            plan,
            ops: VecDeque::new(),
            forever: Vec::new(),
            current: None,
            trapped: None,
            is_quiet: false,
            is_followed: false,
            may_run: false,
            must_begin: true,
            not_before: 0,
            lives: 0,
            began_at: 0,
            ends: Vec::new(),
            texts: Vec::new(),
            latest: 0,
            wakes: 0,
            executed: 0,
            requests_done: 0,
            frames_sent: 0,
            frames_received: 0,
            latest_frame: 0,
            sent: 0,
            received: 0,
            wakes_at: u64::MAX,
            offered: 0,
            taken: 0,
        }
    }

    /// The text that this life writes.
    pub fn text(&self) -> String {
        format!("<g{}.{}>", self.guest, self.lives)
    }

    /// Writes its text.
    pub fn say(&mut self) {
        let text = self.text();
        self.ops.extend(text.bytes().map(Op::Put));
        self.ops.push_back(Op::Put(b'\n'));
        self.ops.push_back(Op::NoteText);
    }

    fn begin(&mut self, now: u64, random: &mut Random) {
        self.lives += 1;
        self.began_at = now;
        self.ops.clear();
        self.forever.clear();
        (self.current, self.trapped) = (None, None);
        (self.offered, self.taken) = (0, 0);
        self.ops.extend([Op::Handler, Op::Interrupts(1 << 9 | 1 << 5 | 1 << 1)]);
        (self.plan)(self, random);
    }

    /// Executes from `now` on, up to `until`; gives the trap that ended it, if one did.
    pub fn run(
        &mut self,
        frame: &mut VcpuFrame,
        now: &mut u64,
        until: u64,
        random: &mut Random,
        faults: &mut Vec<String>,
    ) -> Option<TrapInfo> {
        if self.is_followed && !self.may_run {
            faults.push(format!("{now}: guest {} runs, and must not", self.guest));
        }
        if frame.pc == ENTRY {
            if self.is_followed && !(self.must_begin && *now >= self.not_before) {
                faults.push(format!("{now}: guest {} begins a life that nobody asked for", self.guest));
            }
            self.begin(*now, random);
            self.must_begin = false;
            frame.pc = ELSEWHERE;
        } else if self.is_followed && self.must_begin {
            faults.push(format!("{now}: guest {} goes on with a life that has ended", self.guest));
            self.must_begin = false;
        }
        loop {
            if let Some(after) = self.trapped.take()
                && frame.pc == after
            {
                self.done(*now);
            }
            let op = match self.current {
                Some(op) => op,
                None => self.next(),
            };
            self.current = Some(op);
            if let Op::Compute(left) = op {
                let ticks = left.min(until.saturating_sub(*now));
                *now += ticks;
                self.executed += ticks;
                self.current = (left > ticks).then_some(Op::Compute(left - ticks));
                if *now >= until {
                    return None;
                }
                continue;
            }
            // Whatever else it does takes a moment.
            let ticks = 1 + random.below(20);
            *now += ticks;
            self.executed += ticks;
            if let Some(trap) = self.trap(op, frame, *now) {
                return Some(trap);
            }
            if *now >= until {
                return None;
            }
        }
    }

    fn next(&mut self) -> Op {
        if self.ops.is_empty() {
            self.ops.extend(self.forever.iter().copied());
        }
        self.ops.pop_front().unwrap_or(Op::Compute(10_000))
    }

    /// What was to be done is done.
    fn done(&mut self, _: u64) {
        match self.current {
            // It looks again.
            Some(Op::Requests) => {}
            _ => self.current = None,
        }
    }

    /// Carries an operation out, up to its trap.
    fn trap(&mut self, op: Op, frame: &mut VcpuFrame, now: u64) -> Option<TrapInfo> {
        let illegal = |at: &mut Going, pc: u64, after: u64| {
            at.trap(pc, after, Exception::IllegalInstruction, instruction(pc))
        };
        let mut at = Going { frame, trapped: &mut self.trapped };
        match op {
            Op::Compute(_) => None,
            Op::Put(byte) => at.call(0x4442_434e, 2, [byte.into(), 0]),
            Op::SetTimer(ticks) => {
                self.wakes_at = now.saturating_add(ticks);
                at.call(0x5449_4d45, 0, [self.wakes_at, 0])
            }
            Op::NoSuchCall => at.call(0x0bad_0bad, 0, [0, 0]),
            Op::Ipi => at.call(0x73_5049, 0, [1, 0]),
            Op::End(end) => {
                self.ends.push((now, end));
                (self.may_run, self.must_begin) = (false, true);
                match end {
                    StopReason::PowerOff => at.call(0x5352_5354, 0, [0, 0]),
                    StopReason::Reset => at.call(0x5352_5354, 0, [1, 0]),
                    StopReason::Fatal(_) => at.call(0x48_534d, 1, [0, 0]),
                    StopReason::Failed(code) => {
                        at.set(FINISHER, u64::from(code) << 16 | 0x3333);
                        at.trap(STORE, STORE + 4, Exception::StorePageFault, FINISHER)
                    }
                }
            }
            Op::Store(address, value) => {
                at.set(address, value.into());
                at.trap(STORE, STORE + 4, Exception::StorePageFault, address)
            }
            Op::Load(address) => {
                at.set(address, 0);
                at.trap(LOAD, LOAD + 4, Exception::LoadPageFault, address)
            }
            Op::Wait => illegal(&mut at, WFI, WFI + 4),
            Op::Interrupts(bits) => {
                at.set(bits, 0);
                illegal(&mut at, CSRW_SIE, CSRW_SIE + 4)
            }
            Op::Handler => {
                at.set(HANDLER, 0);
                illegal(&mut at, CSRW_STVEC, CSRW_STVEC + 4)
            }
            Op::Illegal => illegal(&mut at, UNIMP, HANDLER),
            Op::NoteText => {
                let text = self.text();
                self.texts.push(text);
                self.current = None;
                None
            }
            Op::NoteWake => {
                if now >= self.wakes_at {
                    self.latest = self.latest.max(now - self.wakes_at);
                    self.wakes += 1;
                }
                self.current = None;
                None
            }
            Op::Send(to) => {
                self.current = None;
                if self.sent.wrapping_sub(read16(self.ram, TRANSMIT + 0x2002)) < BUFFERS {
                    self.send(to, now);
                    self.current = Some(Op::Store(NET + 0x50, 1));
                }
                None
            }
            Op::TakeFrames => {
                self.take_frames(now);
                self.current = Some(Op::Store(NET + 0x64, 3));
                self.ops.push_front(Op::Store(CLAIM, NET_IRQ as u32));
                self.ops.push_front(Op::Load(CLAIM));
                None
            }
            Op::Request { write, sector } => {
                if self.offered.wrapping_sub(self.taken) >= RING_SIZE / 3 {
                    // No room in the ring: it waits for some.
                    self.ops.push_front(op);
                    self.current = Some(Op::Requests);
                    return None;
                }
                self.offer(write, sector);
                self.current = Some(Op::Store(VIRTIO + 0x50, 0));
                None
            }
            Op::Requests => {
                let used = read16(self.ram, RING + 0x2002);
                self.requests_done += u64::from(used.wrapping_sub(self.taken));
                let more = used != self.taken;
                self.taken = used;
                if more || self.taken == self.offered {
                    // Answers the interrupt.
                    self.current = None;
                    let mut again =
                        vec![Op::Store(VIRTIO + 0x64, 3), Op::Load(CLAIM), Op::Store(CLAIM, DISK_IRQ as u32)];
                    if self.taken != self.offered {
                        again.push(Op::Requests);
                    }
                    again.into_iter().rev().for_each(|op| self.ops.push_front(op));
                    None
                } else {
                    illegal(&mut at, WFI, WFI + 4)
                }
            }
        }
    }

    fn word(&self, address: u64) -> &AtomicU64 {
        &self.ram[((address - RAM) / 8) as usize]
    }

    fn write64(&self, address: u64, value: u64) {
        self.word(address).store(value, Ordering::Release);
    }

    fn write16(&self, address: u64, value: u16) {
        let shift = address % 8 * 8;
        let word = self.word(address);
        let others = word.load(Ordering::Acquire) & !(0xffff << shift);
        word.store(others | u64::from(value) << shift, Ordering::Release);
    }
}

fn read16(ram: &[AtomicU64], address: u64) -> u16 {
    (ram[((address - RAM) / 8) as usize].load(Ordering::Acquire) >> (address % 8 * 8)) as u16
}
