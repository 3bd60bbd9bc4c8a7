//! The operator's console: the multiplexer of `monitor` on the host's UART, with bounded queues that are drained and
//! filled by interrupt.
//!
//! Where the host has no UART that we drive, the firmware's console is written directly and nothing is read.

use alloc::collections::VecDeque;
use alloc::string::String;
use alloc::vec::Vec;

use monitor::{Command, Multiplexer, Reply, Screen, State, View};
use trace::Outbox;

use crate::drivers::uart::Uart;

/// Bytes that wait to be sent: more than any burst of a guest's between two exits, for each byte costs it one.
const OUTPUT_LENGTH: usize = 16 << 10;
/// Bytes typed ahead, before it is known for whom.
const INPUT: usize = 1 << 10;

/// What waits to be sent. Nothing unwinds after a panic, so it is where the epitaph finds it.
static OUTPUT: Outbox<OUTPUT_LENGTH> = Outbox::new();

/// The line to the terminal.
#[derive(Debug)]
struct Line(Option<Uart>);

impl Screen for Line {
    fn put(&mut self, byte: u8) -> bool {
        let Some(uart) = &self.0 else {
            hart::firmware::console_putchar(byte);
            return true;
        };
        // The queue is for the time that the UART is busy.
        OUTPUT.is_empty() && uart.send(byte) || OUTPUT.push(byte)
    }
}

impl Line {
    fn send(&self) {
        let Some(uart) = &self.0 else { return };
        while let Some(byte) = OUTPUT.front() {
            if !uart.send(byte) {
                return;
            }
            OUTPUT.pop();
        }
    }
}

/// The operator's console.
#[derive(Debug)]
pub struct Console {
    line: Line,
    consoles: Multiplexer,
    typed: VecDeque<u8>,
    command: Option<Command>,
    /// What the UART was last asked to interrupt for: received bytes, room to send.
    interrupts: (bool, bool),
}

impl Console {
    /// A console on `uart`, for nobody yet.
    pub fn new(uart: Option<Uart>) -> Self {
        let mut console = Self {
            line: Line(uart),
            consoles: Multiplexer::new(Vec::new(), View::Guest),
            typed: VecDeque::with_capacity(INPUT),
            command: None,
            interrupts: (false, false),
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
        let taken = self.consoles.written(guest, bytes, &mut self.line);
        self.choose_interrupts();
        taken
    }

    /// The next byte typed for this guest.
    pub fn read(&mut self, guest: usize) -> Option<u8> {
        let byte = self.consoles.read(guest);
        if byte.is_some() && !self.typed.is_empty() {
            self.go_on();
        }
        byte
    }

    /// Serves the UART's interrupt.
    pub fn serve_interrupt(&mut self) {
        if let Some(uart) = &self.line.0 {
            while self.typed.len() < INPUT {
                let Some(byte) = uart.receive() else { break };
                self.typed.push_back(byte);
            }
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

    /// The hypervisor's own lines. They wait for room: nobody else would repeat them, and a panic must find them.
    pub fn say(&mut self, text: &str) {
        self.consoles.say(text);
        while !self.consoles.pump_staged(&mut self.line) {
            self.line.send();
        }
        self.choose_interrupts();
    }

    /// Waits until all output has gone, out of the UART, too: the machine may be powered off now.
    pub fn flush(&mut self) {
        while !OUTPUT.is_empty() || self.consoles.is_behind() {
            self.line.send();
            self.consoles.pump(&mut self.line);
        }
        while self.line.0.as_ref().is_some_and(Uart::is_sending) {}
    }

    /// Moves on what waits: bytes to the terminal, and bytes typed to whom they are for, up to a command.
    fn go_on(&mut self) {
        while self.command.is_none() && self.consoles.accepts() {
            let Some(byte) = self.typed.pop_front() else { break };
            self.command = self.consoles.typed(byte);
        }
        self.line.send();
        self.consoles.pump(&mut self.line);
        self.choose_interrupts();
    }

    /// Asks for interrupts only where they have something to do.
    fn choose_interrupts(&mut self) {
        let wanted = (self.typed.len() < INPUT, !OUTPUT.is_empty() || self.consoles.is_behind());
        if wanted != self.interrupts
            && let Some(uart) = &self.line.0
        {
            uart.enable_interrupts(wanted.0, wanted.1);
            self.interrupts = wanted;
        }
    }
}

/// Sends what waits to be sent through the firmware's console. For the epitaph: the console is in unknown hands then.
pub fn send_rest() {
    while let Some(byte) = OUTPUT.pop() {
        hart::firmware::console_putchar(byte);
    }
}

/// Nothing that was shown is lost, however the console ends, and the terminal is as it was.
impl Drop for Console {
    fn drop(&mut self) {
        self.flush();
        self.consoles.give_back();
        self.flush();
    }
}
