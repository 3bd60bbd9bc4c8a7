//! The operator's console: the multiplexer of `monitor` on the host's UART, with bounded queues that are drained and
//! filled by interrupt.
//!
//! Nothing here waits for the terminal while guests run. What it cannot take now waits in a queue, and what is sent at a time
//! is bounded (`BURST`): no guest is held up by what another has written, nor by what is said about it.
//!
//! Where the line is the firmware's console, which does not interrupt,
//! so the run loop looks after it now and then; nothing is read there.

use alloc::collections::VecDeque;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use monitor::{Command, Multiplexer, Reply, Screen, State, View};
use trace::Outbox;

use crate::port::{HartView, Platform, TerminalLine};

/// Bytes that wait to be sent.
const OUTPUT_LENGTH: usize = 16 << 10;
/// Those of them that guests may use. The rest is for the hypervisor's own lines: nobody else would repeat them, and a panic
/// must find them.
const OUTPUT_OF_GUESTS: usize = 12 << 10;
/// Bytes that wait for that queue before lines about guests are left out, and before all lines are.
const MANY_STAGED: usize = 8 << 10;
const MOST_STAGED: usize = 64 << 10;
/// Bytes that go straight to the UART when something else waits for it, too.
const DIRECT: usize = 256;
/// How long the line is written to before guests have their turn, and how long it then rests, in microseconds.
const BURST: u64 = 500;
/// How often the run loop has to look after a console that does not interrupt, in microseconds.
const LOOK: u64 = 4000;
/// Bytes typed ahead, before it is known for whom.
const INPUT: usize = 1 << 10;

/// What waits to be sent. Nothing unwinds after a panic, so it is where the epitaph finds it.
pub type Output = Outbox<OUTPUT_LENGTH>;

/// The line to the terminal.
struct Line<P: Platform> {
    wire: P::Line,
    view: P::View,
    output: &'static Output,
    /// Bytes that may still go straight to the UART.
    direct: usize,
    /// Bytes that may wait in `output`.
    room: usize,
}

impl<P: Platform> Screen for Line<P> {
    fn put(&mut self, byte: u8) -> bool {
        // The queue is for the time that the UART is busy.
        if let Some(direct) = self.direct.checked_sub(1)
            && self.output.is_empty()
            && self.wire.interrupts()
            && self.wire.send(byte)
        {
            self.direct = direct;
            return true;
        }
        self.output.len() < self.room && self.output.push(byte)
    }
}

impl<P: Platform> Line<P> {
    /// Sends what waits until the line is busy, or up to `end` in ticks; at least one byte if the line takes one.
    fn send(&self, end: u64) {
        while let Some(byte) = self.output.front() {
            if !self.wire.send(byte) {
                return;
            }
            self.output.pop();
            if self.view.now() >= end {
                return;
            }
        }
    }
}

/// The operator's console.
pub struct Console<P: Platform> {
    line: Line<P>,
    consoles: Multiplexer,
    typed: VecDeque<u8>,
    command: Option<Command>,
    /// What the UART was last asked to interrupt for: received bytes, room to send.
    interrupts: (bool, bool),
    /// Ticks of a microsecond, at least 1.
    microsecond: u64,
    /// Up to when nothing more is sent, in ticks, after a burst.
    rests_until: Option<u64>,
    /// The hypervisor's own lines for which there was no room.
    left_out: u64,
}

impl<P: Platform> Console<P> {
    /// A console on `wire`, for nobody yet, on a host with `frequency` ticks a second; what waits is in `output`, which is empty.
    pub fn new(wire: P::Line, view: P::View, output: &'static Output, frequency: u64) -> Self {
        let mut console = Self {
            line: Line { wire, view, output, direct: DIRECT, room: OUTPUT_OF_GUESTS },
            consoles: Multiplexer::new(Vec::new(), View::Guest),
            typed: VecDeque::with_capacity(INPUT),
            command: None,
            interrupts: (false, false),
            microsecond: frequency.div_ceil(1_000_000).max(1),
            rests_until: None,
            left_out: 0,
        };
        console.choose_interrupts();
        console
    }

    /// Tells who the guests are, and what is shown of them at first.
    pub fn set_guests(&mut self, names: Vec<String>, view: View) {
        self.consoles = Multiplexer::new(names, view);
    }

    /// Notes what a guest is doing.
    pub fn set_state(&mut self, guest: usize, state: State) {
        self.consoles.set_state(guest, state);
        self.go_on();
    }

    /// The guest that gets the typing.
    pub fn shown(&self) -> usize {
        self.consoles.shown()
    }

    /// Whether the operator is at the monitor's prompt.
    pub fn monitor_is_open(&self) -> bool {
        self.consoles.view() == View::Monitor
    }

    /// Opens the monitor.
    pub fn open_monitor(&mut self) {
        self.consoles.open_monitor();
        self.go_on();
    }

    /// Takes bytes of a guest's and says how many; the rest must be offered again.
    pub fn write(&mut self, guest: usize, bytes: &[u8]) -> usize {
        // It pays for what it sends itself, not for what others still have to send.
        self.line.direct = if self.consoles.is_behind() { 0 } else { usize::MAX };
        let before = self.line.direct;
        let taken = self.consoles.written(guest, bytes, &mut self.line);
        // Where all of it has gone to the UART, what waits is what waited before.
        if before.wrapping_sub(self.line.direct) != bytes.len() {
            self.choose_interrupts();
        }
        taken
    }

    /// Keeps bytes of a guest's that the operator has not seen.
    pub fn keep(&mut self, guest: usize, bytes: &[u8]) {
        self.consoles.keep(guest, bytes);
    }

    /// The next byte typed for this guest.
    pub fn read(&mut self, guest: usize) -> Option<u8> {
        let byte = self.consoles.read(guest);
        if byte.is_some() && !self.typed.is_empty() {
            self.take_typing();
            self.choose_interrupts();
        }
        byte
    }

    /// Serves the UART's interrupt.
    pub fn serve_interrupt(&mut self) {
        while self.typed.len() < INPUT {
            let Some(byte) = self.line.wire.receive() else { break };
            self.typed.push_back(byte);
        }
        self.go_on();
    }

    /// A command of the operator's, which has to be answered.
    pub fn take_command(&mut self) -> Option<Command> {
        self.command.take()
    }

    /// Answers it.
    pub fn answer(&mut self, reply: Reply) {
        self.consoles.answer(reply);
        self.go_on();
    }

    /// The hypervisor's own lines. They do not wait for the line; for what has no room, a count is shown later.
    pub fn say(&mut self, text: &str) {
        if self.consoles.staged() >= MOST_STAGED {
            self.left_out += text.lines().count() as u64;
            return;
        }
        self.stage_left_out();
        self.consoles.say(text);
        self.line.direct = if self.rests_until.is_some() { 0 } else { DIRECT };
        self.line.room = OUTPUT_LENGTH;
        self.consoles.pump_staged(&mut self.line);
        self.line.room = OUTPUT_OF_GUESTS;
        self.choose_interrupts();
    }

    /// Whether there is room for lines that can be left out.
    pub fn has_room(&self) -> bool {
        self.consoles.staged() < MANY_STAGED
    }

    fn stage_left_out(&mut self) {
        if self.left_out > 0 {
            let count = core::mem::take(&mut self.left_out);
            self.consoles.say(&format!("hypocaust: {count} lines left out\n"));
        }
    }

    /// When [`Self::serve_deadline`] has to be called, in ticks; `u64::MAX` is never.
    pub fn deadline(&self) -> u64 {
        self.rests_until.unwrap_or(u64::MAX)
    }

    /// The same while a guest runs, which may write.
    pub fn deadline_of_guests(&self, now: u64) -> u64 {
        match self.line.wire.interrupts() {
            true => u64::MAX,
            false => now.saturating_add(LOOK * self.microsecond),
        }
    }

    /// Sends more if the time for that has come; says whether there may be room again.
    pub fn serve_deadline(&mut self, now: u64) -> bool {
        let is_due = match self.rests_until {
            Some(until) => now >= until,
            None => !self.line.wire.interrupts() && self.has_output(),
        };
        if is_due {
            self.rests_until = None;
            self.go_on();
        }
        is_due
    }

    /// Waits until all output has gone, out of the UART, too: the machine may be powered off now, and no guest runs.
    pub fn flush(&mut self) {
        self.line.direct = usize::MAX;
        self.stage_left_out();
        while self.has_output() {
            self.line.send(u64::MAX);
            self.consoles.pump(&mut self.line);
        }
        while self.line.wire.is_sending() {}
    }

    fn has_output(&self) -> bool {
        !self.line.output.is_empty() || self.consoles.is_behind()
    }

    /// Moves on what waits: bytes to the terminal, and bytes typed to whom they are for, up to a command.
    fn go_on(&mut self) {
        self.take_typing();
        if self.rests_until.is_none() {
            let burst = BURST * self.microsecond;
            let end = self.line.view.now().saturating_add(burst);
            self.line.direct = DIRECT;
            self.line.send(end);
            self.consoles.pump(&mut self.line);
            let now = self.line.view.now();
            if self.has_output() && (now >= end || self.line.direct == 0 || !self.line.wire.interrupts()) {
                self.rests_until = Some(now.saturating_add(burst));
            }
        }
        self.choose_interrupts();
    }

    fn take_typing(&mut self) {
        while self.command.is_none() && self.consoles.accepts() {
            let Some(byte) = self.typed.pop_front() else { break };
            self.command = self.consoles.typed(byte);
        }
    }

    /// Asks for interrupts only where they have something to do.
    fn choose_interrupts(&mut self) {
        let wanted = (self.typed.len() < INPUT, self.rests_until.is_none() && self.has_output());
        if wanted != self.interrupts && self.line.wire.interrupts() {
            self.line.wire.enable_interrupts(wanted.0, wanted.1);
            self.interrupts = wanted;
        }
    }
}

/// Nothing that was shown is lost, however the console ends, and the terminal is as it was.
impl<P: Platform> Drop for Console<P> {
    fn drop(&mut self) {
        self.flush();
        self.consoles.give_back();
        self.flush();
    }
}
